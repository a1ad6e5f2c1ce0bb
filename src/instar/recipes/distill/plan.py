"""The jobs of `instar distill`: teachers, candidates, students, and students with a corrected bias."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import nn

from instar.data import Dataset, Splits
from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import is_estimator
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.distill.correction import correction_job
from instar.recipes.distill.same_cost import Allowance, allowance
from instar.recipes.distill.settings import Candidate, DistillConfig
from instar.recipes.distill.students import TEACHER_SEED, Student, Teaching, fit_options
from instar.recipes.fitting import adopt_job, estimator_job, fit_job
from instar.recipes.halving import shortened
from instar.recipes.hinting import KINDS
from instar.recipes.loading import comes_with_weights, member_specs, outline
from instar.recipes.rates import STUDENT_ROUNDS, TEACHER_ROUNDS, Shares, round_lengths, settled
from instar.recipes.settings import LOSSES, FitSettings, StudentSettings, TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import Execution
from instar.recipes.teacher_answers import logits_job
from instar.runs import Run, find_run, is_run

ALONE, DISTILLED, CORRECTED = "student-alone", "student-distilled", "student-distilled-corrected"
SAME_COST = "student-alone-same-cost"


class Member(NamedTuple):
    """A teacher, or a member of an ensemble: the name of its job, and how it is built."""

    job: str
    settings: FitSettings
    """its learning rate is the one that was given, or is found"""
    seed: int

    @property
    def comes_with_weights(self) -> bool:
        """It is used as it is, not trained."""
        return comes_with_weights(self.settings)

    @property
    def is_estimator(self) -> bool:
        """It is fitted by its own library."""
        return is_estimator(self.settings.network)


@dataclass(frozen=True)
class Plan:
    """A configuration, its run directory, and how it is run."""

    config: DistillConfig
    path: Path
    execution: Execution = field(default_factory=Execution)

    @property
    def splits(self) -> Splits:
        """The data."""
        return load_splits(self.config.data)

    @cached_property
    def members(self) -> list[Member]:
        """The teachers; none where stored targets teach."""
        config = self.config
        if config.targets is not None:
            return []
        specs = [one for spec in config.teacher.network.split(",") for one in member_specs(spec)]
        networks = [spec for spec in specs for _ in range(config.teachers)]
        count = range(len(networks))
        names = ["teacher"] if len(networks) == 1 else [f"teacher/member-{number}" for number in count]
        return [
            Member(name, self._teacher_settings(network), config.seed + TEACHER_SEED + number)
            for number, name, network in zip(count, names, networks, strict=True)
        ]

    def _teacher_settings(self, network: str) -> FitSettings:
        settings = self.config.teacher.model_copy(update={"network": network})
        is_searched = not comes_with_weights(settings.at()) and not is_estimator(network)
        if settings.learning_rate is None and is_searched:
            settings = settled(settings, outline(settings.at(), self.splits), len(self.splits.train))
        return settings.at(settings.learning_rate)

    @property
    def searched_members(self) -> list[Member]:
        """One member of each network whose learning rate is to be found."""
        searched = [one for one in self.members if not one.comes_with_weights and not one.is_estimator]
        trained = {one.settings.network: one for one in reversed(searched)}
        return list(reversed(trained.values())) if self.config.teacher.learning_rate is None else []

    @property
    def teacher_name(self) -> str:
        """What taught: `mlp:1200x2`, `3 x mlp:1200x2`, `mlp:64x1 + mlp:128x1`, stored soft targets."""
        if self.config.targets is not None:
            return "stored soft targets"
        networks = [member.settings.network for member in self.members]
        if len(networks) > 1:
            networks = [Run.read(find_run(one)).config["network"] if is_run(one) else one for one in networks]
        counts = Counter(networks).items()
        return " + ".join(network if count == 1 else f"{count} x {network}" for network, count in counts)

    @property
    def seeds(self) -> range:
        """The seeds of the students in the result."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    @property
    def tuning_seeds(self) -> range:
        """The seeds by which candidates are compared."""
        first = self.config.seed + TUNING_SEED
        return range(first, first + self.config.tuning_seeds)

    @cached_property
    def control_data(self) -> Dataset:
        """What the student alone learns from."""
        return training_data(self.splits, self.config.control)

    @property
    def is_searched(self) -> bool:
        """Whether the students' learning rates are to be found."""
        return self.config.student.learning_rate is None

    @cached_property
    def lengths(self) -> list[int]:
        """Epochs of the rounds in which a student's learning rate is found: the same for both students."""
        return self._lengths(STUDENT_ROUNDS, self.student_settings.at(), self.control_data)

    @property
    def teacher_lengths(self) -> list[int]:
        """Epochs of the rounds in which a teacher's learning rate is found: the same for all of them."""
        return self._lengths(TEACHER_ROUNDS, self.searched_members[0].settings, self.splits.train)

    def _lengths(self, shares: Shares, settings: FitSettings, data: Dataset) -> list[int]:
        lengths = round_lengths(shares, settings.epochs, math.ceil(len(data) / settings.batch_size))
        return lengths[1:2] if self.config.quick else lengths

    @property
    def kinds(self) -> list[str]:
        """The rows of students in the result, in their order."""
        first, *others = self.rows_of_losses.values()
        longer, corrected = [SAME_COST] * bool(self.config.same_cost), [CORRECTED] * bool(self.config.fit_bias)
        return [ALONE, *longer, first, *corrected, *others]

    @property
    def differences(self) -> list[tuple[str, str]]:
        """The rows that are compared, each with its control: first the distilled student and the one alone."""
        first, *others = self.rows_of_losses.values()
        pairs = [(kind, ALONE) for kind in self.kinds if kind in (first, CORRECTED)]
        longer = [(first, SAME_COST)] * bool(self.config.same_cost)
        return [*pairs, *longer, *((other, first) for other in others)]

    def fits(self, kind: str) -> list[Path]:
        """The run directories of the students of a kind."""
        return [self.path / "jobs" / kind / f"seed-{seed}" for seed in self.seeds]

    @property
    def teacher_fits(self) -> list[Path]:
        """The run directories of the teachers."""
        return [self.path / "jobs" / member.job for member in self.members]

    def teacher_jobs(self, rates: Mapping[str, float] | None = None) -> list[Job]:
        """The teachers; without views also their logits, computed once, as each epoch sees the same examples.

        Args:
            rates: the learning rates that were found, by network.
        """
        data, execution = self.config.data, self.execution
        jobs: list[Job] = []
        for member in self.members:
            name, settings, seed = member
            rate = (rates or {}).get(settings.network, settings.learning_rate)
            settings = settings.model_copy(update={"learning_rate": rate})
            if member.comes_with_weights:
                jobs.append(adopt_job(name, settings, data))
            elif member.is_estimator:
                jobs.append(estimator_job(name, settings, data, seed=seed))
            else:
                jobs.append(fit_job(self.path, name, settings, data, seed=seed, **fit_options(execution)))
            if self.config.student.views == "none":
                folds = self.config.folds if member.is_estimator else None
                transfer = self.config.transfer
                jobs.append(logits_job(name, data, transfer=transfer, folds=folds, device=execution.device))
        return jobs

    @cached_property
    def rows_of_losses(self) -> dict[str, str]:
        """The row of each loss; that of the first is the distilled student, with which others are compared."""
        first, *others = self.config.loss_names
        return {first: DISTILLED, **{name: f"student-{name}" for name in others}}

    @cached_property
    def teaching(self) -> Teaching:
        """Where the soft targets of all students come from."""
        teachers, needs = [member.job for member in self.members], [job.name for job in self.teacher_jobs()]
        config = self.config
        return Teaching(teachers, config.targets, config.ensemble_mean, needs, reading=config.reading)

    @property
    def student_network(self) -> nn.Module:
        """The student's network, untrained."""
        return outline(self.config.student.at(), self.splits)

    @cached_property
    def student_settings(self) -> StudentSettings:
        """How both students are built and trained, but for what is searched for."""
        return settled(self.config.student, self.student_network, len(self.control_data))

    @cached_property
    def narrower(self) -> dict[str, StudentSettings]:
        """The students that are compared with the distilled one as files, by the name of their row."""
        config, found = self.config, {}
        for network in config.narrower or ():
            settings = config.student.model_copy(update={"network": network})
            template = outline(settings.at(), self.splits)
            name = f"{DISTILLED}-{network.replace(':', '-').replace('/', '-')}"
            found[name] = settled(settings, template, len(self.control_data))
        return found

    @cached_property
    def students(self) -> list[Student]:
        """The student alone, and a distilled one for each loss."""
        config, settings = self.config, self.student_settings

        def student(
            name: str, transfer: TransferSettings, candidates: list[Candidate], teaching: Teaching
        ) -> Student:
            return Student(name, settings, config.data, transfer, candidates, self.seeds, lambda _: teaching)

        return [
            student(ALONE, config.control, config.alone, Teaching()),
            *(
                student(row, config.taught, config.distilled(loss), self.teaching_with(loss))
                for loss, row in self.rows_of_losses.items()
            ),
        ]

    def teaching_with(self, loss: str) -> Teaching:
        """The soft targets with a loss."""
        if loss == LOSSES[0]:
            return self.teaching
        layers = self.config.hint_layers if loss in KINDS else None
        return self.teaching._replace(loss=loss, hint_layers=layers)

    def tuning_jobs(self) -> list[Job]:
        """The candidates of each student that has several, with the tuning seeds."""
        seeds, execution = self.tuning_seeds, self.execution
        return [job for student in self.students for job in student.tuning_jobs(self.path, seeds, execution)]

    @cached_property
    def allowance(self) -> Allowance:
        """What teachers and distilled student cost together, in epochs of the student alone.

        Raises:
            UsageError: a teacher was not trained in this run, or the multiplications of a network are not known.
        """
        for member in self.members:
            if member.is_estimator:
                raise UsageError(f"same_cost: the multiplications of {member.settings.network} are not known")
            if member.comes_with_weights:
                raise UsageError(
                    f"same_cost: {member.settings.network} comes with its weights, and what it cost is not known"
                )
        student = self.student_settings.at()
        return allowance(
            [member.settings for member in self.members],
            student,
            self.splits,
            num_transfer=len(training_data(self.splits, self.config.transfer)),
            num_control=len(self.control_data),
            asked_each_epoch=student.views != "none" or self.config.loss_names[0] in KINDS,
        )

    def longer(self, epochs: int) -> Student:
        """The student alone with more epochs: its schedule is stretched."""
        alone = self.students[0]
        return dataclasses.replace(alone, name=SAME_COST, settings=shortened(alone.settings, epochs))

    def reported_jobs(self, student: Student, candidate: Candidate) -> list[Job]:
        """The fits of a student in the result."""
        return [student.job(self.path, student.name, candidate, seed, self.execution) for seed in self.seeds]

    def student_jobs(self, chosen: Mapping[str, Candidate], longer_epochs: int | None = None) -> list[Job]:
        """The students in the result, and the corrected ones where the transfer set lacks classes."""
        config, longer = self.config, [self.longer(longer_epochs)] if longer_epochs else []
        students = [*self.students, *longer]
        jobs = [job for student in students for job in self.reported_jobs(student, chosen[student.name])]
        settings, shared = config.student.at(chosen[DISTILLED].learning_rate), not config.bias_per_class
        for seed in self.seeds if config.fit_bias else ():
            name, student = (f"{kind}/seed-{seed}" for kind in (CORRECTED, DISTILLED))
            jobs.append(correction_job(name, student, settings, config.data, classes=self.moved, shared=shared))
        return jobs

    @cached_property
    def missing(self) -> list[str]:
        """The classes that the transfer set lacks; unknown, and so none, where its examples have no labels."""
        data = self.control_data
        present = set(data.labels(data.ids).tolist())
        return [name for number, name in enumerate(data.class_names) if number not in present]

    @property
    def moved(self) -> list[str]:
        """The classes whose bias is fitted."""
        if self.config.fit_bias == "present":
            return [name for name in self.splits.class_names if name not in self.missing]
        return self.missing
