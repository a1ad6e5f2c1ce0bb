"""Jobs and the order that their needs put them in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from instar.errors import InstarError, UsageError
from instar.runs import Run

JobFunction = Callable[[Run, Mapping[str, Path]], Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """One fit, or one other piece of work with a run directory of its own.

    Attributes:
        name: its place below `jobs/`, for instance `student-alone/seed-3`.
        function: a function of a module; gets the run and the run directories of `needs` by name, and returns
            what goes into `result.json`.
        config: all that the function needs to know; written into the run directory.
        needs: names of the jobs that must be done before.
        cost: relative size, for the time left.
        processes: how many processes share the job, through `torch.distributed`.
        gpus: how many GPUs it computes on, for an engine that gives each job its own.
    """

    name: str
    function: JobFunction
    config: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    processes: int = 1
    gpus: int = 0


class Batch(NamedTuple):
    """Jobs that come together."""

    jobs: Sequence[Job]
    """with those of earlier batches that they need"""
    title: str = "all jobs"
    """what the progress is of"""
    beside: int = 0
    """how many series of other jobs share the cores with these"""


@dataclass(frozen=True)
class JobReport:
    """How a graph of jobs ended: what was done now, what was done before, what failed and what that kept back."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept_back: dict[str, str] = field(default_factory=dict)
    """Jobs that were not started, each with the job that it needs and that failed."""

    def of(self, names: Collection[str]) -> "JobReport":
        """How some of the jobs ended."""
        done, skipped = ([name for name in part if name in names] for part in (self.done, self.skipped))
        failed, kept_back = (
            {name: part[name] for name in part if name in names} for part in (self.failed, self.kept_back)
        )
        return JobReport(done, skipped, failed, kept_back)

    def has_ended(self, jobs: Sequence[Job]) -> bool:
        """Whether nothing of some jobs is left to do."""
        ended = {*self.done, *self.skipped, *self.failed, *self.kept_back}
        return all(job.name in ended for job in jobs)

    def raise_if_failed(self) -> None:
        """Raise one error that says what failed and why."""
        if not self.failed:
            return
        name, reason = next(iter(self.failed.items()))
        others = len(self.failed) - 1
        more = f"; {others} more failed" if others else ""
        more += f"; {len(self.kept_back)} that need them were not started" if self.kept_back else ""
        raise InstarError(f"{name} failed: {reason}{more}")


def check_graph(jobs: Sequence[Job]) -> dict[str, int]:
    """The level of each job: 0 for those that need nothing, else one more than the highest of its needs.

    Raises:
        UsageError: two jobs share a name, a need is unknown or comes back to itself, a name is no relative path,
            or a job has no process or no cost.

    Example:
        >>> teacher = Job("teacher", lambda run, needs: {}, {})
        >>> student = Job("student", lambda run, needs: {}, {}, needs=("teacher",))
        >>> check_graph([student, teacher])
        {'teacher': 0, 'student': 1}
    """
    for job in jobs:
        if not job.name or not all(part.strip(".") for part in job.name.split("/")):
            raise UsageError(f"job name {job.name!r} should be a path below jobs/, for instance student/seed-3")
        if job.processes < 1 or not job.cost > 0:
            raise UsageError(
                f"job {job.name!r} has {job.processes} processes and cost {job.cost}: both are above 0"
            )
    known = {job.name: job for job in jobs}
    if len(known) < len(jobs):
        raise UsageError("two jobs share a name")
    levels: dict[str, int] = {}
    pending = list(jobs)
    while pending:
        ready = [job for job in pending if all(need in levels for need in job.needs)]
        if not ready:
            job = pending[0]
            missing = [need for need in job.needs if need not in known]
            raise UsageError(
                f"job {job.name!r} needs {missing[0]!r}, which is no job" if missing else "jobs need each other"
            )
        for job in ready:
            levels[job.name] = max((levels[need] + 1 for need in job.needs), default=0)
        pending = [job for job in pending if job.name not in levels]
    return levels


def costs_ahead(jobs: Sequence[Job]) -> dict[str, float]:
    """What lies ahead of each job: its cost, and the largest sum of costs along the jobs that need it.

    ``ahead(j) = cost(j) + max over k that need j of ahead(k)``. What has most ahead goes first, or the end of a
    study waits for one job while the other cores idle: the upward rank of Topcuoglu, Hariri and Wu (2002), without
    costs of sending.

    Example:
        >>> teacher = Job("teacher", lambda run, needs: {}, {}, cost=2.0)
        >>> student = Job("student", lambda run, needs: {}, {}, needs=("teacher",), cost=3.0)
        >>> costs_ahead([teacher, student])
        {'student': 3.0, 'teacher': 5.0}
    """
    ahead: dict[str, float] = {}
    after = dict.fromkeys((job.name for job in jobs), 0.0)
    levels = check_graph(jobs)
    for job in sorted(jobs, key=lambda one: levels[one.name], reverse=True):
        ahead[job.name] = job.cost + after[job.name]
        for need in job.needs:
            after[need] = max(after[need], ahead[job.name])
    return ahead


def num_gpus(device: str, processes: int = 1) -> int:
    """How many GPUs a job wants for itself: one for each process, where the device names none by its index.

    Example:
        >>> num_gpus("cuda", processes=2), num_gpus("cuda:1"), num_gpus("cpu")
        (2, 0, 0)
    """
    return processes if device == "cuda" else 0


def threads_of(jobs: Sequence[Job], cores: int, beside: int = 0) -> dict[str, int]:
    """How many threads each job computes with: the cores, shared by the jobs of its level and those `beside` it.

    A function of the graph alone and not of what happens to be done already, since the number of threads
    decides the last bits of a sum.
    """
    levels = check_graph(jobs)
    width = {level: beside + sum(1 for other in levels.values() if other == level) for level in levels.values()}
    return {job.name: max(1, cores // (min(cores, width[levels[job.name]]) * job.processes)) for job in jobs}
