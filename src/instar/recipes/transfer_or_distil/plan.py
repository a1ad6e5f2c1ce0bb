"""What distilling is compared with transferring on, and the jobs that it takes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar.jobs import Job
from instar.networks import layers_of
from instar.recipes.advise.plan import few_examples
from instar.recipes.fitting import LOGITS_OF, build_for, fit_job, load_splits, logits_job
from instar.recipes.settings import DataSettings, FitSettings, Settings, SoftSettings, Temperature
from instar.recipes.transfer.jobs import CopySettings, treatment_job
from instar.recipes.transfer.plan import TREATMENT_SEED
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
        own = TREATMENT_SEED + seed  # of the students: their new layers start elsewhere than the base's
        on_source = config.student.model_copy(update={"epochs": config.base_epochs})
        return [
            self._fit(base, on_source, config.source, seed),
            self._fit(teacher, config.teacher, self.target, seed),
            logits_job(teacher, self.target, device=self.device),
            self._fit(job_name(SCRATCH, seed), config.student, self.target, own),
            self._fit(job_name(DISTILLED, seed), config.student, self.target, own, soft=soft, needs=asked),
            self._transfer(job_name(TRANSFERRED, seed), base, own),
            self._transfer(job_name(BOTH, seed), base, own, soft=soft, teachers=asked),
        ]

    def _fit(self, name: str, settings: FitSettings, data: DataSettings, seed: int, **options: Any) -> Job:
        return fit_job(self.path, name, settings, data, seed=seed, device=self.device, **options)

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
