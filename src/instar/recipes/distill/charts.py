"""The charts and pictures of both pages. They draw lists of `details`; a picture's pixels are read by its id."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from instar.data import Dataset
from instar.distillation.sensitivity import SETTINGS
from instar.reports import Bars, Images, Lines, Picture, Section, Share, Table, Text

Row = dict[str, Any]


def training_curves(rows: Sequence[Row], num_seeds: int) -> Section:
    """Validation errors after each epoch."""
    caption = (
        f"Errors on validation after each epoch, mean over {num_seeds} seeds; the band is one sd to each side."
    )
    return _without_first_epochs("Training", rows, caption, series="network", low="low", high="high")


def first_pair_curves(rows: Sequence[Row]) -> Section:
    """The same of one pair on a fraction of the examples: with labels alone the errors rise again."""
    caption = f"The first pair, {rows[0]['percent']} % of the images; hard targets are labels."
    return _without_first_epochs("Peak and fall", rows, caption, series="network")


def _without_first_epochs(title: str, rows: Sequence[Row], caption: str, **fields: Any) -> Section:
    """Validation errors by epoch, without those so high that the rest would be squeezed into a line."""
    ceiling = 3 * min(row["errors"] for row in rows)
    shown = [row for row in rows if row["errors"] <= ceiling] or rows
    if len(shown) < len(rows):
        caption += f" Epochs with more than {ceiling:.0f} are left out."
    return Lines(title, shown, x="epoch", y="errors", y_title="validation errors", caption=caption, **fields)


def errors_by_class(details: Row, is_corrected: bool) -> Section:
    """Test errors of each class, before and after a correction too."""
    caption = "Test errors by true class, mean over seeds."
    if is_corrected:
        bias = ", ".join(f"{name}: {value:+.2f}" for name, value in details["class_bias"].items())
        caption += (
            f" The transfer set lacks {', '.join(details['transfer']['missing_classes'])}. The correction adds to "
            f"the logits the bias with the fewest validation errors ({bias}). Folded into the last layer, it "
            "costs nothing in use."
        )
    rows = details["errors_by_class"]
    return Bars("Errors by class", rows, category="class", value="errors", series="network", caption=caption)


def calibration(rows: Sequence[Row]) -> Section:
    """Accuracy against confidence."""
    caption = (
        "Tenths of the test examples by confidence, and how often the prediction was right. On the line, they "
        "are equal."
    )
    axes: Row = {"x": "confidence", "y": "accuracy", "series": "network", "points": True, "diagonal": True}
    return Lines("Calibration", rows, **axes, caption=caption)


def sensitivities(found: Sequence[Row]) -> list[Section]:
    """A chart for each setting that had several values: validation errors at each, and whether it matters."""
    return [_sensitivity(one) for one in found]


def _sensitivity(found: Row) -> Section:
    name = SETTINGS[found["setting"]]
    caption = f"Each {name} at its best other settings; mean and 95 % interval over the tuning seeds."
    if found["setting"] == "learning_rate":
        caption += " The student alone has the same learning rates to choose from as the distilled one."
    caption = f"{found['sentence']} {caption}".strip()
    levels = [{**level, "value": float(level["value"])} for level in found["levels"]]
    finite = [level for level in levels if math.isfinite(level["value"])]
    if len(finite) < len(levels):  # no place on the axis
        errors = next(level["errors"] for level in levels if level not in finite)
        caption += f" At infinity, which matches logits: {errors:.1f}."
    axes: Row = {"x": "value", "x_title": name, "log_x": min(level["value"] for level in finite) > 0}
    axes |= {"y": "errors", "y_title": "validation errors", "low": "low", "high": "high"}
    return Lines(name.capitalize(), finite, **axes, series="network", points=True, caption=caption)


def disagreements(found: Row, test: Dataset) -> list[Section]:
    """Examples on which the first distilled student and the teacher differ."""
    title = "Where teacher and student disagree"
    if not found["examples"]:
        return [Text("Teacher and student agree on every test example.", title=title)]
    words = ["{label}: teacher {teacher}, student {student}".format(**example) for example in found["examples"]]
    caption = f"{found['count']} test examples; true class first. The {len(words)} where the student is surest."
    return _pictures(title, test, found["examples"], words, [()] * len(words), caption)


def dark_knowledge(found: Row, test: Dataset) -> list[Section]:
    """Which wrong classes the teacher finds similar, on examples that it classifies correctly."""
    title = "Dark knowledge"
    if not found["examples"]:
        return [Text("The teacher classifies no test example of the first classes correctly.", title=title)]
    shares = [
        [Share(name, value, highlight=name == example["label"]) for name, value in example["shares"].items()]
        for example in found["examples"]
    ]
    caption = (
        f"The teacher's soft targets at T = {found['temperature']:g} for test examples that it classifies "
        "correctly. Beside the true class they show which wrong classes are similar; a label does not."
    )
    words = [example["label"] for example in found["examples"]]
    return _pictures(title, test, found["examples"], words, shares, caption)


def _pictures(
    title: str,
    test: Dataset,
    examples: Sequence[Row],
    words: Sequence[str],
    shares: Sequence[Sequence[Share]],
    caption: str,
) -> list[Section]:
    """Examples as pictures; as a table where they are none."""
    inputs = test.gather(torch.tensor([example["id"] for example in examples]), 0)
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        table = [
            {"example": word, **{share.name: share.value for share in bars}}
            for word, bars in zip(words, shares, strict=True)
        ]
        return [Table(title, table, caption=caption)]
    low = inputs.amin(dim=(0, 2, 3), keepdim=True)
    high = inputs.amax(dim=(0, 2, 3), keepdim=True)
    pixels = ((inputs - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(0, 2, 3, 1).numpy()
    items = [
        Picture(np.ascontiguousarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture), word, bars)
        for picture, word, bars in zip(pixels, words, shares, strict=True)
    ]
    return [Images(title, items, caption=caption)]
