"""The generalists, specialists and controls on test: rows with their costs, and the tables of the paper.

`details` of a result has

- `sets`, `top_n`, `student`: what was used; `num_sets`: the number of class sets of each generalist. -
`relative_gain`: what specialists gain, in percent of their generalist's accuracy; `paper`, the paper's. - `kept`:
the gain of the specialists, that of the network distilled from them, and the share in percent. - `by_coverage`,
the paper's table 4: by the number of specialists that cover the true class, test `examples` of one
  generalist, how many were `right_before`, the `change` and the `relative_change` in percent.
- `covered`: percent of the `classes` in any set, and of the generalists' `errors` with both classes in one set. -
`forgetting`: accuracy of full-softmax specialists alone on the classes of their set (`special`) and on the `rest`.
- `first`: what the page shows of the first generalist; see `examples.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instar.data import Dataset
from instar.evaluation import predict_logits
from instar.losses import ensemble_soft_targets
from instar.metrics import negative_log_likelihood, over_seeds, paired_difference
from instar.recipes.fitting import load_run_network
from instar.recipes.rows import ACCURACY, difference, row
from instar.recipes.specialists.examples import first_generalist
from instar.recipes.specialists.plan import (
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
    Fit,
    Plan,
    Replicate,
)
from instar.runs import Run
from instar.specialists import ClassSet, SpecialistEnsemble, membership

PAPER_GAIN = 4.4  # percent, relative: 25.0 % to 26.1 % on JFT
_COMPARED = (
    *((name, GENERALIST) for name in ROWS[1:]),
    *((WITH, control) for control in (LONGER, WITH_RANDOM, ORDINARY, MIXTURE)),
    (DISTILLED, LONGER),
    (FULL_SOFT, FULL_LABELS),
)
_DIGITS = {"inference_cost": None, "training_cost": None, "training_seconds": 1, "parallel_seconds": 1}


class Found(NamedTuple):
    """The result of all rounds of jobs."""

    choice: Choice
    replicates: list[Replicate]
    tuning: list[dict[str, Any]]


class Tested(NamedTuple):
    """The predictions of a row on test, for one generalist, and what they cost."""

    probs: Tensor
    specialists_used: float
    """per example, mean"""
    inference_cost: float
    """multiplications per example"""
    training_cost: int
    """multiplications of all fits"""
    training_seconds: float
    """of all fits, one after the other"""
    parallel_seconds: float
    """with a machine for each fit"""
    retained: tuple[float, ...] = ()
    """see `_retained`"""


def measure(plan: Plan, found: Found) -> dict[str, Any]:
    """Read the test data: the content of `result.json`."""
    test = plan.splits.test.to(plan.device)
    labels = test.labels(test.ids).cpu()
    figures: dict[str, list[dict[str, float]]] = {}
    retained: dict[str, list[tuple[float, ...]]] = {FULL_SOFT: [], FULL_LABELS: []}
    predicted: list[list[Tensor]] = []
    first: dict[str, Any] = {}
    for replicate in found.replicates:
        tested = dict(_test(replicate, found.choice, test))
        for name, one in tested.items():
            figures.setdefault(name, []).append(_figures(one, labels, replicate.class_sets))
            if one.retained:
                retained[name].append(one.retained)
        probs = [tested[name].probs for name in (GENERALIST, WITH)]
        predicted.append([one.argmax(1) for one in probs])
        first = first or first_generalist(replicate, found.choice.top_n, *probs)
    accuracy = {name: [one["accuracy"] for one in seeds] for name, seeds in figures.items()}
    class_sets = [replicate.class_sets for replicate in found.replicates]
    details = {
        "sets": found.choice.sets.slug,
        "top_n": found.choice.top_n,
        "num_sets": [len(sets) for sets in class_sets],
        "by_coverage": by_coverage(labels, class_sets, predicted),
        "covered": _covered(labels, class_sets, [alone for alone, _ in predicted]),
        "first": first,
    }
    if retained[FULL_SOFT]:
        details["forgetting"] = _forgetting(retained[FULL_SOFT], retained[FULL_LABELS])
    metrics = {"gain": paired_difference(accuracy[WITH], accuracy[GENERALIST]).mean}
    if found.choice.student is not None:
        details |= {"student": found.choice.student.chosen, "kept": kept(accuracy)}
    if all(accuracy[GENERALIST]):  # a generalist without a right answer has no relative gain
        pairs = zip(accuracy[WITH], accuracy[GENERALIST], strict=True)
        gain = over_seeds([100 * (value / alone - 1) for value, alone in pairs])
        details["relative_gain"] = {**gain._asdict(), "paper": PAPER_GAIN}
        metrics["relative_gain"] = gain.mean
    networks = {MIXTURE: plan.config.mixture}
    rows = [
        _row(name, figures[name], networks.get(name, plan.config.generalist.network))
        for name in ROWS
        if name in figures
    ]
    differences = [
        difference(name, minus, accuracy[name], accuracy[minus])
        for name, minus in _COMPARED
        if name in accuracy and minus in accuracy
    ]
    return {
        "measure": ACCURACY._asdict(),
        "metrics": metrics,
        "rows": rows,
        "differences": differences,
        "tuning": found.tuning,
        "details": details,
        "num_test": len(labels),
        "seeds": list(plan.seeds),
    }


def _test(replicate: Replicate, choice: Choice, test: Dataset) -> Iterator[tuple[str, Tested]]:
    """Every row on test."""
    plan = replicate.plan
    alone = _test_fits(plan, [plan.generalist(replicate.seed)], test)
    yield GENERALIST, alone
    for name in plan.specialist_rows:
        tested = _test_specialists(replicate, name, choice.top_n, test, alone)
        if name == WITH:
            teacher = tested
        yield name, tested
    for name, fits in replicate.controls().items():
        yield name, _test_fits(plan, fits, test)
    if choice.student is not None:
        student = _test_fits(plan, [replicate.student(choice.student)], test)
        targets = round(teacher.inference_cost * plan.costs.num_train * plan.config.num_views)
        yield (
            DISTILLED,
            student._replace(
                training_cost=teacher.training_cost + targets + student.training_cost,
                training_seconds=teacher.training_seconds + student.training_seconds,
                parallel_seconds=teacher.parallel_seconds + student.training_seconds,
            ),
        )


def _test_fits(plan: Plan, fits: Sequence[Fit], test: Dataset) -> Tested:
    """One network, or the mean prediction of several."""
    networks = (load_run_network(plan.job_path(fit.name)).to(plan.device) for fit in fits)
    logits = [predict_logits(network, test, device=plan.device).cpu() for network in networks]
    mean = ensemble_soft_targets(torch.stack(logits), 1.0).probs if len(fits) > 1 else torch.softmax(logits[0], 1)
    seconds = [_seconds(plan, fit.name) for fit in fits]
    inference = sum(fit.network_cost for fit in fits)
    training = sum(3 * fit.network_cost * plan.costs.num_train * fit.settings.epochs for fit in fits)
    return Tested(mean, 0.0, inference, training, sum(seconds), max(seconds))


def _seconds(plan: Plan, name: str) -> float:
    return float(Run.read(plan.job_path(name)).metrics()[-1]["seconds"])


def _test_specialists(replicate: Replicate, name: str, top_n: int, test: Dataset, alone: Tested) -> Tested:
    """A generalist with the specialists of a row."""
    plan, costs = replicate.plan, replicate.plan.costs
    ensemble = replicate.assemble(name, top_n=top_n)
    combined = ensemble.predict(test)
    used = float(combined.num_specialists.double().mean())
    shared = costs.per_layer[ensemble.num_shared - 1] if ensemble.num_shared else 0
    seconds = [_seconds(plan, job) for job in replicate.specialists(name)]
    return Tested(
        combined.probs.cpu(),
        used,
        costs.network + used * (costs.network - shared),
        alone.training_cost + sum(replicate.specialist_costs(name)),
        alone.training_seconds + sum(seconds),
        alone.training_seconds + max(seconds),
        _retained(ensemble, test) if ensemble.full_softmax else (),
    )


def _retained(ensemble: SpecialistEnsemble, test: Dataset) -> tuple[float, ...]:
    """Accuracy on the classes of a set and on the rest, of full-softmax specialists alone and of their generalist.

    Means over specialists; nothing if no class set has test examples inside and outside.
    """
    labels = test.labels(test.ids)
    right = [predict_logits(one, test, device=labels.device).argmax(1) == labels for one in ensemble.networks]
    found = []
    for class_set, own in zip(ensemble.class_sets, right[1:], strict=True):
        inside = torch.isin(labels, torch.tensor(class_set.classes, device=labels.device))
        if bool(inside.any()) and not bool(inside.all()):
            found.append([_percent(one[part]) for one in (own, right[0]) for part in (inside, ~inside)])
    return tuple(sum(values) / len(found) for values in zip(*found, strict=True))


def _forgetting(soft: Sequence[tuple[float, ...]], labels: Sequence[tuple[float, ...]]) -> list[dict[str, Any]]:
    """What full-softmax specialists retain, over generalists."""
    kinds = (
        (GENERALIST, [one[2:] for one in soft]),
        ("labels alone, stopped early", [one[:2] for one in labels]),
        ("labels and the generalist's soft targets", [one[:2] for one in soft]),
    )
    rows = []
    for name, values in kinds:
        special, rest = map(over_seeds, zip(*values, strict=True))
        means = {"special": special.mean, "special_sd": special.sd, "rest": rest.mean, "rest_sd": rest.sd}
        rows.append({"name": name, **means, "n": special.n})
    return rows


def _percent(correct: Tensor) -> float:
    return 100 * float(correct.double().mean())


def _figures(tested: Tested, labels: Tensor, class_sets: Sequence[ClassSet]) -> dict[str, float]:
    special = membership(class_sets).any(0)
    chosen = special[labels]
    among_special = tested.probs[chosen].masked_fill(~special, -1.0).argmax(1)  # the paper's table 3
    return {
        "accuracy": _percent(tested.probs.argmax(1) == labels),
        "conditional_accuracy": _percent(among_special == labels[chosen]),
        "test_nll": negative_log_likelihood(tested.probs.clamp_min(1e-30).log(), labels),
        **{key: value for key, value in tested._asdict().items() if key not in ("probs", "retained")},
    }


def _row(name: str, figures: Sequence[Mapping[str, float]], network: str) -> dict[str, Any]:
    means = {key: sum(one[key] for one in figures) / len(figures) for key in figures[0] if key != "accuracy"}
    means |= {key: round(means[key], digits) for key, digits in _DIGITS.items()}
    return row(name, [one["accuracy"] for one in figures], network=network, **means)


def by_coverage(
    labels: Tensor, class_sets: Sequence[Sequence[ClassSet]], predicted: Sequence[Sequence[Tensor]]
) -> list[dict[str, Any]]:
    """The paper's table 4: right answers by the number of specialists that cover the true class.

    Args:
        labels: labels of the test examples.
        class_sets: class sets of each generalist.
        predicted: of each generalist the classes predicted alone and with specialists.

    Returns:
        A row for each number of specialists; its counts are means over generalists.
    """
    covering = torch.cat([membership(sets).sum(0)[labels] for sets in class_sets])
    right = torch.cat([torch.stack([one == labels for one in answers]) for answers in predicted], 1)
    n, rows = len(class_sets), []
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


def _covered(
    labels: Tensor, class_sets: Sequence[Sequence[ClassSet]], predictions: Sequence[Tensor]
) -> dict[str, float]:
    """Percent of the classes in any set, and of the generalists' errors with both classes in one set."""
    classes, errors = [], []
    for sets, predicted in zip(class_sets, predictions, strict=True):
        inside, wrong = membership(sets), predicted != labels
        both = (inside[:, predicted] & inside[:, labels]).any(0)
        classes.append(_percent(inside.any(0)))
        errors.append(_percent(both[wrong]) if bool(wrong.any()) else 0.0)
    return {"classes": sum(classes) / len(classes), "errors": sum(errors) / len(errors)}


def kept(accuracy: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """What the distilled network keeps of the specialists' gain; no percentage if the gain may be chance."""
    gain = paired_difference(accuracy[WITH], accuracy[GENERALIST])
    own = paired_difference(accuracy[DISTILLED], accuracy[GENERALIST])
    is_gain = gain.sd and gain.low is not None and gain.low > 0
    percent = 100 * own.mean / gain.mean if is_gain else None
    return {"gain": gain.mean, "gain_distilled": own.mean, "percent": percent, "n": gain.n}
