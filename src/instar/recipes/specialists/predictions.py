"""The networks of a study on test: their predictions, and what they cost."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from instar.data import Dataset
from instar.evaluation import predict_logits
from instar.losses import ensemble_soft_targets
from instar.metrics import negative_log_likelihood
from instar.recipes.loading import load_run_network
from instar.recipes.specialists.plan import DISTILLED, GENERALIST, WITH, Choice, Fit, Plan, Replicate
from instar.runs import Run
from instar.specialists import ClassSet, SpecialistEnsemble, membership


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
    """of full-softmax specialists, see `_retained`"""

    def figures(self, labels: Tensor, class_sets: Sequence[ClassSet]) -> dict[str, float]:
        """Accuracy and NLL, and the costs."""
        special = membership(class_sets).any(0)
        chosen = special[labels]
        among_special = self.probs[chosen].masked_fill(~special, -1.0).argmax(1)  # the paper's table 3
        return {
            "accuracy": percent(self.probs.argmax(1) == labels),
            "conditional_accuracy": percent(among_special == labels[chosen]),
            "test_nll": negative_log_likelihood(self.probs.clamp_min(1e-30).log(), labels),
            **{key: value for key, value in self._asdict().items() if key not in ("probs", "retained")},
        }


def test_rows(replicate: Replicate, choice: Choice) -> dict[str, Tested]:
    """Every row of one generalist on test."""
    plan = replicate.plan
    test = plan.splits.test.to(plan.device)
    alone = _test_fits(plan, [plan.generalist(replicate.seed)], test)
    rows = {GENERALIST: alone}
    for name in plan.specialist_rows:
        rows[name] = _test_specialists(replicate, name, choice.top_n, test, alone)
    for name, fits in replicate.controls().items():
        rows[name] = _test_fits(plan, fits, test)
    if choice.student is not None:
        student, teacher = _test_fits(plan, [replicate.student(choice.student)], test), rows[WITH]
        targets = round(teacher.inference_cost * plan.costs.num_train * plan.config.num_views)
        rows[DISTILLED] = student._replace(
            training_cost=teacher.training_cost + targets + student.training_cost,
            training_seconds=teacher.training_seconds + student.training_seconds,
            parallel_seconds=teacher.parallel_seconds + student.training_seconds,
        )
    return rows


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
            found.append([percent(one[part]) for one in (own, right[0]) for part in (inside, ~inside)])
    return tuple(sum(values) / len(found) for values in zip(*found, strict=True))


def percent(correct: Tensor) -> float:
    """The share of what is true, in percent."""
    return 100 * float(correct.double().mean())
