"""The jobs of `instar reproduce texts`: teachers, their answers, and the students, for each seed.

A seed has teachers and students of its own. Nothing is chosen: every network is trained as configured, and is
evaluated on test once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instar.data import Splits
from instar.errors import UsageError
from instar.jobs import Job
from instar.recipes.distill.students import TEACHER_SEED
from instar.recipes.fitting import LOGITS_OF, fit_job
from instar.recipes.loading import refuse_weights, try_network
from instar.recipes.reading_settings import checked
from instar.recipes.scales import choose_scale
from instar.recipes.settings import (
    Count,
    DataSettings,
    FitSettings,
    Settings,
    SoftSettings,
    Temperature,
    TransferSettings,
)
from instar.recipes.splits import load_splits
from instar.recipes.study import DEFAULT, Execution
from instar.recipes.teacher_answers import logits_job
from instar.recipes.texts.tfidf import TfidfSettings, tfidf_jobs

TFIDF, ENSEMBLE, ALONE, DISTILLED = "tf-idf", "ensemble", "student alone", "student distilled"
STUDENTS = (ALONE, DISTILLED)
FEW = "few labels: "
"""Before the name of what has the labels of a share of the training examples alone."""


class TextsConfig(Settings):
    """The configuration of `instar reproduce texts`."""

    scale: str
    data: DataSettings
    teachers: Annotated[list[FitSettings], Field(min_length=1)]
    """the networks of the ensemble; the linear model is one more member"""
    tfidf: TfidfSettings = TfidfSettings()
    student: FitSettings
    temperature: Temperature
    soft_weight: float = 1.0
    hard_weight: float = 0.1
    labelled: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """share of the training examples with a label, where there are few; the rest is there without"""
    few_times: Count = 4
    """times as many epochs for networks that learn from the few labelled examples alone"""
    seeds: Annotated[int, Field(ge=2)] = 5


def config_for(scale: str, data: str) -> TextsConfig:
    """The configuration of a scale on a data set.

    Raises:
        UsageError: there is no such scale.
    """
    content = choose_scale("texts", data, scale)
    return checked(TextsConfig, {**content, "data": {**content.get("data", {}), "name": data}})


@dataclass(frozen=True)
class TextsPlan:
    """A configuration, its run directory, and how it is run."""

    config: TextsConfig
    path: Path
    execution: Execution = DEFAULT

    @cached_property
    def splits(self) -> Splits:
        """The data."""
        return load_splits(self.config.data)

    @property
    def teachers(self) -> list[str]:
        """The names of the networks in the ensemble; of several alike each has a number."""
        networks = [one.network for one in self.config.teachers]
        return [
            f"{name} ({networks[:place].count(name) + 1})" if networks.count(name) > 1 else name
            for place, name in enumerate(networks)
        ]

    def transfer(self, few: str, seed: int) -> TransferSettings:
        """What is learned from with labels."""
        return TransferSettings(fraction=self.config.labelled, seed=seed) if few else TransferSettings()

    def members(self, few: str, seed: int) -> list[str]:
        """The jobs of the ensemble: networks, then the linear model; with all labels there is one of it."""
        linear = job_name(few, TFIDF, seed) if few else TFIDF
        return [*(job_name(few, name, seed) for name in self.teachers), linear]

    def jobs(self) -> list[Job]:
        """All of them."""
        found = tfidf_jobs(TFIDF, self.config.tfidf, self.config.data, TransferSettings())
        for seed in range(self.config.seeds):
            for few in ("", FEW):
                found += self._jobs_of(few, seed)
        return found

    def _jobs_of(self, few: str, seed: int) -> list[Job]:
        config, transfer, times = self.config, self.transfer(few, seed), self.config.few_times if few else 1
        members = self.members(few, seed)
        jobs = tfidf_jobs(members[-1], config.tfidf, config.data, transfer) if few else []
        for number, (name, settings) in enumerate(zip(members, config.teachers, strict=False)):
            own = TEACHER_SEED + 100 * seed + number
            jobs.append(self._fit(name, longer(settings, times), own, transfer=transfer))
            jobs.append(logits_job(name, config.data, device=self.execution.device))
        soft = SoftSettings(
            teachers=members,
            temperature=config.temperature,
            soft_weight=config.soft_weight,
            hard_weight=config.hard_weight,
        )
        needs = tuple(name + ending for name in members for ending in ("", LOGITS_OF))
        alone, distilled = (job_name(few, name, seed) for name in STUDENTS)
        some = TransferSettings(labelled=config.labelled, seed=seed) if few else TransferSettings()
        jobs.append(self._fit(alone, longer(config.student, times), seed, transfer=transfer))
        jobs.append(self._fit(distilled, config.student, seed, transfer=some, soft=soft, needs=needs))
        return jobs

    def _fit(self, name: str, settings: FitSettings, seed: int, **options: Any) -> Job:
        data, device = self.config.data, self.execution.device
        return fit_job(self.path, name, settings, data, seed=seed, device=device, **options)

    def fits(self, few: str, name: str) -> list[Path]:
        """The run directories of a kind of network."""
        return [self.path / "jobs" / job_name(few, name, seed) for seed in range(self.config.seeds)]


def check(plan: TextsPlan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: the data are no texts, or a network cannot learn from them.
    """
    splits = plan.splits
    if splits.train.texts is None:
        raise UsageError(f"{splits.name} holds no texts: {' or '.join(('clinc150', 'sst2', 'csv:FILE'))} does")
    networks: Sequence[FitSettings] = [*plan.config.teachers, plan.config.student]
    for settings in {one.network: one for one in networks}.values():
        refuse_weights(settings, "this study", "student")
        try_network(settings, splits)


def longer(settings: FitSettings, times: int) -> FitSettings:
    """The same fit with so many times the epochs."""
    return settings.model_copy(update={"epochs": times * settings.epochs})


def job_name(few: str, name: str, seed: int) -> str:
    """The job of one network of a seed.

    Example:
        >>> job_name("few labels: ", "transformer:2x64 (2)", 3)
        'few-labels/transformer-2x64-2/seed-3'
    """
    slug = name.replace(" (", "-").replace(")", "").replace(":", "-").replace(" ", "-")
    return f"{'few-labels/' if few else ''}{slug}/seed-{seed}"
