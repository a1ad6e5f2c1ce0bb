"""Students as both studies plan them: their teachers, candidates and fits, and the choice on validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from instar.jobs import Job, JobReport
from instar.recipes.choosing import Score, best, fit_score, judge
from instar.recipes.distill.settings import Candidate
from instar.recipes.fitting import LOGITS_OF, fit_job
from instar.recipes.reading_settings import checked
from instar.recipes.settings import (
    DataSettings,
    FitSettings,
    LossSettings,
    NetworkSettings,
    SoftSettings,
    TransferSettings,
    as_text,
)
from instar.recipes.study import Execution

TEACHER_SEED = 20_000
"""Added to a teacher's seed: with the same seed, networks of different widths start with equal first weights."""


class Teaching(NamedTuple):
    """Where a student's soft targets come from: the jobs of its teachers, or a store in their place."""

    teachers: Sequence[str] = ()
    store: str | None = None
    """the job that writes it, or its folder"""
    mean: str = "arithmetic"
    needs: Sequence[str] = ()
    """all jobs that have to be done before"""
    loss: str | None = None
    """another one than that of the paper"""
    hint_layers: Sequence[str] | None = None
    reading: str | None = None
    """of the classes outside the top k that the store keeps"""

    def soft_settings(self, loss: LossSettings, own_weight: float | None = None) -> SoftSettings:
        """A loss with the soft targets of these teachers."""
        about: dict[str, Any] = {"teachers": list(self.teachers), "store": self.store, "mean": self.mean}
        about |= {
            "loss": self.loss,
            "own_weight": own_weight,
            "hint_layers": self.hint_layers,
            "reading": self.reading,
        }
        return checked(SoftSettings, {**dict(loss), **about})


def stored_logits_of(teachers: Sequence[str]) -> Teaching:
    """Teachers whose logits are computed once, by jobs of their own."""
    return Teaching(teachers, needs=[name + ending for name in teachers for ending in ("", LOGITS_OF)])


@dataclass(frozen=True)
class Student:
    """A row of the result: one network, fitted once for each seed with the best of its candidates."""

    name: str
    settings: NetworkSettings
    data: DataSettings
    transfer: TransferSettings
    candidates: Sequence[Candidate]
    seeds: Sequence[int]
    teaching: Callable[[int], Teaching]
    """by seed; unused where the candidates learn from labels alone"""

    def job(self, path: Path, prefix: str, candidate: Candidate, seed: int, execution: Execution) -> Job:
        """The fit with one seed."""
        teaching = self.teaching(seed) if candidate.loss else Teaching()
        return fit_job(
            path,
            f"{prefix}/seed-{seed}",
            FitSettings(**self.settings.model_dump() | {"learning_rate": candidate.learning_rate}),
            self.data,
            seed=seed,
            soft=teaching.soft_settings(candidate.loss, candidate.own_weight) if candidate.loss else None,
            transfer=self.transfer.model_copy(update={"sampled_rows": candidate.sampled_rows or None}),
            needs=tuple(teaching.needs),
            **fit_options(execution),
        )

    def tuning_jobs(self, path: Path, seeds: Sequence[int], execution: Execution) -> list[Job]:
        """The fits by which its candidates are compared; none where there is one candidate."""
        several = self.candidates if len(self.candidates) > 1 else ()
        return [self.job(path, self.tuning_name(one), one, seed, execution) for one in several for seed in seeds]

    def tuning_name(self, candidate: Candidate) -> str:
        """The prefix of a candidate's jobs: the settings in which the candidates differ."""
        varied = [key for key in candidate.settings if len({one.settings[key] for one in self.candidates}) > 1]
        return f"tuning/{self.name}/{candidate.slug(varied)}"


def fit_options(execution: Execution) -> dict[str, Any]:
    """The arguments of `fit_job` that say how it is run."""
    return {key: getattr(execution, key) for key in ("device", "processes", "tensorboard")}


class Chosen(NamedTuple):
    """What validation decided: the best candidate of each student, and the rows of `tuning`."""

    candidates: dict[str, Candidate]
    tuning: list[dict[str, Any]]
    longer_epochs: int | None = None
    """of the student alone that may train for the teacher's cost too"""


def choose(
    students: Sequence[Student],
    seeds: Sequence[int],
    report: JobReport,
    path: Path,
    *,
    score: Callable[[Student, Candidate, Path], Score] = lambda student, candidate, job: fit_score(job),
) -> Chosen:
    """The best candidate of each student, after the round that fitted them with the tuning seeds.

    Raises:
        InstarError: a teacher failed, or all candidates of a student.
    """

    def fits(student: Student, candidate: Candidate) -> list[str]:
        return [f"{student.tuning_name(candidate)}/seed-{seed}" for seed in seeds]

    tuned = [student for student in students if len(student.candidates) > 1]
    may_fail = {name for student in tuned for one in student.candidates for name in fits(student, one)}
    others = {name: reason for name, reason in report.failed.items() if name not in may_fail}
    JobReport(failed=others, kept_back=report.kept_back).raise_if_failed()
    chosen = Chosen({student.name: student.candidates[0] for student in students if student.candidates}, [])
    for student in tuned:
        jobs_of, score_of = partial(fits, student), partial(score, student)
        tried = judge(student.candidates, jobs_of, report, path, score=score_of)
        chosen.candidates[student.name] = best(tried, report)
        chosen.tuning.extend(one.row(student.name, as_text(one.candidate.settings)) for one in tried)
    return chosen
