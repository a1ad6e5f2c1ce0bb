"""The jobs of `instar reproduce tables`: estimators, their soft targets in three ways, and students.

The estimators are fitted once, and all students of a row learn from the same: a row's n counts students.
Candidates are compared on validation with a seed that is not in the result, as many for each row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field

from instar.errors import UsageError
from instar.jobs import Job
from instar.naming import unknown_name
from instar.networks import ESTIMATORS
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import TEACHER_SEED, Student, Teaching, stored_logits_of
from instar.recipes.fitting import estimator_job
from instar.recipes.loading import build_for, try_network
from instar.recipes.reading_settings import checked, merge
from instar.recipes.scales import choose_scale
from instar.recipes.settings import Count, DataSettings, FitSettings, NetworkSettings, Settings, TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import DEFAULT, Execution
from instar.recipes.teacher_answers import logits_job

ALONE, ENSEMBLE = "alone", "ensemble"
IN_SAMPLE, OUT_OF_FOLD, SAMPLED = "in-sample", "out-of-fold", "sampled-rows"


class TablesConfig(Settings):
    """The configuration of `instar reproduce tables`."""

    scale: str
    """name of the scale"""
    data: DataSettings
    """rows of numbers and categories"""
    teachers: Annotated[list[str], Field(min_length=2)]
    """estimators of other libraries; together they are the ensemble"""
    folds: Annotated[int, Field(ge=2)]
    """of the out-of-fold targets"""
    sampled_rows: Count | None = None
    """rows beside the training rows, for the row `ensemble-sampled-rows`; None where examples are no rows"""
    student: NetworkSettings
    """the small network"""
    alone: Annotated[list[Candidate], Field(min_length=1)]
    """candidates of the student on labels alone"""
    distilled: Annotated[list[Candidate], Field(min_length=1)]
    """candidates of each distilled student"""
    seeds: Annotated[int, Field(ge=2)]
    """students of each row"""


def config_for(scale: str, data: str = "digits") -> TablesConfig:
    """The configuration of a scale.

    Args:
        scale: `tiny` or `small`.
        data: `csv:FILE`, ... with a column `class`, or the name of a data set.

    Raises:
        UsageError: there is no such scale.
    """
    return checked(TablesConfig, merge(choose_scale("tables", "", scale), {"data": {"name": data}}))


@dataclass(frozen=True)
class TablesPlan:
    """A configuration, its run directory, and how it is run."""

    config: TablesConfig
    path: Path
    execution: Execution = DEFAULT

    def teachers(self, way: str) -> list[str]:
        """The jobs of the estimators by the way in which their soft targets are made."""
        return [teacher if way == IN_SAMPLE else f"{teacher}/{way}" for teacher in self.config.teachers]

    @property
    def transfer(self) -> TransferSettings:
        """The training rows with sampled ones beside them."""
        return TransferSettings(sampled_rows=self.config.sampled_rows)

    def teacher_jobs(self) -> list[Job]:
        """The estimators, their logits in sample, and those out of fold, also for sampled rows."""
        jobs, data, config = [], self.config.data, self.config
        for number, teacher in enumerate(config.teachers):
            settings, seed = FitSettings(network=teacher), TEACHER_SEED + number
            for name, folds in ((teacher, None), (f"{teacher}/{OUT_OF_FOLD}", config.folds)):
                jobs.append(estimator_job(name, settings, data, seed=seed))
                jobs.append(logits_job(name, data, folds=folds, transfer=self.transfer if folds else None))
        return jobs

    @cached_property
    def students(self) -> list[Student]:
        """The rows of students in the result."""
        config = self.config
        found = [self._student(ALONE, config.alone, [])]
        for way in (IN_SAMPLE, OUT_OF_FOLD):
            single = {name: [job] for name, job in zip(config.teachers, self.teachers(way), strict=True)}
            several = {**single, ENSEMBLE: self.teachers(way)}
            found += [self._student(f"{name}-{way}", config.distilled, jobs) for name, jobs in several.items()]
        if config.sampled_rows is not None:
            sampled = [one.model_copy(update={"sampled_rows": config.sampled_rows}) for one in config.distilled]
            found.append(self._student(f"{ENSEMBLE}-{SAMPLED}", sampled, self.teachers(OUT_OF_FOLD)))
        return found

    def _student(self, name: str, candidates: list[Candidate], teachers: list[str]) -> Student:
        config, teaching = self.config, stored_logits_of(teachers) if teachers else Teaching()
        transfer, seeds = TransferSettings(), range(config.seeds)
        return Student(name, config.student, config.data, transfer, candidates, seeds, lambda _: teaching)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The rows that are compared, each with its control."""
        alone = [(one.name, ALONE) for one in self.students[1:]]
        names = [*self.config.teachers, ENSEMBLE]
        ways = [(f"{name}-{OUT_OF_FOLD}", f"{name}-{IN_SAMPLE}") for name in names]
        sampled = [(f"{ENSEMBLE}-{SAMPLED}", f"{ENSEMBLE}-{OUT_OF_FOLD}")] * bool(self.config.sampled_rows)
        return [*alone, *ways, *sampled]

    def tuning_jobs(self) -> list[Job]:
        """The candidates, with the tuning seed."""
        several = [one.tuning_jobs(self.path, [TUNING_SEED], self.execution) for one in self.students]
        return [job for jobs in several for job in jobs]

    def final_jobs(self, chosen: Mapping[str, Candidate]) -> list[Job]:
        """The teachers, and the students in the result."""
        return self.teacher_jobs() + [
            one.job(self.path, one.name, chosen[one.name], seed, self.execution)
            for one in self.students
            for seed in one.seeds
        ]


def check(plan: TablesPlan) -> None:
    """Refuse a plan that could not be carried out.

    Raises:
        UsageError: names what is wrong.
    """
    config, splits = plan.config, load_splits(plan.config.data)
    for name in config.teachers:
        if name not in ESTIMATORS:
            raise unknown_name("estimator", name, ESTIMATORS)
        build_for(FitSettings(network=name), splits, seed=0)
    if any(one.loss is not None for one in config.alone) or any(one.loss is None for one in config.distilled):
        raise UsageError("alone: its candidates have no loss; distilled: they have one each")
    training_data(splits, plan.transfer)
    try_network(FitSettings(**config.student.model_dump()), splits)
