"""What the pages draw beside the rows: `details` of `result.json`, in plain numbers, names and ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.data import Dataset
from instar.distillation.sensitivity import SETTINGS, levels_of, sensitivity
from instar.losses import ensemble_soft_targets
from instar.recipes.distill.scoring import wrong_of
from instar.runs import Run

NUM_PICTURES = 8
_MOST_TEMPERATURE = 20.0  # for soft targets that people look at: at infinity all classes are alike
Row = dict[str, Any]


def training_curve(network: str, fits: Sequence[Path]) -> list[Row]:
    """Validation errors after each epoch, mean over fits; `low` to `high` is one sd to each side."""
    rows = []
    for lines in zip(*(Run.read(fit).result()["rows"] for fit in fits), strict=False):
        errors = metrics.over_seeds([line["validation_errors"] for line in lines])
        low, high = errors.mean - (errors.sd or 0.0), errors.mean + (errors.sd or 0.0)
        about = {"network": network, "epoch": lines[0]["epoch"], "errors": errors.mean}
        rows.append({**about, "low": max(low, 0.0), "high": high})
    return rows


def errors_by_class(logits: Mapping[str, Sequence[Tensor]], labels: Tensor, names: Sequence[str]) -> list[Row]:
    """Test errors by true class, mean over the networks of each name."""
    rows = []
    for network, several in logits.items():
        counts = torch.stack([metrics.errors_by_class(one, labels, len(names)) for one in several])
        means = counts.double().mean(0).tolist()
        rows += [
            {"class": name, "network": network, "errors": mean} for name, mean in zip(names, means, strict=True)
        ]
    return rows


def calibration(logits: Mapping[str, Sequence[Tensor]], labels: Tensor) -> list[Row]:
    """Mean confidence and accuracy in tenths of the test examples by confidence."""
    rows = []
    for network, several in logits.items():
        probs, predicted = torch.cat(list(several)).softmax(-1).max(-1)
        right = (predicted == labels.repeat(len(several))).double()
        rows += [
            {"network": network, "confidence": float(probs[part].mean()), "accuracy": float(right[part].mean())}
            for part in probs.argsort().chunk(10)
        ]
    return rows


def sensitivities(tuning: Sequence[Row], kinds: Sequence[str]) -> list[Row]:
    """For each setting that had several values whether it matters, and its `levels` for each kind of student.

    `sentence` is about the last of the kinds, the distilled student; `levels` have the mean validation errors at
    each value, with their interval.
    """
    found = []
    for key in SETTINGS:
        levels = []
        for kind in kinds:
            rows, half = levels_of([row for row in tuning if row["name"] == kind], key)
            for row in rows:
                errors, half_width = row["validation_errors"], half or 0.0
                low, high = max(errors - half_width, 0.0), errors + half_width
                levels.append({"network": kind, "value": row[key], "errors": errors, "low": low, "high": high})
        if len({level["value"] for level in levels}) > 1:
            sentence = sensitivity([row for row in tuning if row["name"] == kinds[-1]], key)
            found.append({"setting": key, "sentence": sentence, "levels": levels})
    return found


def disagreements(student: Tensor, teacher: Tensor, test: Dataset) -> Row:
    """How many test examples a student and its teacher classify differently; those where the student is surest."""
    differ = (student.argmax(-1) != teacher.argmax(-1)).nonzero().flatten()
    surest = differ[student[differ].softmax(-1).max(-1).values.argsort(descending=True)][:NUM_PICTURES]
    names, labels = test.class_names, test.labels(test.ids)
    examples = [
        {
            "id": int(test.ids[place]),
            "label": names[int(labels[place])],
            "teacher": names[int(teacher[place].argmax())],
            "student": names[int(student[place].argmax())],
        }
        for place in surest
    ]
    return {"count": len(differ), "examples": examples}


def dark_knowledge(member_logits: Tensor, temperature: float, mean: str, test: Dataset) -> Row:
    """Soft targets of test examples that the teacher classifies correctly: the least sure one of each class."""
    temperature = min(temperature, _MOST_TEMPERATURE)
    targets = ensemble_soft_targets(member_logits, temperature, mean=mean).probs
    names, labels = test.class_names, test.labels(test.ids)
    right = ~wrong_of(targets, labels)
    examples = []
    for label in range(min(len(names), NUM_PICTURES)):
        of_class = (right & (labels == label)).nonzero().flatten()
        if not len(of_class):
            continue
        place = int(of_class[targets[of_class, label].argmin()])
        order = targets[place].argsort(descending=True)[:4]
        shares = {names[int(index)]: float(targets[place, index]) for index in order}
        examples.append({"id": int(test.ids[place]), "label": names[label], "shares": shares})
    return {"temperature": temperature, "examples": examples}
