"""What networks are on test: the only place of both studies that reads test. Rows, differences, `details`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import intervals, metrics
from instar.data import Dataset
from instar.deploy import cost_of
from instar.distillation import SoftTargetStore
from instar.distillation.sensitivity import SETTINGS, levels_of, sensitivity
from instar.evaluation import predict_logits, score
from instar.losses import AnyTargets, HeadTargets, SoftTargets, ensemble_soft_targets
from instar.networks import AskedNetwork, FittedEstimator
from instar.recipes.distill.plan import Plan
from instar.recipes.fitting import targets_of
from instar.recipes.loading import load_run_network
from instar.recipes.rows import difference, row
from instar.recipes.settings import LossSettings
from instar.recipes.splits import training_data
from instar.runs import Run
from instar.sparse_targets import SparseTargets
from instar.structures import Form
from instar.teacher_checks import judged_ids

MOST_EXAMPLES = 10_000
"""Fidelity is measured on at most so many examples of the transfer set: enough for a percentage to a tenth."""

NUM_PICTURES = 8
_FEWEST_OF_A_PART = 30  # examples: of fewer an accuracy is chance
_MOST_TEMPERATURE = 20.0  # for soft targets that people look at: at infinity all classes are alike
Row = dict[str, Any]


def on_test(path: Path, test: Dataset) -> Callable[[str], Tensor]:
    """A function that gives the logits on test, (examples, classes), of the network of a job."""
    return lambda job: predict_logits(load_run_network(path / "jobs" / job), test)


def ensemble_logits(member_logits: Tensor, mean: str) -> Tensor:
    """Logits whose softmax is the mean of the members' probabilities; of one member its own."""
    if len(member_logits) == 1:
        return member_logits[0]
    return _log_probs(ensemble_soft_targets(member_logits, 1.0, mean=mean))


def _log_probs(targets: SoftTargets) -> Tensor:
    """Logits whose softmax the soft targets are; a probability that has vanished stays finite."""
    return targets.probs.clamp(min=torch.finfo(targets.probs.dtype).tiny).log()


def scored_row(name: str, logits: Sequence[Tensor], labels: Tensor, **about: Any) -> Row:
    """A row in test errors, one replicate for each of the logits, with the means of the other scores."""
    scores = [score(one, labels) for one in logits]
    keys = ("accuracy", "nll", "calibration_error")
    others = {f"test_{key}": sum(one[key] for one in scores) / len(scores) for key in keys}
    return row(name, [one["errors"] for one in scores], **about, **others)


def cost_row(jobs: Sequence[Path], input_shape: Form) -> Row:
    """Weights, size, multiplications and latency of a network; of an ensemble the sums.

    Of a teacher that is no network of torch the latency alone is known.
    """
    networks = [load_run_network(job) for job in jobs]
    costs = [cost_of(network, input_shape) for network in networks]
    latency_ms = round(sum(cost.latency_ms for cost in costs), 4)
    if any(isinstance(network, AskedNetwork | FittedEstimator) for network in networks):
        return {"parameters": None, "bytes": None, "multiplications": None, "latency_ms": latency_ms}
    multiplications = [cost.multiplications for cost in costs if cost.multiplications is not None]
    return {
        "parameters": sum(cost.parameters for cost in costs),
        "bytes": sum(cost.bytes for cost in costs),
        "multiplications": sum(multiplications) if len(multiplications) == len(costs) else None,
        "latency_ms": latency_ms,
    }


def error_difference(name: str, minus: str, logits: Mapping[str, Sequence[Tensor]], labels: Tensor) -> Row:
    """One student minus another in test errors: over seeds (paired, t), and over test examples (bootstrap)."""
    wrong = [torch.stack([wrong_of(logits, labels) for logits in logits[key]]) for key in (name, minus)]
    over_examples = intervals.bootstrap_difference(*wrong, seed=0)
    low, high = len(labels) * over_examples.low, len(labels) * over_examples.high
    return difference(name, minus, *(one.sum(1).tolist() for one in wrong), low_examples=low, high_examples=high)


def nll_difference(name: str, minus: str, logits: Mapping[str, Sequence[Tensor]], labels: Tensor) -> Row:
    """One student minus another in negative log-likelihood on test, nats, over seeds."""
    nll = ([metrics.negative_log_likelihood(one, labels) for one in logits[key]] for key in (name, minus))
    return difference(name, minus, *nll)


def wrong_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Which examples a network gets wrong, (examples,)."""
    return logits.argmax(-1) != labels


def fidelity(students: Sequence[Tensor], teacher: Tensor, prefix: str) -> Row:
    """Agreement with and KL from the teacher, mean over students."""
    n = len(students)
    return {
        f"{prefix}_agreement": sum(float(metrics.agreement(one, teacher)) for one in students) / n,
        f"{prefix}_kl": sum(float(metrics.kl_from_teacher(one, teacher)) for one in students) / n,
    }


def train_fidelity(plan: Plan, kinds: Sequence[str]) -> dict[str, Row]:
    """`fidelity` of each kind of student on unchanged examples of the transfer set.

    A top-k store that was not written for temperature 1 gives no probabilities there: the KL is then None.
    """
    device = plan.execution.device
    data = training_data(plan.splits, plan.config.transfer)
    data = data.subset(data.ids[:: -(-len(data) // MOST_EXAMPLES)]).to(device)
    store = None if plan.config.targets is None else SoftTargetStore.open(plan.config.targets)
    has_probs = store is None or store.top_k is None or 1.0 in store.temperatures
    teacher = _teacher_on(plan, data, store, 1.0 if has_probs or store is None else min(store.temperatures))
    found = {}
    for kind in kinds:
        networks = [load_run_network(plan.path / "jobs" / f"{kind}/seed-{seed}") for seed in plan.seeds]
        students = [predict_logits(network.to(device), data, device=device) for network in networks]
        found[kind] = fidelity(students, teacher, "train_teacher")
        if not has_probs:
            found[kind]["train_teacher_kl"] = None
    return found


def stored_on_train(plan: Plan) -> tuple[Tensor, Tensor]:
    """Logits of stored teachers on some examples, and the labels of these."""
    store = SoftTargetStore.open(str(plan.config.targets))
    data = training_data(plan.splits, plan.config.control)
    data = data.subset(judged_ids(data))
    return _teacher_on(plan, data, store, min(store.temperatures)), data.labels(data.ids)


def _teacher_on(plan: Plan, data: Dataset, store: SoftTargetStore | None, temperature: float) -> Tensor:
    """Logits of what taught, on view 0 of some examples."""
    device = plan.execution.device
    ask: Any
    if store is not None:
        ask = partial(store.soft_targets, temperature=temperature, mean=plan.config.ensemble_mean)
        ids = data.ids.cpu()
    else:
        needs = {name: plan.path / "jobs" / name for name in plan.teaching.needs}
        soft = plan.teaching.soft_settings(LossSettings(temperature=temperature))
        ask, ids = targets_of(soft, needs, data, device), data.ids
    found = [_laid_out(ask(part, 0), data.num_classes) for part in torch.split(ids, 1000)]
    return torch.cat([_log_probs(one) for one in found]).to(device)


def _laid_out(targets: AnyTargets, num_classes: int) -> SoftTargets:
    """Soft targets over all classes, from those of a store that keeps few classes, or hidden states."""
    if isinstance(targets, SparseTargets):
        return SoftTargets(targets.laid_out(num_classes), targets.temperature)
    if isinstance(targets, HeadTargets):
        return SoftTargets(targets.rows()(slice(None)), targets.temperature)
    assert isinstance(targets, SoftTargets)
    return targets


def training_curve(network: str, fits: Sequence[Path]) -> list[Row]:
    """Validation errors after each epoch, mean over fits; `low` to `high` is one sd to each side."""
    rows = []
    for lines in zip(*(Run.read(fit).result()["rows"] for fit in fits), strict=False):
        errors = intervals.over_seeds([line["validation_errors"] for line in lines])
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
    """Mean confidence and accuracy in tenths of the test examples by confidence; of few in fewer parts."""
    rows = []
    num_parts = min(10, max(1, len(labels) // _FEWEST_OF_A_PART))
    for network, several in logits.items():
        probs, predicted = torch.cat(list(several)).softmax(-1).max(-1)
        right = (predicted == labels.repeat(len(several))).double()
        rows += [
            {"network": network, "confidence": float(probs[part].mean()), "accuracy": float(right[part].mean())}
            for part in probs.argsort().chunk(num_parts)
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
            best, half = levels_of([one for one in tuning if one["name"] == kind], key)
            for level in best:
                errors, half_width = level["validation_errors"], half or 0.0
                low, high = max(errors - half_width, 0.0), errors + half_width
                levels.append({"network": kind, "value": level[key], "errors": errors, "low": low, "high": high})
        if len({level["value"] for level in levels}) > 1:
            sentence = sensitivity([one for one in tuning if one["name"] == kinds[-1]], key)
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
