"""The jobs of `instar reproduce mnist`: section 3 of Hinton, Vinyals and Dean 2015, and what lies beyond.

A pair is a teacher and its student, each with a seed of its own. Pairs share nothing, so that a row's n counts
independent pairs. Candidates are compared on validation with a teacher and a seed that are not in the result. Then
everything is trained on training and validation examples together, except where a bias or an early stop needs
examples that were held out.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from instar.errors import UsageError
from instar.jobs import Job
from instar.naming import unknown_name
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import TEACHER_SEED, Student, Teaching, fit_options, stored_logits_of
from instar.recipes.fitting import fit_job
from instar.recipes.loading import try_network
from instar.recipes.settings import (
    Count,
    DataSettings,
    FitSettings,
    LossSettings,
    NetworkSettings,
    Settings,
    Temperature,
    TransferSettings,
)
from instar.recipes.splits import load_splits
from instar.recipes.study import Execution
from instar.recipes.teacher_answers import logits_job, store_job

MISSING, ONLY = ["3"], ["7", "8"]
CORRECTED = {"omit-3": MISSING, "only-7-8": ONLY}
"""The students whose transfer set lacks classes, and the classes whose bias is then fitted."""

LIKE = {"transfer-set-separate": "distilled-T20", "distilled-ensemble": "distilled-T20"}
"""The students that take the candidate chosen for another one."""

BEYOND, ENSEMBLE = "beyond-2x800", "distilled-ensemble"
_WHOLE, _HALF = TransferSettings(validation_too=True), TransferSettings(validation_too=True, fraction=0.5)
_LABELS_ALONE = ("small-net", "fraction-hard")
_ROWS = (
    *_LABELS_ALONE,
    *("distilled-T20", "distilled-T20-soft-only", "distilled-labels-in-targets", "logit-matching"),
    *("labelled-10-percent", "omit-3", "only-7-8", "fraction-soft"),
)


class BeyondSettings(Settings):
    """The best student that is distilled: from other teachers, with views, from no other data."""

    teacher: FitSettings
    """the large networks with commas, an ensemble"""
    num_views: Count
    """number of views in the store; the student sees them in turn"""
    student: FitSettings
    """the small network"""
    temperature: Temperature
    """temperature of the soft targets"""


class MnistConfig(Settings):
    """The configuration of `instar reproduce mnist`."""

    scale: str
    """name of the scale"""
    rows: list[str] = ["*"]
    """the students to make by name, `*` stands for any letters"""
    data: DataSettings
    """the data; its validation part is for tuning, the result trains on both parts"""
    held_out: DataSettings
    """the same data with another split, where a bias or an early stop needs examples that were held out"""
    pairs: Count
    """pairs of teacher and student"""
    smallest_pairs: Count
    """pairs with the smallest network of the temperature study"""
    ensemble_size: Count
    """teachers in an ensemble"""
    teacher: FitSettings
    """the large network"""
    student: NetworkSettings
    """the small network"""
    candidates: dict[str, list[Candidate]]
    """candidates by row; of several the best on validation is used"""
    temperatures: list[Temperature]
    """temperatures of the temperature study"""
    temperature_students: list[FitSettings]
    """students of the temperature study, the smallest first"""
    fractions: dict[str, Count]
    """epochs by percent of the training examples"""
    views: str
    """augmentation of the students that learn from a fraction with views"""
    beyond: BeyondSettings
    """the best student"""

    @model_validator(mode="after")
    def _has_all_candidates(self) -> Self:
        if unknown := [row for row in self.candidates if row not in _ROWS]:
            raise UsageError(f"candidates: there is no row {unknown[0]!r}; the rows are {', '.join(_ROWS)}")
        for row in _ROWS:
            if not self.candidates.get(row):
                raise UsageError(f"candidates.{row} is missing: give one or more")
            if any((one.loss is None) != (row in _LABELS_ALONE) for one in self.candidates[row]):
                expected = "no loss, it learns from labels" if row in _LABELS_ALONE else "a loss, it is distilled"
                raise UsageError(f"candidates.{row}: expected {expected}")
        return self

    def makes(self, name: str) -> bool:
        """Whether a student is one of `rows`, or one that takes its candidate."""
        names = (name, *(other for other, like in LIKE.items() if like == name))
        return any(fnmatchcase(one, row) for one in names for row in self.rows)


@dataclass(frozen=True)
class MnistPlan:
    """A configuration, its run directory, and how it is run."""

    config: MnistConfig
    path: Path
    execution: Execution = field(default_factory=Execution)

    @cached_property
    def students(self) -> list[Student]:
        """The students of the result."""
        return [student for student in self.all_students() if self.config.makes(student.name)]

    def all_students(self) -> list[Student]:
        """Every student of the study; those of `LIKE` have no candidates of their own."""
        config, student, held_out = self.config, self._student, self._held_out
        plain = ("small-net", "distilled-T20", "distilled-T20-soft-only", "distilled-labels-in-targets")
        few_labels, other_half = {"labelled": 0.1}, {"fraction": 0.5, "rest": True}
        longer = {"epochs": 4 * config.student.epochs}  # on a fifth of the examples
        return [
            *map(student, (*plain, "logit-matching")),
            student("labelled-10-percent", transfer=_WHOLE.model_copy(update=few_labels)),
            student("transfer-set-separate", "half/big-net", transfer=_WHOLE.model_copy(update=other_half)),
            held_out("omit-3", drop_classes=MISSING),
            held_out("only-7-8", config.student.model_copy(update=longer), keep_classes=ONLY),
            student(ENSEMBLE, teaching=lambda pair: stored_logits_of(self.ensemble(pair))),
            *self._temperature_students(),
            *self._fraction_students(),
            student(
                BEYOND,
                settings=config.beyond.student,
                candidates=_only(config.beyond.student, config.beyond.temperature),
                teaching=lambda pair: Teaching(self.beyond_teachers(pair), _store(pair), needs=[_store(pair)]),
            ),
        ]

    def _student(self, name: str, teacher: str = "big-net", **options: Any) -> Student:
        """A student of the teacher of its pair, with the defaults of the study."""
        config = self.config
        defaults = {
            "settings": config.student,
            "data": config.data,
            "transfer": _WHOLE,
            "candidates": config.candidates.get(name, ()),
            "seeds": range(config.pairs),
            "teaching": lambda pair: stored_logits_of([f"{teacher}/{pair}"]),
        }
        return Student(name, **defaults | options)

    def _held_out(
        self, name: str, settings: NetworkSettings | None = None, row: str = "", **transfer: Any
    ) -> Student:
        """A student that is judged by examples that neither it nor its teacher has seen."""
        options = {"settings": settings or self.config.student, "transfer": TransferSettings(**transfer)}
        candidates = self.config.candidates[row or name]
        return self._student(name, "held-out/big-net", data=self.config.held_out, candidates=candidates, **options)

    def _temperature_students(self) -> Iterator[Student]:
        config = self.config
        for number, settings in enumerate(config.temperature_students):
            seeds = range(config.pairs if number else config.smallest_pairs)
            units = settings.network.removeprefix("mlp:").removesuffix("x2")
            for temperature in config.temperatures:
                name, candidates = f"temperature-{units}-units-T{temperature:g}", _only(settings, temperature)
                yield self._student(name, settings=settings, candidates=candidates, seeds=seeds)

    def _fraction_students(self) -> Iterator[Student]:
        for percent, epochs in self.config.fractions.items():
            for views in ("none", self.config.views):
                for way in ("hard", "soft"):
                    # Labels alone overfit: their best epoch on validation is kept. Soft targets train to the end.
                    patience = epochs if way == "hard" else None
                    changed = {"epochs": epochs, "views": views, "patience": patience}
                    name = f"fraction-{percent}-percent-{way}" + ("-views" if views != "none" else "")
                    settings = self.config.student.model_copy(update=changed)
                    yield self._held_out(name, settings, f"fraction-{way}", fraction=float(percent) / 100)

    def tuned(self) -> list[Student]:
        """The same students as they are tuned: on training examples alone, by a teacher that is not reported."""
        return [
            dataclasses.replace(
                student,
                data=self.config.data,
                transfer=student.transfer.model_copy(update={"validation_too": False}),
                teaching=lambda _: stored_logits_of(["tuning/big-net"]),
            )
            for student in self.students
        ]

    def tuning_jobs(self) -> list[Job]:
        """A teacher, and every candidate of the students that have several."""
        seed, execution = TEACHER_SEED + TUNING_SEED, self.execution
        several = [job for one in self.tuned() for job in one.tuning_jobs(self.path, [TUNING_SEED], execution)]
        teacher = self._teacher_jobs("tuning/big-net", self.config.data, seed, TransferSettings())
        return [*(teacher if several else ()), *several]

    def final_jobs(self, chosen: Mapping[str, Candidate]) -> list[Job]:
        """The teachers of all pairs, and their students."""
        return self.teacher_jobs() + [
            student.job(self.path, student.name, chosen[student.name], pair, self.execution)
            for student in self.students
            for pair in student.seeds
        ]

    def teacher_jobs(self) -> list[Job]:
        """The teachers that students need with their logits; those of the best student with a store of views."""
        config, jobs = self.config, []
        for number in range(self.num_teachers):
            jobs += self._teacher_jobs(f"big-net/{number}", config.data, TEACHER_SEED + number, _WHOLE)
        for pair in range(config.pairs):
            seed = TEACHER_SEED + pair
            jobs += self._teacher_jobs(f"held-out/big-net/{pair}", config.held_out, seed, TransferSettings())
            jobs += self._teacher_jobs(f"half/big-net/{pair}", config.data, seed, _HALF)
            jobs += self._beyond_jobs(pair)
        needed = {name for one in self.students for seed in one.seeds for name in one.teaching(seed).needs}
        needed |= {name for job in jobs if job.name in needed for name in job.needs}
        return [job for job in jobs if job.name in needed]

    def _teacher_jobs(self, name: str, data: DataSettings, seed: int, transfer: TransferSettings) -> list[Job]:
        fit = self._fit(name, self.config.teacher, data, seed, transfer)
        return [fit, logits_job(name, data, device=self.execution.device)]

    def _fit(
        self, name: str, settings: FitSettings, data: DataSettings, seed: int, transfer: TransferSettings
    ) -> Job:
        options = fit_options(self.execution)
        return fit_job(self.path, name, settings, data, seed=seed, transfer=transfer, **options)

    def _beyond_jobs(self, pair: int) -> list[Job]:
        beyond, data, names = self.config.beyond, self.config.data, self.beyond_teachers(pair)
        jobs = []
        for name, network in zip(names, beyond.teacher.network.split(","), strict=True):
            settings = beyond.teacher.model_copy(update={"network": network})
            jobs.append(self._fit(name, settings, data, TEACHER_SEED + pair, _WHOLE))
        num_views = beyond.num_views
        about: dict[str, Any] = {"views": beyond.student.views, "num_views": num_views, "transfer": _WHOLE}
        # To answer is one of the three passes of a step.
        cost = sum(job.cost for job in jobs) * num_views / (3 * beyond.teacher.epochs)
        store = store_job(_store(pair), names, data, cost=cost, device=self.execution.device, **about)
        return [*jobs, store]

    def beyond_teachers(self, pair: int) -> list[str]:
        """The ensemble that teaches the best student."""
        count = len(self.config.beyond.teacher.network.split(","))
        return [f"beyond/teacher-{number}/{pair}" for number in range(count)]

    @property
    def num_teachers(self) -> int:
        """As many as the students that are made have."""
        teachers = {name for one in self.students for seed in one.seeds for name in one.teaching(seed).teachers}
        numbers = [int(name.removeprefix("big-net/")) for name in teachers if name.startswith("big-net/")]
        return max(numbers, default=-1) + 1

    @property
    def has_ensembles(self) -> bool:
        """Whether a student learns from the large networks together."""
        return self.config.makes(ENSEMBLE)

    def ensemble(self, number: int) -> list[str]:
        """The teachers of an ensemble: no two ensembles share one."""
        size = self.config.ensemble_size
        return [f"big-net/{member}" for member in range(number * size, (number + 1) * size)]


def check(plan: MnistPlan) -> None:
    """Refuse data without the classes that the study names, and networks that cannot learn from them.

    Raises:
        UsageError: names the classes that are missing, the network, or the row that no student has.
    """
    students = [student.name for student in plan.all_students()]
    for row in plan.config.rows:
        if not any(fnmatchcase(name, row) for name in students):
            raise unknown_name("row", row, students)
    names, needed = load_splits(plan.config.data).class_names, (*MISSING, *ONLY)
    if missing := ", ".join(name for name in needed if name not in names):
        raise UsageError(
            f"reproduce mnist needs the classes {', '.join(needed)}; {plan.config.data.name} lacks {missing}: "
            "use mnist or digits"
        )
    config = plan.config
    networks = [config.teacher, config.student, *config.temperature_students, config.beyond.student]
    specs = [settings.network for settings in networks] + config.beyond.teacher.network.split(",")
    for name in dict.fromkeys(specs):
        try_network(FitSettings(network=name), load_splits(config.data))


def _only(settings: FitSettings, temperature: float) -> list[Candidate]:
    return [Candidate(learning_rate=settings.learning_rate, loss=LossSettings(temperature=temperature))]


def _store(pair: int) -> str:
    return f"beyond/targets/{pair}"
