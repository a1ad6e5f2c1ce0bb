"""The figures of the page of `instar specialists`; they draw what the result holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.data import Dataset
from instar.recipes.pictures import Pixels, example_pictures, pixels_of
from instar.recipes.specialists.plan import GENERALIST
from instar.reports import Bars, Images, Lines, Picture, Section, Share, Table, Text

Result = Mapping[str, Any]

_CELL, _MIN_SIDE = 6, 240  # pixels of a class in the matrix of errors, and of its side
_FRAME, _EMPTY = 200, 255  # grey around the matrix, and between pictures


def gain_figure(result: Result) -> Section:
    """Each row minus the generalist."""
    return Bars(
        "Minus the generalist",
        [one for one in result["differences"] if one["minus"] == GENERALIST],
        category="name",
        value="mean",
        low="low",
        high="high",
        value_title="points of accuracy on test",
        caption="Paired by generalist, with 95 % intervals over generalists.",
    )


def cost_figure(result: Result) -> Section:
    """Accuracy against the cost of an example."""
    base = result["rows"][0]["inference_cost"]
    rows = [
        {"network": row["name"], "cost": row["inference_cost"] / base, "accuracy": row["mean"]}
        for row in result["rows"]
    ]
    return Lines(
        "Accuracy against inference cost",
        rows,
        x="cost",
        y="accuracy",
        series="network",
        points=True,
        x_title="multiplications per example, generalist = 1",
        y_title="% on test",
        caption="Up and to the left is better. Only active specialists are computed. The generalist takes "
        f"{base:,} multiplications per example.",
    )


def coverage_figure(result: Result) -> Section:
    """The paper's table 4 as bars."""
    rows = [
        {
            "covering": f"{row['num_specialists']} ({row['examples']:,.0f} examples)",
            "relative": row["relative_change"],
        }
        for row in result["details"]["by_coverage"]
    ]
    return Bars(
        "Gain by how many specialists cover the class",
        rows,
        category="covering",
        value="relative",
        category_title="specialists that cover the true class",
        value_title="change in right answers, %",
        caption="The paper's table 4: by the number of specialists that cover the true class of an example. In "
        "the paper the gain rises from +3.4 % with one specialist to +14 % with ten.",
    )


def class_set_pictures(result: Result, train: Dataset) -> list[Section]:
    """The class sets of the first generalist, as the paper's table 2, and a picture of each class."""
    sets, total = result["details"]["first"]["class_sets"], result["details"]["num_sets"][0]
    rows = []
    for number, class_set in enumerate(sets, 1):
        more = ", ..." if class_set["size"] > len(class_set["names"]) else ""
        rows.append({"set": f"{number}, of {class_set['size']}", "classes": ", ".join(class_set["names"]) + more})
    shown = f" The first {len(sets)} of {total}." if total > len(sets) else ""
    caption = (
        "The classes that the first generalist confuses: clusters of the columns of the covariance of its "
        f"predictions. No labels were used.{shown}"
    )
    sections: list[Section] = [Table("Class sets", rows, caption=caption)]
    items = []
    for number, class_set in enumerate(sets, 1):
        pictures = pixels_of(train, class_set["pictures"])
        if pictures is None:
            return sections
        names = ", ".join(class_set["names"][:3]) + (", ..." if class_set["size"] > 3 else "")
        items.append(Picture(_grid(pictures), f"set {number}: {names}"))
    return [*sections, Images("A picture of each class", items, wide=True)]


def _grid(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures in about as many rows as columns."""
    columns = math.ceil(math.sqrt(len(pictures)))
    edges = [(1, 1), (1, 1), *[(0, 0)] * (pictures[0].ndim - 2)]
    framed = [np.pad(picture, edges, constant_values=_EMPTY) for picture in pictures]
    framed += [np.full_like(framed[0], _EMPTY)] * (-len(pictures) % columns)
    rows = [np.concatenate(framed[start : start + columns], 1) for start in range(0, len(framed), columns)]
    return np.concatenate(rows, 0)


def error_pictures(result: Result) -> Section:
    """The errors of the first generalist by true and predicted class, alone and with its specialists."""
    errors, title = result["details"]["first"]["errors"], "Which class is predicted as which"
    parts = [errors[name] for name in ("before", "after")]
    if not any(part["errors"] for part in parts):
        return Text("Neither the generalist nor its specialists make an error.", title=title)
    num_classes = len(errors["classes"])
    matrices = np.zeros((2, num_classes**2))
    for matrix, part in zip(matrices, parts, strict=True):
        matrix[part["cells"]] = part["counts"]
    shares = np.sqrt(matrices / max(1, matrices.max())).reshape(2, num_classes, num_classes)
    items = [
        Picture(_matrix(share), f"{name}: {part['errors']} errors")
        for name, share, part in zip(("before", "after"), shares, parts, strict=True)
    ]
    caption = (
        "Test errors of the first generalist, alone and with its specialists: a row is a true class, a column the "
        f"predicted class, darker is more. {num_classes} classes, those of a set next to each other; right "
        "answers are left out."
    )
    return Images(title, items, caption=caption, wide=True)


def _matrix(shares: NDArray[np.float64]) -> Pixels:
    cell = max(_CELL, _MIN_SIDE // len(shares))
    grey = np.round(255 * (1 - shares)).astype(np.uint8)
    return np.pad(grey.repeat(cell, 0).repeat(cell, 1), 1, constant_values=_FRAME)


def answer_pictures(result: Result, test: Dataset) -> Section:
    """Examples that specialists corrected, and one that they broke, with the most probable classes."""
    answers, title = result["details"]["first"]["answers"], "Generalist, specialist and combination"
    examples = answers["examples"]
    if not examples:
        return Text("The specialists change no answer of the first generalist on test.", title=title)
    words = [
        f"{example['class']} ({example['outcome']}); active specialists: {example['active']}"
        for example in examples
    ]
    shares = [
        [
            Share(f"{who}: {name}", min(1.0, value), highlight=name == example["class"])
            for who in ("generalist", "specialist", "combined")
            for name, value in example[who].items()
        ]
        for example in examples
    ]
    caption = (
        f"Specialists corrected {answers['corrected']} and broke {answers['broke']} test answers of the first "
        "generalist. The true class is marked. Of several active specialists the first is shown."
    )
    return example_pictures(title, test, [one["id"] for one in examples], words, shares, caption, wide=True)
