"""The charts of the page of `instar specialists`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.recipes.fitting import load_splits
from instar.recipes.specialists.plan import GENERALIST, WITH, Plan
from instar.recipes.specialists.scoring import Trial
from instar.reports import Bars, Images, Lines, Picture, Section, Text
from instar.specialists import ClassSet

_CELL = 6  # pixels of a class in the matrix of confusion
_MOST_CELLS = 160
_FRAME = 200


def difference_figure(result: Mapping[str, Any]) -> list[Section]:
    """What each row adds to the generalist."""
    rows = [row for row in result["rows"] if row["name"] != GENERALIST]
    return [
        Bars(
            "Minus the generalist",
            rows,
            category="name",
            value="difference",
            low="difference_low",
            high="difference_high",
            value_title="points of accuracy on test",
            caption="Paired by generalist, 95 % intervals over generalists.",
        )
    ]


def cost_figure(result: Mapping[str, Any]) -> list[Section]:
    """Accuracy against what an example costs in use."""
    base = next(row for row in result["rows"] if row["name"] == GENERALIST)["inference_cost"]
    rows = [
        {"network": row["name"], "cost": row["inference_cost"] / base, "accuracy": row["mean"]}
        for row in result["rows"]
    ]
    return [
        Lines(
            "Accuracy against inference cost",
            rows,
            x="cost",
            y="accuracy",
            series="network",
            points=True,
            x_title="multiplications for an example, generalist = 1",
            y_title="% on test",
            caption="Up and to the left is better. Only active specialists are computed.",
        )
    ]


def coverage_figure(result: Mapping[str, Any]) -> list[Section]:
    """The paper's table 4 as bars."""
    rows = [
        {
            "covering": f"{row['num_specialists']} ({row['examples']:,.0f} examples)",
            "relative": row["relative_change"],
            "change": row["change"],
        }
        for row in result["by_coverage"]
    ]
    caption = (
        f"The paper's table 4: how many specialists cover an example's true class. {_counts(result)} There the "
        "gain rises with their number, from +3.4 % with one to +14 % with ten."
    )
    return [
        Bars(
            "Gain by how many specialists cover the class",
            rows,
            category="covering",
            value="relative",
            category_title="specialists that cover the true class",
            value_title="change of right answers, %",
            caption=caption,
        )
    ]


def _counts(result: Mapping[str, Any]) -> str:
    words = [f"{row['num_specialists']}: {row['change']:+.1f}" for row in result["by_coverage"]]
    return f"Right answers more, of a generalist's test examples: {', '.join(words)}."


def confusion_pictures(plan: Plan, trial: Trial) -> list[Section]:
    """The matrix of confusion before and after, its classes in the order of the class sets."""
    num_classes = len(load_splits(plan.config.data).class_names)
    before, after = (_confusion(trial, row, num_classes) for row in (GENERALIST, WITH))
    order = class_order(trial.class_sets[0], num_classes)
    errors = [matrix.clone().fill_diagonal_(0) for matrix in (before, after)]
    title = "Who is taken for whom"
    if num_classes > _MOST_CELLS:
        order = order[:_MOST_CELLS]
    biggest = max(float(matrix[order][:, order].max()) for matrix in errors)
    if biggest == 0:
        return [Text("Neither the generalist nor its specialists make an error.", title=title)]
    totals = [int(matrix.sum()) for matrix in errors]
    words = [f"{name}: {total} errors" for name, total in zip(("before", "after"), totals, strict=True)]
    items = [
        Picture(_pixels(matrix[order][:, order] / biggest), word)
        for matrix, word in zip(errors, words, strict=True)
    ]
    shown = f", the first {len(order)}" if len(order) < num_classes else ""
    caption = (
        "Errors on test of the first generalist, alone and with its specialists: a row is a true class, a "
        "column what it is taken for, darker is more. "
        f"Classes of a set stand together{shown}; right answers are left out."
    )
    return [Images(title, items, caption=caption, wide=True)]


def class_order(class_sets: list[ClassSet], num_classes: int) -> list[int]:
    """Classes of a set after each other, then those of none."""
    known = dict.fromkeys(number for one in class_sets for number in one.classes)
    return [*known, *(number for number in range(num_classes) if number not in known)]


def _confusion(trial: Trial, row: str, num_classes: int) -> Tensor:
    places = trial.labels * num_classes + trial.probs[row][0].argmax(1)
    return places.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


def _pixels(shares: Tensor) -> Any:
    cell = max(_CELL, 240 // len(shares))
    grey = (255 * (1 - shares.sqrt())).round().to(torch.uint8)
    large = grey.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    return np.pad(large.numpy(), 1, constant_values=_FRAME)
