"""The way that every engine takes through jobs; where a job runs is the engine's own."""

import abc
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Self

from instar.errors import UsageError
from instar.jobs.execution import job_run
from instar.jobs.graph import Batch, Job, JobReport, costs_ahead

MAX_TRIES = 3  # of a job whose process died; a job that says why it failed is not tried again
STARTED, DIED, DONE, FAILED = "started", "died, tried again", "done", "failed"

More = Callable[[JobReport], Batch | None]
"""The next jobs, from the report of those so far: none where they come later, None after the last."""


class Task(NamedTuple):
    """A job whose needs are done; `ahead`, as `costs_ahead` says, decides which of several begins."""

    job: Job
    root: Path
    threads: int
    ahead: float


class News(NamedTuple):
    """What happened to a job; `reason` says why it failed."""

    job: Job
    state: str
    reason: str = ""


class Engine(abc.ABC):
    """Runs graphs of jobs, to be used in a `with` statement.

    Its worker processes stay from one graph to the next: a process that starts pays a second or two of imports.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, root: Path, more: More, *, on_change: Callable[[str, str], None]) -> JobReport:
        """Do all jobs that come; what fails keeps back only those that need it."""
        return _Walk(self, root, more, on_change).run()

    @abc.abstractmethod
    def threads(self, batch: Batch) -> dict[str, int]:
        """How many threads each job computes with."""

    @abc.abstractmethod
    def submit(self, task: Task) -> None:
        """Take a job, to do it as soon as there is room: of several, that with most ahead."""

    @abc.abstractmethod
    def news(self) -> Iterable[News]:
        """What has happened to the jobs that were taken; waits a moment where nothing has."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let what runs save a checkpoint, and end."""


class _Walk:
    """Jobs on their way through an engine."""

    def __init__(self, engine: Engine, root: Path, more: More, on_change: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._root = root
        self._more = more
        self._on_change = on_change
        self._report = JobReport()
        self._tasks: dict[str, Task] = {}
        self._pending: list[Task] = []
        self._under_way: set[str] = set()

    def run(self) -> JobReport:
        while (batch := self._more(self._report)) is not None or self._pending or self._under_way:
            if batch is not None and batch.jobs:
                self._add(batch)
            self._keep_back_what_cannot_start()
            ready = [task for task in self._pending if all(self._is_done(need) for need in task.job.needs)]
            for task in sorted(ready, key=lambda one: -one.ahead):
                self._pending.remove(task)
                self._under_way.add(task.job.name)
                self._engine.submit(task)
            for news in self._engine.news() if self._under_way else ():
                self._take(news)
        return self._report

    def _add(self, batch: Batch) -> None:
        new = [job for job in batch.jobs if job.name not in self._tasks]
        for job in new:
            _check_can_be_sent(job)
        threads, ahead = self._engine.threads(batch), costs_ahead(batch.jobs)
        for job in new:
            task = self._tasks[job.name] = Task(job, self._root, threads[job.name], ahead[job.name])
            if job_run(job, self._root).is_done:
                with job_run(job, self._root):  # its configuration is the same, or this says what differs
                    pass
                self._report.skipped.append(job.name)
                self._on_change(job.name, "skipped")
            else:
                self._pending.append(task)

    def _is_done(self, name: str) -> bool:
        return name in self._report.done or name in self._report.skipped

    def _keep_back_what_cannot_start(self) -> None:
        lost = {**self._report.failed, **self._report.kept_back}
        for task in list(self._pending):
            name, missing = task.job.name, [need for need in task.job.needs if need in lost]
            if missing:
                self._pending.remove(task)
                lost[name] = self._report.kept_back[name] = missing[0]
                self._on_change(name, "kept back")

    def _take(self, news: News) -> None:
        name = news.job.name
        if news.state == DONE:
            self._report.done.append(name)
        elif news.state == FAILED:
            self._report.failed[name] = news.reason
        if news.state in (DONE, FAILED):
            self._under_way.remove(name)
        self._on_change(name, news.state)


def _check_can_be_sent(job: Job) -> None:
    try:
        pickle.dumps(job)
    except Exception as error:  # pickle raises errors of many types
        raise UsageError(
            f"job {job.name!r} cannot be sent to another process ({error}): its function should be one of a module"
        ) from error
