"""What specialists gain on test, and what everything costs; the tables of the paper.

`details` of a result has

- `sets`, `top_n`, `student`: what was used; `num_sets`: the number of class sets of each generalist.
- `relative_gain`: what specialists gain, in percent of their generalist's accuracy; `paper`, the paper's.
- `kept`: the gain of the specialists, that of the network distilled from them, and its share in percent.
- `by_coverage`, the paper's table 4: by the number of specialists that cover the true class, the test `examples`
  of one generalist, how many were `right_before`, the `change` and the `relative_change` in percent.
- `covered`: percent of the `classes` in any set, and of the generalists' `errors` with both classes in one set.
- `forgetting`: accuracy of full-softmax specialists alone, on the classes of their set (`special`) and the `rest`.
- `first`: what the page shows of the first generalist; see `examples.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instar.intervals import over_seeds, paired_difference
from instar.recipes.learning import about_failures
from instar.recipes.rows import ACCURACY, difference, row
from instar.recipes.specialists.examples import first_generalist
from instar.recipes.specialists.plan import (
    AS_LONG,
    DISTILLED,
    FULL_LABELS,
    FULL_SOFT,
    GENERALIST,
    LONGER,
    MIXTURE,
    ORDINARY,
    ROWS,
    WITH,
    WITH_RANDOM,
    Choice,
    Plan,
    Replicate,
)
from instar.recipes.specialists.predictions import percent, test_rows
from instar.specialists import ClassSet, membership

PAPER_GAIN = 4.4  # percent, relative: 25.0 % to 26.1 % on JFT
_COMPARED = (
    *((name, GENERALIST) for name in ROWS[1:]),
    *((WITH, control) for control in (LONGER, WITH_RANDOM, ORDINARY, MIXTURE)),
    *((DISTILLED, control) for control in (LONGER, AS_LONG)),
    (FULL_SOFT, FULL_LABELS),
)
_DIGITS = {"inference_cost": None, "training_cost": None, "training_seconds": 1, "parallel_seconds": 1}


class Found(NamedTuple):
    """The result of all rounds of jobs."""

    choice: Choice
    replicates: list[Replicate]
    tuning: list[dict[str, Any]]


class Generalist(NamedTuple):
    """What is kept of one generalist and everything that is compared with it."""

    class_sets: Sequence[ClassSet]
    figures: Mapping[str, Mapping[str, float]]
    """by row"""
    predicted: tuple[Tensor, Tensor]
    """classes predicted alone and with specialists"""
    retained: Mapping[str, tuple[float, ...]]


def measure(plan: Plan, found: Found) -> dict[str, Any]:
    """Read the test data: the content of `result.json`."""
    labels = plan.splits.test.labels(plan.splits.test.ids)
    generalists: list[Generalist] = []
    first: dict[str, Any] = {}
    for replicate in found.replicates:
        rows = test_rows(replicate, found.choice)
        alone, combined = rows[GENERALIST].probs, rows[WITH].probs
        first = first or first_generalist(replicate, found.choice.top_n, alone, combined)
        figures = {name: row.figures(labels, replicate.class_sets) for name, row in rows.items()}
        retained = {name: row.retained for name, row in rows.items() if row.retained}
        predicted = alone.argmax(1), combined.argmax(1)
        generalists.append(Generalist(replicate.class_sets, figures, predicted, retained))
    names = [name for name in ROWS if name in generalists[0].figures]
    accuracy = {name: [one.figures[name]["accuracy"] for one in generalists] for name in names}
    gain = relative_gain(accuracy)
    details = {
        **_details(found.choice, labels, generalists, accuracy),
        **({"relative_gain": gain} if gain else {}),
    }
    return {
        "measure": ACCURACY._asdict(),
        "metrics": {
            "gain": paired_difference(accuracy[WITH], accuracy[GENERALIST]).mean,
            **({"relative_gain": gain["mean"]} if gain else {}),
        },
        "rows": [_row(found, plan, name, [one.figures[name] for one in generalists]) for name in names],
        "differences": [
            difference(name, minus, accuracy[name], accuracy[minus])
            for name, minus in _COMPARED
            if name in names and minus in names
        ],
        "tuning": found.tuning,
        "details": {**details, "first": first},
        "num_test": len(labels),
        "seeds": list(plan.seeds),
    }


def _row(found: Found, plan: Plan, name: str, figures: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    means = {key: sum(one[key] for one in figures) / len(figures) for key in figures[0] if key != "accuracy"}
    means |= {key: round(means[key], digits) for key, digits in _DIGITS.items()}
    network = plan.config.mixture if name == MIXTURE else plan.config.generalist.network
    fits = [map(plan.job_path, replicate.fits(name, found.choice)) for replicate in found.replicates]
    return row(name, [one["accuracy"] for one in figures], network=network, **about_failures(fits), **means)


def _details(
    choice: Choice, labels: Tensor, generalists: Sequence[Generalist], accuracy: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "sets": choice.sets.slug,
        "top_n": choice.top_n,
        "num_sets": [len(one.class_sets) for one in generalists],
        "by_coverage": by_coverage(labels, generalists),
        "covered": _covered(labels, generalists),
    }
    if choice.student is not None:
        details |= {"student": choice.student.chosen, "kept": kept(accuracy)}
    if any(one.retained for one in generalists):
        details["forgetting"] = _forgetting(generalists)
    return details


def by_coverage(labels: Tensor, generalists: Sequence[Generalist]) -> list[dict[str, Any]]:
    """The paper's table 4: right answers by the number of specialists that cover the true class.

    Returns:
        A row for each number of specialists; its counts are means over generalists.
    """
    covering = torch.cat([membership(one.class_sets).sum(0)[labels] for one in generalists])
    right = torch.cat([torch.stack(one.predicted) == labels for one in generalists], 1)
    n, rows = len(generalists), []
    for number in sorted(set(covering.tolist())):
        here = covering == number
        before, after = right[:, here].sum(1).tolist()
        rows.append(
            {
                "num_specialists": number,
                "examples": int(here.sum()) / n,
                "right_before": before / n,
                "change": (after - before) / n,
                "relative_change": 100 * (after / before - 1) if before else None,
            }
        )
    return rows


def _covered(labels: Tensor, generalists: Sequence[Generalist]) -> dict[str, float]:
    """Percent of the classes in any set, and of the generalists' errors with both classes in one set."""
    classes, errors = [], []
    for generalist in generalists:
        inside, predicted = membership(generalist.class_sets), generalist.predicted[0]
        wrong = predicted != labels
        both = (inside[:, predicted] & inside[:, labels]).any(0)
        classes.append(percent(inside.any(0)))
        errors.append(percent(both[wrong]) if bool(wrong.any()) else 0.0)
    return {"classes": sum(classes) / len(classes), "errors": sum(errors) / len(errors)}


def _forgetting(generalists: Sequence[Generalist]) -> list[dict[str, Any]]:
    """What full-softmax specialists and their generalist retain, over generalists."""
    kinds = (
        (GENERALIST, FULL_SOFT, slice(2, 4)),
        ("labels alone, stopped early", FULL_LABELS, slice(0, 2)),
        ("labels and the generalist's soft targets", FULL_SOFT, slice(0, 2)),
    )
    rows = []
    for name, kind, part in kinds:
        values = [one.retained[kind][part] for one in generalists if kind in one.retained]
        special, rest = map(over_seeds, zip(*values, strict=True))
        means = {"special": special.mean, "special_sd": special.sd, "rest": rest.mean, "rest_sd": rest.sd}
        rows.append({"name": name, **means, "n": special.n})
    return rows


def relative_gain(accuracy: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """What specialists gain in percent of their generalist's accuracy; None if one has no right answer."""
    if not all(accuracy[GENERALIST]):
        return None
    pairs = zip(accuracy[WITH], accuracy[GENERALIST], strict=True)
    over = over_seeds([100 * (combined / alone - 1) for combined, alone in pairs])
    return {**over._asdict(), "paper": PAPER_GAIN}


def kept(accuracy: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """What the distilled network keeps of the specialists' gain; no share of a gain that may be chance."""
    gain = paired_difference(accuracy[WITH], accuracy[GENERALIST])
    own = paired_difference(accuracy[DISTILLED], accuracy[GENERALIST])
    is_gain = gain.sd and gain.low is not None and gain.low > 0
    share = 100 * own.mean / gain.mean if is_gain else None
    return {"gain": gain.mean, "gain_distilled": own.mean, "percent": share, "n": gain.n}
