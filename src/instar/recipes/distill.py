"""Teach a big network, distil it into a small one, and compare that with the small one taught alone.

The control has the same budget, the same seeds and as good a learning rate: where several are given, validation
chooses for both, with other seeds than those that are reported. Test is read once, at the end.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from instar import metrics
from instar.deploy import cost_of
from instar.errors import UsageError
from instar.evaluation import predict_logits, score
from instar.jobs import Job, open_engine, run_jobs
from instar.recipes.fitting import (
    adopt_job,
    build_for,
    fit_job,
    is_run,
    load_network,
    load_run_network,
    load_splits,
    logits_job,
)
from instar.recipes.settings import (
    Candidates,
    CandidateWeights,
    DataSettings,
    FitSettings,
    Settings,
    SoftSettings,
    checked,
    merge,
    read_config_file,
)
from instar.runs import Run, run_hash

TUNING_SEED = 10_000  # tuning uses seeds from here on: none of them is ever reported
KINDS = ALONE, DISTILLED = "student-alone", "student-distilled"


class DistillConfig(Settings):
    """The configuration of `instar distill`."""

    data: DataSettings = DataSettings()
    teacher: FitSettings = FitSettings(network="mlp:1200x2", epochs=40, learning_rate=[0.05])
    student: FitSettings = FitSettings(network="mlp:8x1", learning_rate=[0.03, 0.1])
    """taught twice: alone and distilled"""
    temperature: Candidates = [2.0, 4.0, 8.0]
    """of the soft targets; of several, validation chooses"""
    soft_weight: CandidateWeights = [1.0]
    hard_weight: CandidateWeights = [0.1]
    seeds: Annotated[int, Field(ge=1)] = 5
    """how many students of each kind are reported"""
    seed: int = 0
    """the first of them, and the teacher's"""
    tuning_seeds: Annotated[int, Field(ge=1)] = 2
    """how many other seeds validation chooses with"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if 0 in self.soft_weight and 0 in self.hard_weight:
            raise UsageError("soft_weight and hard_weight are both 0: nothing to learn from")
        if len(self.teacher.learning_rate) > 1:
            raise UsageError("teacher.learning_rate takes one value; only the students' is chosen on validation")
        return self


_DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": {
        "teacher": {"views": "jitter:2"},
        "student": {"learning_rate": [0.01, 0.03]},
        "temperature": [1, 2, 4],
    }
}
"""Where other data than the digits start from; found on their validation examples."""


def read_config(typed: Mapping[str, Any], config_file: Path | None = None) -> DistillConfig:
    """Defaults that fit the data, then a TOML file, then what was typed.

    Args:
        typed: nested settings; None means not typed.
        config_file: a TOML file, or the `config.toml` of a run.

    Raises:
        UsageError: names the first key that is unknown or whose value is wrong.
    """
    content = merge(read_config_file(config_file), typed)
    base = DistillConfig().model_dump()
    data = merge(base, content)["data"]
    name = data["name"] if isinstance(data, Mapping) else None
    return checked(DistillConfig, merge(merge(base, _DEFAULTS.get(str(name), {})), content))


@dataclass(frozen=True)
class Choice:
    """One candidate setting of a kind of student, and what validation said of it."""

    kind: str
    learning_rate: float
    soft: dict[str, float] | None
    validation_errors: float | None = None
    validation_nll: float | None = None

    @property
    def settings(self) -> dict[str, float]:
        """By the names that the configuration has for them."""
        return {"learning_rate": self.learning_rate, **(self.soft or {})}


@dataclass(frozen=True)
class Trial:
    """Everything that the page shows: the networks' logits on test, with the choices that led to them."""

    teacher_logits: Tensor
    student_logits: dict[str, list[Tensor]]
    labels: Tensor
    chosen: dict[str, Choice]
    tried: list[Choice]


def run_path(config: DistillConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/distill/DATA-TEACHER-STUDENT-HASH`."""
    splits = load_splits(config.data)
    names = [splits.name, config.teacher.network, config.student.network]
    slug = "-".join(Path(name.replace(":", "-")).name for name in names)
    return (
        root
        / "distill"
        / f"{slug}-{run_hash('distill', config.model_dump(), data_fingerprint=splits.fingerprint)}"
    )


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
    from instar.recipes.distill_page import write_distill_page

    _check_networks(config)
    with Run(path, recipe="distill", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        options = {"device": device, "processes": processes, "tensorboard": tensorboard}
        prepared = _teacher_jobs(config, path, options)
        tried = _candidates(config)
        tuning = [job for choice in tried for job in _tuning_jobs(config, path, choice, prepared, options)]
        with open_engine(engine) as workers:
            run_jobs([*prepared, *tuning], path, engine=workers, quiet=quiet).raise_if_failed()
            tried = [_judged(choice, config, path) for choice in tried]
            chosen = {kind: _best([choice for choice in tried if choice.kind == kind]) for kind in KINDS}
            finals = [job for kind in KINDS for job in _final_jobs(config, path, chosen[kind], prepared, options)]
            run_jobs([*prepared, *finals], path, engine=workers, quiet=quiet).raise_if_failed()
        trial = _read_test(config, path, chosen, tried)
        result = _result(config, path, trial)
        result["seconds"] = round(time.monotonic() - started, 1)
        write_distill_page(run, config, trial, result)
        run.finish(result)
        return run.result()


def _check_networks(config: DistillConfig) -> None:
    """What cannot be made is found before a run directory is."""
    splits = load_splits(config.data)
    build_for(config.student, splits, seed=0)
    load_network(config.teacher, splits)


def _teacher_jobs(config: DistillConfig, path: Path, options: dict[str, Any]) -> list[Job]:
    teacher = config.teacher
    if teacher.pretrained or "@" in teacher.network or is_run(teacher.network):
        jobs = [adopt_job("teacher", teacher, config.data)]
    else:
        rate = teacher.learning_rate[0]
        jobs = [fit_job(path, "teacher", teacher, config.data, seed=config.seed, learning_rate=rate, **options)]
    if config.student.views == "none":  # each epoch sees the same examples: the teacher is asked once
        jobs.append(logits_job("teacher", config.data, device=options["device"]))
    return jobs


def _candidates(config: DistillConfig) -> list[Choice]:
    rates = config.student.learning_rate
    soft = itertools.product(config.temperature, config.soft_weight, config.hard_weight)
    keys = ("temperature", "soft_weight", "hard_weight")
    alone = [Choice(ALONE, rate, None) for rate in rates]
    distilled = [
        Choice(DISTILLED, rate, dict(zip(keys, values, strict=True))) for values in soft for rate in rates
    ]
    return alone + distilled


def _tuning_jobs(
    config: DistillConfig, path: Path, choice: Choice, prepared: Sequence[Job], options: dict[str, Any]
) -> list[Job]:
    if not _has_rivals(choice, config):
        return []
    seeds = _tuning_seeds(config)
    return [
        _student_job(config, path, _tuning_name(config, choice), choice, seed, prepared, options) for seed in seeds
    ]


def _tuning_name(config: DistillConfig, choice: Choice) -> str:
    """The name of the jobs that try a choice: what it varies, and no more."""
    candidates = {"learning_rate": config.student.learning_rate, **config.model_dump()}
    varied = [key for key in choice.settings if len(candidates[key]) > 1]
    return f"tuning/{choice.kind}/" + "-".join(
        f"{key.replace('_', '-')}-{choice.settings[key]:g}" for key in varied
    )


def _has_rivals(choice: Choice, config: DistillConfig) -> bool:
    return sum(other.kind == choice.kind for other in _candidates(config)) > 1


def _tuning_seeds(config: DistillConfig) -> range:
    return range(config.seed + TUNING_SEED, config.seed + TUNING_SEED + config.tuning_seeds)


def _seeds(config: DistillConfig) -> range:
    return range(config.seed, config.seed + config.seeds)


def _final_jobs(
    config: DistillConfig, path: Path, choice: Choice, prepared: Sequence[Job], options: dict[str, Any]
) -> list[Job]:
    return [_student_job(config, path, choice.kind, choice, seed, prepared, options) for seed in _seeds(config)]


def _student_job(
    config: DistillConfig,
    path: Path,
    prefix: str,
    choice: Choice,
    seed: int,
    prepared: Sequence[Job],
    options: dict[str, Any],
) -> Job:
    return fit_job(
        path,
        f"{prefix}/seed-{seed}",
        config.student,
        config.data,
        seed=seed,
        learning_rate=choice.learning_rate,
        soft=checked(SoftSettings, choice.soft) if choice.soft else None,
        needs=tuple(job.name for job in prepared) if choice.soft else (),
        **options,
    )


def _judged(choice: Choice, config: DistillConfig, path: Path) -> Choice:
    if not _has_rivals(choice, config):
        return choice
    found = [
        Run.read(path / "jobs" / _tuning_name(config, choice) / f"seed-{seed}").result()["metrics"]
        for seed in _tuning_seeds(config)
    ]
    return Choice(
        choice.kind,
        choice.learning_rate,
        choice.soft,
        sum(one["validation_errors"] for one in found) / len(found),
        sum(one["validation_nll"] for one in found) / len(found),
    )


def _best(choices: Sequence[Choice]) -> Choice:
    return min(choices, key=lambda choice: (choice.validation_errors or 0, choice.validation_nll or 0))


def _read_test(config: DistillConfig, path: Path, chosen: dict[str, Choice], tried: list[Choice]) -> Trial:
    """The only place that reads test."""
    test = load_splits(config.data).test

    def logits(name: str) -> Tensor:
        return predict_logits(load_run_network(path / "jobs" / name), test)

    return Trial(
        teacher_logits=logits("teacher"),
        student_logits={kind: [logits(f"{kind}/seed-{seed}") for seed in _seeds(config)] for kind in chosen},
        labels=test.labels(test.ids),
        chosen=chosen,
        tried=tried,
    )


def _result(config: DistillConfig, path: Path, trial: Trial) -> dict[str, Any]:
    test = load_splits(config.data).test
    rows = [_row("teacher", config.teacher.network, [trial.teacher_logits], trial)]
    rows += [_row(kind, config.student.network, trial.student_logits[kind], trial) for kind in KINDS]
    for row in rows:
        job = "teacher" if row["name"] == "teacher" else f"{row['name']}/seed-{config.seed}"
        row |= _cost(load_run_network(path / "jobs" / job), test.example_shape)
    for kind, choice in trial.chosen.items():
        next(row for row in rows if row["name"] == kind).update(choice.settings)
    rows[2] |= _difference(trial)
    return {
        "metrics": {key: rows[2][key] for key in ("difference", "difference_low", "difference_high")},
        "rows": rows,
        "tuning": [
            {"name": choice.kind, **choice.settings, "validation_errors": choice.validation_errors}
            for choice in trial.tried
            if choice.validation_errors is not None
        ],
        "num_test": len(test),
        "seeds": list(_seeds(config)),
    }


def _row(name: str, network: str, logits: Sequence[Tensor], trial: Trial) -> dict[str, Any]:
    scores = [score(one, trial.labels) for one in logits]
    errors = metrics.over_seeds([one["errors"] for one in scores])
    row = {f"test_{key}": sum(one[key] for one in scores) / len(scores) for key in scores[0]}
    if name != "teacher":
        pairs = [(one, trial.teacher_logits) for one in logits]
        row["teacher_agreement"] = sum(float(metrics.agreement(*pair)) for pair in pairs) / len(pairs)
        row["teacher_kl"] = sum(float(metrics.kl_from_teacher(*pair)) for pair in pairs) / len(pairs)
    return {"name": name, "network": network, **row, "mean": errors.mean, "sd": errors.sd, "n": errors.n}


def _cost(network: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    cost = cost_of(network, input_shape)
    return {
        "parameters": cost.parameters,
        "bytes": cost.bytes,
        "multiplications": cost.multiplications,
        "latency_ms": round(cost.latency_ms, 4),
    }


def _difference(trial: Trial) -> dict[str, Any]:
    """Distilled minus alone, in test errors: over seeds (paired, t), and over test examples (bootstrap)."""
    distilled, alone = (
        [wrong_of(logits, trial.labels) for logits in trial.student_logits[kind]] for kind in (DISTILLED, ALONE)
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
