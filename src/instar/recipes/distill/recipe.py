"""Teach a big network, distil it into a small one, and compare that with the small one taught alone.

The control has the same budget, the same seeds and as good a learning rate: where several are given, validation
chooses for both, with other seeds than those that are reported. Test is read once, at the end.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.deploy import cost_of
from instar.distillation import SoftTargetStore
from instar.evaluation import predict_logits, score
from instar.jobs import JobReport, open_engine, run_jobs
from instar.losses import ensemble_soft_targets
from instar.recipes.distill.fidelity import fidelity, log_probs, train_fidelity
from instar.recipes.distill.plan import ALONE, CORRECTED, DISTILLED, KINDS, Choice, Plan
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.distill.tuning import sensitivity, tuning_rows
from instar.recipes.fitting import load_run_network, load_splits, training_data
from instar.recipes.publishing import time_spent
from instar.recipes.settings import as_text
from instar.runs import Run, run_hash


@dataclass(frozen=True)
class Trial:
    """Everything that the page shows: the networks' logits on test, with the choices that led to them."""

    member_logits: Tensor | None
    """of the teachers, (members, examples, classes); None where stored targets taught"""
    teacher_logits: Tensor | None
    """of the ensemble, (examples, classes): their softmax is the mean of the members' probabilities"""
    student_logits: dict[str, list[Tensor]]
    labels: Tensor
    chosen: dict[str, Choice]
    tried: list[Choice]


def run_path(config: DistillConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/distill/DATA-TEACHER-STUDENT-HASH`."""
    splits = load_splits(config.data)
    many = f"{config.teachers}x" if config.teachers > 1 else ""
    names = [splits.name, config.targets or many + config.teacher.network, config.student.network]
    slug = "-".join(Path(name.replace(":", "-").replace(",", "+")).name for name in names)
    fingerprints = [splits.fingerprint]
    if config.transfer.folder is not None:
        fingerprints.append(training_data(splits, config.transfer).fingerprint)
    if config.targets is not None:
        fingerprints += SoftTargetStore.open(config.targets).settings.teachers.values()
    hashed = run_hash("distill", config.model_dump(), data_fingerprint=" ".join(fingerprints))
    return root / "distill" / f"{slug}-{hashed}"


def main(
    config: DistillConfig,
    path: Path,
    *,
    device: str = "cpu",
    engine: str = "local",
    processes: int = 1,
    tensorboard: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the whole experiment, or go on with it, or read what it found.

    Args:
        config: what to do.
        path: the run directory.
        device: where to compute; does not belong to the configuration.
        engine: of the jobs.
        processes: how many share one fit.
        tensorboard: write TensorBoard's event files beside each `metrics.jsonl`.
        quiet: show no progress.

    Returns:
        The content of `result.json`.
    """
    from instar.recipes.distill.page import write_distill_page

    plan = Plan(config, path, device, processes, tensorboard)
    plan.check()
    with Run(path, recipe="distill", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            first = [*plan.teacher_jobs, *plan.tuning_jobs()]
            report = run_jobs(first, path, engine=workers, title="part 1 of 2", quiet=quiet)
            tried, chosen = choose(plan, report)
            finals = [*plan.teacher_jobs, *plan.student_jobs(list(chosen.values()))]
            run_jobs(finals, path, engine=workers, title="part 2 of 2", quiet=quiet).raise_if_failed()
        trial = _read_test(plan, chosen, tried)
        result = _result(plan, trial)
        result |= time_spent(path, started)
        write_distill_page(run, plan, trial, result)
        run.finish(result)
        return run.result()


def choose(plan: Plan, report: JobReport) -> tuple[list[Choice], dict[str, Choice]]:
    """All candidates with what validation said of them, and the best of each kind of student.

    A candidate of which a fit failed (too high a learning rate) is out, as long as another of its kind is left.

    Raises:
        InstarError: a teacher failed, or all candidates of a kind.
    """
    if not {job.name for job in plan.teacher_jobs}.isdisjoint(report.failed):
        report.raise_if_failed()
    tried = [_judged(choice, plan, report.failed) for choice in plan.choices()]
    left = {kind: [choice for choice in tried if choice.kind == kind and not choice.failed] for kind in KINDS}
    if not all(left.values()):
        report.raise_if_failed()
    return tried, {kind: _best(choices) for kind, choices in left.items()}


def _judged(choice: Choice, plan: Plan, failed: Mapping[str, str]) -> Choice:
    if not plan.has_rivals(choice):
        return choice
    names = [f"{plan.tuning_name(choice)}/seed-{seed}" for seed in plan.tuning_seeds]
    if reasons := [failed[name] for name in names if name in failed]:
        return dataclasses.replace(choice, failed=reasons[0])
    found = [Run.read(plan.path / "jobs" / name).result()["metrics"] for name in names]
    errors = metrics.over_seeds([one["validation_errors"] for one in found])
    nll = sum(one["validation_nll"] for one in found) / len(found)
    return dataclasses.replace(choice, validation_errors=errors, validation_nll=nll)


def _best(choices: Sequence[Choice]) -> Choice:
    def judged(choice: Choice) -> tuple[float, float]:
        errors = choice.validation_errors
        return (errors.mean if errors else 0.0), (choice.validation_nll or 0.0)

    return min(choices, key=judged)


def _read_test(plan: Plan, chosen: dict[str, Choice], tried: list[Choice]) -> Trial:
    """The only place that reads test."""
    test = load_splits(plan.config.data).test

    def logits(name: str) -> Tensor:
        return predict_logits(load_run_network(plan.path / "jobs" / name), test)

    kinds = [*KINDS, CORRECTED] if plan.config.fit_bias else KINDS
    members = torch.stack([logits(member.job) for member in plan.members]) if plan.members else None
    return Trial(
        member_logits=members,
        teacher_logits=None if members is None else _together(members, plan.config.ensemble_mean),
        student_logits={kind: [logits(f"{kind}/seed-{seed}") for seed in plan.seeds] for kind in kinds},
        labels=test.labels(test.ids),
        chosen=chosen,
        tried=tried,
    )


def _together(member_logits: Tensor, mean: str) -> Tensor:
    """Logits of an ensemble; of one teacher its own."""
    if len(member_logits) == 1:
        return member_logits[0]
    return log_probs(ensemble_soft_targets(member_logits, 1.0, mean=mean))


def _result(plan: Plan, trial: Trial) -> dict[str, Any]:
    config, test = plan.config, load_splits(plan.config.data).test
    rows = [] if trial.teacher_logits is None else [_teacher_row(plan, trial, trial.teacher_logits)]
    on_train = train_fidelity(plan, list(trial.student_logits))
    for kind, logits in trial.student_logits.items():
        row = _row(kind, config.student.network, logits, trial.labels)
        if trial.teacher_logits is not None:
            row |= fidelity(logits, trial.teacher_logits, "teacher")
        row |= on_train[kind] | _cost([plan.path / "jobs" / kind / f"seed-{config.seed}"], test.example_shape)
        row |= as_text(trial.chosen[DISTILLED if kind == CORRECTED else kind].settings)
        rows.append(row if kind == ALONE else row | _difference(trial, kind))
    tuning = tuning_rows(trial.tried)
    distilled = next(row for row in rows if row["name"] == DISTILLED)
    result = {
        "metrics": {key: distilled[key] for key in ("difference", "difference_low", "difference_high")},
        "rows": rows,
        "tuning": tuning,
        "sensitivity": sensitivity(tuning),
        "num_test": len(test),
        "num_transfer": len(training_data(load_splits(config.data), config.transfer)),
        "seeds": list(plan.seeds),
    }
    if trial.member_logits is not None and len(trial.member_logits) > 1:
        result["members"] = _member_rows(plan, trial.member_logits, trial.labels)
    if config.fit_bias:
        result["missing_classes"] = plan.missing
        result["class_bias"] = _class_bias(plan)
    return result


def _teacher_row(plan: Plan, trial: Trial, logits: Tensor) -> dict[str, Any]:
    shape = load_splits(plan.config.data).test.example_shape
    row = _row("teacher", plan.teacher_name, [logits], trial.labels)
    return row | _cost([plan.path / "jobs" / member.job for member in plan.members], shape)


def _member_rows(plan: Plan, member_logits: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    return [
        {
            "name": member.job.rpartition("/")[2],
            "network": member.settings.network,
            **{f"test_{key}": value for key, value in score(logits, labels).items()},
        }
        for member, logits in zip(plan.members, member_logits, strict=True)
    ]


def _class_bias(plan: Plan) -> dict[str, float]:
    """What the correction added to the logits of each class that it moved, mean over seeds."""
    jobs = [plan.path / "jobs" / CORRECTED / f"seed-{seed}" for seed in plan.seeds]
    found = [Run.read(job).result()["rows"][0]["bias"] for job in jobs]
    return {name: sum(bias[name] for bias in found) / len(found) for name in plan.moved}


def _row(name: str, network: str, logits: Sequence[Tensor], labels: Tensor) -> dict[str, Any]:
    scores = [score(one, labels) for one in logits]
    errors = metrics.over_seeds([one["errors"] for one in scores])
    row = {f"test_{key}": sum(one[key] for one in scores) / len(scores) for key in scores[0]}
    return {"name": name, "network": network, **row, "mean": errors.mean, "sd": errors.sd, "n": errors.n}


def _cost(jobs: Sequence[Path], input_shape: Sequence[int]) -> dict[str, Any]:
    """Of several networks, an ensemble, the sum."""
    costs = [cost_of(load_run_network(job), input_shape) for job in jobs]
    multiplications = [cost.multiplications for cost in costs if cost.multiplications is not None]
    return {
        "parameters": sum(cost.parameters for cost in costs),
        "bytes": sum(cost.bytes for cost in costs),
        "multiplications": sum(multiplications) if len(multiplications) == len(costs) else None,
        "latency_ms": round(sum(cost.latency_ms for cost in costs), 4),
    }


def _difference(trial: Trial, kind: str) -> dict[str, Any]:
    """A student minus alone, in test errors: over seeds (paired, t), and over test examples (bootstrap)."""
    distilled, alone = (
        [wrong_of(logits, trial.labels) for logits in trial.student_logits[one]] for one in (kind, ALONE)
    )
    over_seeds = metrics.paired_difference([int(w.sum()) for w in distilled], [int(w.sum()) for w in alone])
    over_examples = metrics.bootstrap_difference(torch.stack(distilled), torch.stack(alone), seed=0)
    count = len(trial.labels)
    return {
        "difference": over_seeds.mean,
        "difference_sd": over_seeds.sd,
        "difference_low": over_seeds.low,
        "difference_high": over_seeds.high,
        "difference_low_examples": count * over_examples.low,
        "difference_high_examples": count * over_examples.high,
    }


def wrong_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Which examples a network gets wrong, (examples,)."""
    return logits.argmax(-1) != labels
