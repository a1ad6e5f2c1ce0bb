"""The charts of the page of `instar distill`."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.recipes.distill.plan import ALONE, DISTILLED, Plan
from instar.recipes.distill.recipe import Trial
from instar.recipes.distill.tuning import TUNED, best_at_each, half_width, sensitivity_to
from instar.recipes.fitting import load_splits
from instar.reports import Bars, Lines, Section
from instar.runs import Run


def training_curves(plan: Plan) -> Section:
    """Validation errors after each epoch."""
    rows: list[dict[str, Any]] = []
    for kind in (ALONE, DISTILLED):
        histories = [Run.read(plan.path / "jobs" / kind / f"seed-{seed}").result()["rows"] for seed in plan.seeds]
        for lines in zip(*histories, strict=False):
            errors = metrics.over_seeds([line["validation_errors"] for line in lines])
            rows.append(
                {
                    "network": kind,
                    "epoch": lines[0]["epoch"],
                    "errors": errors.mean,
                    "low": max(errors.mean - (errors.sd or 0.0), 0.0),
                    "high": errors.mean + (errors.sd or 0.0),
                }
            )
    caption = f"Errors on validation after each epoch, mean over {plan.config.seeds} seeds; the band is one sd."
    ceiling = 3 * min(row["errors"] for row in rows)  # the first epochs would squeeze the rest into a line
    shown = [row for row in rows if row["errors"] <= ceiling] or rows
    if len(shown) < len(rows):
        caption += f" Epochs with more than {ceiling:.0f} are left out."
    return Lines(
        "Training",
        shown,
        x="epoch",
        y="errors",
        series="network",
        low="low",
        high="high",
        y_title="validation errors",
        caption=caption,
    )


def errors_by_class(plan: Plan, trial: Trial, result: Mapping[str, Any]) -> Section:
    """Before and after the correction too, where there is one."""
    names = load_splits(plan.config.data).class_names
    rows = []
    for network, logits in _by_network(trial).items():
        counts = torch.stack([metrics.errors_by_class(one, trial.labels, len(names)) for one in logits])
        means = counts.double().mean(0).tolist()
        rows += [
            {"class": name, "network": network, "errors": mean} for name, mean in zip(names, means, strict=True)
        ]
    caption = "Test errors by true class, mean over seeds."
    if plan.config.fit_bias:
        bias = ", ".join(f"{name}: {value:+.2f}" for name, value in result["class_bias"].items())
        caption += (
            f" The transfer set lacks {', '.join(plan.missing)}. The correction adds to the logits what makes the "
            f"fewest validation errors ({bias}); folded into the last layer, it costs nothing in use."
        )
    return Bars("Errors by class", rows, category="class", value="errors", series="network", caption=caption)


def _by_network(trial: Trial) -> dict[str, list[Tensor]]:
    teacher = {} if trial.teacher_logits is None else {"teacher": [trial.teacher_logits]}
    return teacher | trial.student_logits


def calibration(trial: Trial) -> Section:
    """Accuracy against confidence."""
    rows = []
    for network, logits in _by_network(trial).items():
        pooled = torch.cat(logits)
        probs, predicted = pooled.softmax(-1).max(-1)
        right = (predicted == trial.labels.repeat(len(logits))).double()
        order = probs.argsort()
        for part in order.chunk(10):
            rows.append(
                {
                    "network": network,
                    "confidence": float(probs[part].mean()),
                    "accuracy": float(right[part].mean()),
                }
            )
    return Lines(
        "Calibration",
        rows,
        x="confidence",
        y="accuracy",
        series="network",
        points=True,
        diagonal=True,
        caption="Tenths of the test examples by confidence: how often the prediction was right. On the line, "
        "the network is as sure as it should be.",
    )


def tuning_curves(result: Mapping[str, Any]) -> list[Section]:
    """What validation said of each candidate, for every setting that had several, and whether that matters."""
    sections: list[Section] = []
    for key in TUNED:
        rows = []
        for kind in (ALONE, DISTILLED):
            compared = best_at_each(result["tuning"], kind, key)
            half = half_width(compared) or 0.0
            for row in compared:
                errors = row["validation_errors"]
                about = {"network": kind, "value": float(row[key]), "errors": errors}
                rows.append({**about, "low": max(errors - half, 0.0), "high": errors + half})
        if len({row["value"] for row in rows}) > 1:
            sections.append(_tuning_curve(key, rows, result))
    return sections


def _tuning_curve(key: str, rows: list[dict[str, Any]], result: Mapping[str, Any]) -> Section:
    name = TUNED[key]
    caption = f"Each {name} at its best other settings; mean and 95 % interval over the tuning seeds."
    if key == "learning_rate":
        caption += " The control gets the same choice of learning rates as the distilled student."
    caption = f"{sensitivity_to(result['tuning'], key)} {caption}".strip()
    finite = [row for row in rows if math.isfinite(row["value"])]
    if len(finite) < len(rows):  # no place on the axis
        errors = next(row["errors"] for row in rows if row not in finite)
        caption += f" At infinity, which matches logits: {errors:.1f}."
    return Lines(
        name.capitalize(),
        finite,
        x="value",
        y="errors",
        series="network",
        low="low",
        high="high",
        x_title=name,
        y_title="validation errors",
        points=True,
        log_x=min(row["value"] for row in finite) > 0,
        caption=caption,
    )
