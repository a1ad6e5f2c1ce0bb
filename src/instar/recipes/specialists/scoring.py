"""What specialists gain on test: rows with their costs, the paper's table 4, what a full softmax forgets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.data import Dataset
from instar.evaluation import predict_logits
from instar.losses import ensemble_soft_targets
from instar.recipes.fitting import load_run_network, load_splits
from instar.recipes.settings import as_text
from instar.recipes.specialists.jobs import UNIT, assemble
from instar.recipes.specialists.plan import (
    DISTILLED,
    ENSEMBLE,
    FULL_ROW,
    GENERALIST,
    HARD_ROW,
    LONGER,
    MIXTURE,
    WITH,
    WITH_RANDOM,
    Choice,
    Plan,
)
from instar.runs import Run
from instar.specialists import ClassSet, SpecialistEnsemble, membership

ROWS = (GENERALIST, LONGER, WITH, WITH_RANDOM, ENSEMBLE, MIXTURE, FULL_ROW, HARD_ROW, DISTILLED)
PAPER_GAIN = 4.4  # percent, relative: 25.0 % to 26.1 % on JFT
_COMPARED = (
    (WITH, GENERALIST),
    (WITH, LONGER),
    (WITH, WITH_RANDOM),
    (WITH, ENSEMBLE),
    (WITH, MIXTURE),
    (DISTILLED, GENERALIST),
    (DISTILLED, LONGER),
    (FULL_ROW, HARD_ROW),
)


@dataclass
class Trial:
    """What the networks say of test: for each row and seed probabilities, specialists used, and costs."""

    labels: Tensor
    class_sets: list[list[ClassSet]]
    """of each seed"""
    probs: dict[str, list[Tensor]] = field(default_factory=dict)
    used: dict[str, list[float]] = field(default_factory=dict)
    """specialists for an example, mean"""
    inference: dict[str, list[float]] = field(default_factory=dict)
    """multiplications for an example"""
    training: dict[str, list[int]] = field(default_factory=dict)
    """multiplications"""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """of all fits, one after the other"""
    parallel: dict[str, list[float]] = field(default_factory=dict)
    """the same with a machine for each fit"""
    forgetting: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: str, probs: Tensor, *, used: float = 0.0, inference: float, training: int) -> None:
        """Take in one seed of a row."""
        self.probs.setdefault(row, []).append(probs)
        self.used.setdefault(row, []).append(used)
        self.inference.setdefault(row, []).append(inference)
        self.training.setdefault(row, []).append(training)

    def add_seconds(self, row: str, own: Sequence[float], before: float = 0.0) -> None:
        """Take in the times of a row's fits that could run at once, after those that they need."""
        self.seconds.setdefault(row, []).append(before + sum(own))
        self.parallel.setdefault(row, []).append(before + max(own, default=0.0))


def read_test(plan: Plan, choice: Choice) -> Trial:
    """All that is measured on test. (The page shows a few of its examples.)"""
    test = load_splits(plan.config.data).test
    sets = [plan.class_sets(seed, choice.sets) for seed in plan.seeds]
    trial = Trial(test.labels(test.ids), sets)
    for seed in plan.seeds:
        _read_generalist(plan, trial, seed)
        _read_specialists(plan, choice, trial, seed)
        _read_controls(plan, choice, trial, seed)
    return trial


def _test(plan: Plan) -> Dataset:
    return load_splits(plan.config.data).test.to(plan.device)


def _logits(plan: Plan, name: str) -> Tensor:
    network = load_run_network(plan.job_path(name)).to(plan.device)
    return predict_logits(network, _test(plan), device=plan.device).cpu()


def _seconds(plan: Plan, name: str) -> float:
    lines = Run.read(plan.job_path(name)).metrics()
    return float(lines[-1]["seconds"])


def _read_generalist(plan: Plan, trial: Trial, seed: int) -> None:
    name = plan.generalist(seed)
    cost = plan.config.generalist.epochs * plan.epoch_cost
    trial.add(GENERALIST, torch.softmax(_logits(plan, name), 1), inference=plan.per_layer[-1], training=cost)
    trial.add_seconds(GENERALIST, [_seconds(plan, name)])


def _read_specialists(plan: Plan, choice: Choice, trial: Trial, seed: int) -> None:
    own = plan.config.generalist.epochs * plan.epoch_cost
    generalist = plan.job_path(plan.generalist(seed))
    for row in plan.specialist_rows:
        names = plan.specialists(seed, choice.sets, row)
        together = (
            SpecialistEnsemble.load(plan.job_path(plan.unit(seed)) / UNIT)
            if row == WITH
            else assemble(generalist, [plan.job_path(name) for name in names], top_n=choice.top_n)
        )
        combined = together.to(plan.device).predict(_test(plan))
        used = float(combined.num_specialists.double().mean())
        shared = plan.per_layer[together.num_shared - 1] if together.num_shared else 0
        inference = plan.per_layer[-1] + used * (plan.per_layer[-1] - shared)
        training = own + sum(plan.specialist_costs(seed, choice, row))
        trial.add(row, combined.probs.cpu(), used=used, inference=inference, training=training)
        trial.add_seconds(row, [_seconds(plan, name) for name in names], trial.seconds[GENERALIST][-1])
        if row in (FULL_ROW, HARD_ROW):
            _read_forgetting(plan, trial, row, seed, together)


def _read_forgetting(plan: Plan, trial: Trial, row: str, seed: int, together: SpecialistEnsemble) -> None:
    """How specialists with a full softmax, and the generalist, do on the classes inside and outside their sets."""
    test = _test(plan)
    logits = [predict_logits(network, test, device=plan.device).cpu() for network in together.networks]
    right = [one.argmax(1) == trial.labels for one in logits]
    inside = membership(together.class_sets)[:, trial.labels]
    for number, own in enumerate(inside):
        if own.all() or not own.any():  # no test example to say it of
            continue
        for name, correct in ((GENERALIST, right[0]), (row, right[number + 1])):
            trial.forgetting.append(
                {
                    "name": name,
                    "of": row,
                    "seed": seed,
                    "special": 100 * float(correct[own].double().mean()),
                    "rest": 100 * float(correct[~own].double().mean()),
                }
            )


def _read_controls(plan: Plan, choice: Choice, trial: Trial, seed: int) -> None:
    config, whole, total = plan.config, plan.per_layer[-1], plan.total(seed, choice)
    num_train = len(load_splits(config.data).train)

    def epochs_of(name: str) -> int:
        return int(Run.read(plan.job_path(name)).config["fit"]["epochs"])

    if "longer" in config.controls:
        name = f"{LONGER}/seed-{seed}"
        probs = torch.softmax(_logits(plan, name), 1)
        trial.add(LONGER, probs, inference=whole, training=epochs_of(name) * plan.epoch_cost)
        trial.add_seconds(LONGER, [_seconds(plan, name)])
    if "ensemble" in config.controls:
        names = plan.members(seed, choice)
        members = torch.stack([_logits(plan, name) for name in names])
        training = sum(epochs_of(name) for name in names) * plan.epoch_cost
        probs = ensemble_soft_targets(members, 1.0).probs
        trial.add(ENSEMBLE, probs, inference=len(names) * whole, training=training)
        trial.add_seconds(ENSEMBLE, [_seconds(plan, name) for name in names])
    if "mixture" in config.controls:
        name = f"{MIXTURE}/seed-{seed}"
        cost = plan.mixture_cost
        probs = torch.softmax(_logits(plan, name), 1)
        trial.add(MIXTURE, probs, inference=cost, training=3 * cost * num_train * epochs_of(name))
        trial.add_seconds(MIXTURE, [_seconds(plan, name)])
    if config.distill is not None:
        name = plan.student(seed)
        asked = trial.inference[WITH][-1] * num_train * config.num_views
        training = total + round(asked) + epochs_of(name) * plan.epoch_cost
        trial.add(DISTILLED, torch.softmax(_logits(plan, name), 1), inference=whole, training=training)
        trial.add_seconds(DISTILLED, [_seconds(plan, name)], trial.seconds[WITH][-1])
        trial.parallel[DISTILLED][-1] = trial.parallel[WITH][-1] + _seconds(plan, name)


def specialists_result(plan: Plan, choice: Choice, trial: Trial) -> dict[str, Any]:
    """The content of `result.json`."""
    accuracy = {row: [_accuracy(probs, trial.labels) for probs in found] for row, found in trial.probs.items()}
    rows = [_row(plan, trial, name, accuracy) for name in ROWS if name in trial.probs]
    differences = [
        {"name": f"{one} - {other}", **metrics.paired_difference(accuracy[one], accuracy[other])._asdict()}
        for one, other in _COMPARED
        if one in accuracy and other in accuracy
    ]
    gain = metrics.over_seeds(
        [100 * (one / other - 1) for one, other in zip(accuracy[WITH], accuracy[GENERALIST], strict=True)]
    )
    result: dict[str, Any] = {
        "metrics": {"gain": differences[0]["mean"], "relative_gain": gain.mean},
        "rows": rows,
        "differences": differences,
        "relative_gain": {**gain._asdict(), "paper": PAPER_GAIN},
        "by_coverage": by_coverage(trial),
        "covered": _covered(trial),
        "sets": choice.sets.slug,
        "num_sets": [len(one) for one in trial.class_sets],
        "top_n": choice.top_n,
        "num_test": len(trial.labels),
        "seeds": list(plan.seeds),
    }
    if trial.forgetting:
        result["forgetting"] = _forgetting(trial)
    if DISTILLED in accuracy:
        result["kept"] = _kept(accuracy)
    if choice.student is not None:
        result["student"] = as_text(choice.student._asdict())
    return result


def _accuracy(probs: Tensor, labels: Tensor) -> float:
    return 100 * float((probs.argmax(1) == labels).double().mean())


def _conditional(probs: Tensor, labels: Tensor, class_sets: Sequence[ClassSet]) -> float:
    """Examples of the specialists' classes alone, and predictions among these: the paper's table 3."""
    special = membership(class_sets).any(0)
    chosen = special[labels]
    return _accuracy(probs[chosen].masked_fill(~special, -1.0), labels[chosen])


def _row(plan: Plan, trial: Trial, name: str, accuracy: dict[str, list[float]]) -> dict[str, Any]:
    def mean(values: dict[str, list[float]] | dict[str, list[int]]) -> float:
        return sum(values[name]) / len(values[name])

    over = metrics.over_seeds(accuracy[name])
    conditional = [
        _conditional(probs, trial.labels, sets)
        for probs, sets in zip(trial.probs[name], trial.class_sets, strict=True)
    ]
    log_probs = [probs.clamp_min(1e-30).log() for probs in trial.probs[name]]
    row = {
        "name": name,
        "network": plan.config.mixture if name == MIXTURE else plan.config.generalist.network,
        "test_accuracy": over.mean,
        "conditional_accuracy": sum(conditional) / len(conditional),
        "test_nll": sum(metrics.negative_log_likelihood(one, trial.labels) for one in log_probs) / len(log_probs),
        **over._asdict(),
        "unit": "percent",
        "specialists_used": mean(trial.used),
        "inference_cost": round(mean(trial.inference)),
        "training_cost": round(mean(trial.training)),
        "training_seconds": round(mean(trial.seconds), 1),
        "parallel_seconds": round(mean(trial.parallel), 1),
    }
    if name != GENERALIST:
        minus = metrics.paired_difference(accuracy[name], accuracy[GENERALIST])
        row |= {"difference": minus.mean, "difference_low": minus.low, "difference_high": minus.high}
    return row


def by_coverage(trial: Trial) -> list[dict[str, Any]]:
    """The paper's table 4: by how many specialists cover the true class, over all seeds.

    Returns:
        For each number of specialists the test examples (of one network), and how many more of them are right.
    """
    counts: dict[int, list[int]] = {}
    for sets, before, after in zip(trial.class_sets, trial.probs[GENERALIST], trial.probs[WITH], strict=True):
        covering = membership(sets).sum(0)[trial.labels]
        right = [probs.argmax(1) == trial.labels for probs in (before, after)]
        for number in sorted(set(covering.tolist())):
            here = covering == number
            found = counts.setdefault(number, [0, 0, 0])
            for place, values in enumerate((here, right[0] & here, right[1] & here)):
                found[place] += int(values.sum())
    n = len(trial.class_sets)
    return [
        {
            "num_specialists": number,
            "examples": total / n,
            "right_before": before / n,
            "change": (after - before) / n,
            "relative_change": 100 * (after / before - 1) if before else None,
        }
        for number, (total, before, after) in sorted(counts.items())
    ]


def _covered(trial: Trial) -> dict[str, float]:
    """How much the class sets hold: of the classes, and of the generalist's errors true and predicted class."""
    classes, errors = [], []
    for sets, probs in zip(trial.class_sets, trial.probs[GENERALIST], strict=True):
        inside = membership(sets)
        predicted = probs.argmax(1)
        wrong = predicted != trial.labels
        both = (inside[:, predicted] & inside[:, trial.labels]).any(0)
        classes.append(100 * float(inside.any(0).double().mean()))
        errors.append(100 * float(both[wrong].double().mean()) if bool(wrong.any()) else 0.0)
    return {"classes": sum(classes) / len(classes), "errors": sum(errors) / len(errors)}


def _forgetting(trial: Trial) -> list[dict[str, Any]]:
    """Accuracy on the special and on the other classes, mean over a seed's specialists, then over seeds."""

    def over(choose: Callable[[dict[str, Any]], bool], key: str) -> dict[str, float]:
        seeds = sorted({one["seed"] for one in trial.forgetting})
        values = []
        for seed in seeds:
            own = [one[key] for one in trial.forgetting if one["seed"] == seed and choose(one)]
            values.append(sum(own) / len(own))
        found = metrics.over_seeds(values)
        return {key: found.mean, f"{key}_sd": found.sd, "n": found.n}  # type: ignore[dict-item]

    kinds: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
        (GENERALIST, lambda one: one["name"] == GENERALIST and one["of"] == FULL_ROW),
        ("hard labels, early-stopped", lambda one: one["name"] == HARD_ROW),
        ("hard labels and the generalist's soft targets", lambda one: one["name"] == FULL_ROW),
    ]
    return [{"name": name, **over(choose, "special"), **over(choose, "rest")} for name, choose in kinds]


def _kept(accuracy: dict[str, list[float]]) -> dict[str, Any]:
    """How much of the specialists' gain the one distilled network keeps: no share of what may be chance."""
    gain = metrics.paired_difference(accuracy[WITH], accuracy[GENERALIST])
    own = metrics.paired_difference(accuracy[DISTILLED], accuracy[GENERALIST])
    return {
        "gain": gain.mean,
        "gain_distilled": own.mean,
        "percent": 100 * own.mean / gain.mean if gain.sd and gain.low is not None and gain.low > 0 else None,
        "n": gain.n,
    }
