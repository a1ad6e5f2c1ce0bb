"""Distillation or transfer? One student on few examples: from scratch, transferred, distilled, both.

Every seed has a base, a teacher and four students of its own; the students of a seed start alike and see the data
in the same order, so each difference is paired. Nothing is chosen: test is read once, at the last epoch.
"""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import Job, open_engine, run_jobs
from instar.networks import layers_of
from instar.recipes.advise.plan import few_examples
from instar.recipes.fitting import LOGITS_OF, build_for, fit_job, load_run_network, load_splits, logits_job
from instar.recipes.publishing import time_spent
from instar.recipes.settings import DataSettings, FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.transfer.jobs import CopySettings, treatment_job
from instar.runs import Run, run_hash
from instar.transfer import Treatment

TEACHER, SCRATCH, TRANSFERRED, DISTILLED, BOTH = "teacher", "from scratch", "transferred", "distilled", "both"
STUDENTS = (SCRATCH, TRANSFERRED, DISTILLED, BOTH)
PAIRS = ((TRANSFERRED, DISTILLED), (BOTH, TRANSFERRED), (BOTH, DISTILLED))


class CompareConfig(Settings):
    """The configuration of `instar reproduce transfer-or-distil`."""

    scale: str
    source: DataSettings
    data: DataSettings
    examples_per_class: int
    """of the target, training and validation together"""
    student: FitSettings
    base_epochs: int
    """of the student's architecture on the source"""
    teacher: FitSettings
    """a bigger network on the same few examples of the target"""
    temperature: Temperature = 4.0
    soft_weight: float = 1.0
    hard_weight: float = 0.1
    seeds: Annotated[int, Field(ge=2)] = 5


@dataclass(frozen=True)
class Plan:
    """A configuration and where it is run."""

    config: CompareConfig
    path: Path
    device: str = "cpu"

    @cached_property
    def target(self) -> DataSettings:
        """Few examples of the target."""
        return few_examples(self.config.data, self.config.examples_per_class)

    @cached_property
    def treatment(self) -> Treatment:
        """All layers but the last, learning on."""
        splits = load_splits(self.target)
        network = build_for(self.config.student, splits, seed=0)
        num_layers = len(layers_of(network, splits.train.gather(splits.train.ids[:2], 0)))
        return Treatment("A", "B", num_layers - 1, fine_tune=True)

    def jobs(self) -> list[Job]:
        """Of every seed: base, teacher, what it says, and four students."""
        return [job for seed in range(self.config.seeds) for job in self._jobs_of(seed)]

    def _jobs_of(self, seed: int) -> list[Job]:
        config = self.config
        base, teacher = job_name("base", seed), job_name(TEACHER, seed)
        soft = SoftSettings(
            teachers=[teacher],
            temperature=config.temperature,
            soft_weight=config.soft_weight,
            hard_weight=config.hard_weight,
        )
        asked = (teacher, teacher + LOGITS_OF)
        on_source = config.student.model_copy(update={"epochs": config.base_epochs})
        return [
            self._fit(base, on_source, config.source, seed),
            self._fit(teacher, config.teacher, self.target, seed),
            logits_job(teacher, self.target, device=self.device),
            self._fit(job_name(SCRATCH, seed), config.student, self.target, seed),
            self._fit(job_name(DISTILLED, seed), config.student, self.target, seed, soft=soft, needs=asked),
            self._transfer(job_name(TRANSFERRED, seed), base, seed),
            self._transfer(job_name(BOTH, seed), base, seed, soft=soft, teachers=asked),
        ]

    def _fit(self, name: str, settings: FitSettings, data: DataSettings, seed: int, **options: Any) -> Job:
        rate = settings.learning_rate[0]
        return fit_job(
            self.path, name, settings, data, seed=seed, learning_rate=rate, device=self.device, **options
        )

    def _transfer(self, name: str, base: str, seed: int, **options: Any) -> Job:
        return treatment_job(
            self.path,
            name,
            self.treatment,
            self.config.student,
            self.target,
            base=base,
            seed=seed,
            copied=CopySettings(),
            device=self.device,
            **options,
        )


def job_name(kind: str, seed: int) -> str:
    """The job of a network of one seed.

    Example:
        >>> job_name("from scratch", 2)
        'from-scratch/seed-2'
    """
    return f"{kind.replace(' ', '-')}/seed-{seed}"


def run_path(config: CompareConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/reproduce/transfer-or-distil-SCALE-HASH`."""
    fingerprint = load_splits(config.data).fingerprint
    hashed = run_hash("transfer-or-distil", config.model_dump(), data_fingerprint=fingerprint)
    return root / "reproduce" / f"transfer-or-distil-{config.scale}-{hashed}"


def main(
    config: CompareConfig, path: Path, *, device: str = "cpu", engine: str = "local", quiet: bool = False
) -> dict[str, Any]:
    """Train everything, or go on, and compare: the content of `result.json`."""
    from instar.recipes.transfer_or_distil.page import write_compare_page

    plan = Plan(config, path, device)
    with Run(path, recipe="transfer-or-distil", config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            run_jobs(plan.jobs(), path, engine=workers, quiet=quiet).raise_if_failed()
        result = compare_result(plan)
        result |= time_spent(path, started)
        write_compare_page(run, plan, result)
        run.finish(result)
        return run.result()


def compare_result(plan: Plan) -> dict[str, Any]:
    """Accuracy on test of every kind of network, and the paired differences."""
    splits = load_splits(plan.target)
    test, labels = splits.test, splits.test.labels(splits.test.ids)
    accuracy = {
        kind: [
            100 * metrics.accuracy(predict_logits(load_run_network(plan.path / "jobs" / job), test), labels)
            for job in (job_name(kind, seed) for seed in range(plan.config.seeds))
        ]
        for kind in (TEACHER, *STUDENTS)
    }
    rows = []
    for kind, values in accuracy.items():
        row: dict[str, Any] = {"name": kind, **metrics.over_seeds(values)._asdict(), "unit": "percent"}
        if kind in STUDENTS[1:]:
            minus = metrics.paired_difference(values, accuracy[SCRATCH])
            row |= {"difference": minus.mean, "difference_low": minus.low, "difference_high": minus.high}
        rows.append(row)
    return {
        "metrics": {row["name"]: row["mean"] for row in rows},
        "rows": rows,
        "differences": [
            {"name": f"{one} - {other}", **metrics.paired_difference(accuracy[one], accuracy[other])._asdict()}
            for one, other in PAIRS
        ],
        "treatment": plan.treatment.name,
        "num_train": len(splits.train),
        "num_test": len(test),
    }
