"""The local engine: worker processes on this machine, each with its share of the cores."""

import contextlib
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Self

from instar.errors import InstarError, UsageError
from instar.jobs.execution import ProcessDiedError, end_with_parent, execute, job_run, start
from instar.jobs.graph import Job, JobReport, threads_of
from instar.runs import LOG

MAX_TRIES = 3  # of a job whose process died; a job that says why it failed is not tried again


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None


class LocalEngine:
    """Runs graphs of jobs on this machine, as many at once as their threads leave room for.

    Its worker processes stay from one graph to the next: a process that starts pays a second or two of imports.
    """

    def __init__(self, *, cores: int) -> None:
        self._cores = cores
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, jobs: Sequence[Job], root: Path, *, on_change: Callable[[str, str], None]) -> JobReport:
        """Do all jobs; what fails keeps back only those that need it."""
        return _Graph(jobs, root, self._workers, self._cores, on_change).run()

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.job is not None:
                worker.process.terminate()  # it saves a checkpoint and ends
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(timeout=20)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers.clear()


class _Graph:
    """One graph of jobs on its way through the workers."""

    def __init__(
        self,
        jobs: Sequence[Job],
        root: Path,
        workers: list[_Worker],
        cores: int,
        on_change: Callable[[str, str], None],
    ) -> None:
        self._jobs = list(jobs)
        self._root = root
        self._workers = workers
        self._cores = cores
        self._threads = threads_of(jobs, cores)
        self._on_change = on_change
        self._tries: dict[str, int] = {}
        self._report = JobReport()
        self._pending = list(jobs)

    def run(self) -> JobReport:
        for job in self._jobs:
            _check_can_be_sent(job)
        self._skip_what_is_done()
        while self._pending or self._running():
            self._keep_back_what_cannot_start()
            self._start_what_can()
            self._wait_for_news()
        return self._report

    def _skip_what_is_done(self) -> None:
        for job in self._jobs:
            if job_run(job, self._root).is_done:
                with job_run(job, self._root):  # its configuration is the same, or this says what differs
                    pass
                self._report.skipped.append(job.name)
                self._on_change(job.name, "skipped")
        self._pending = [job for job in self._jobs if job.name not in self._report.skipped]

    def _running(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _is_done(self, name: str) -> bool:
        return name in self._report.done or name in self._report.skipped

    def _keep_back_what_cannot_start(self) -> None:
        lost = {**self._report.failed, **self._report.kept_back}
        for job in list(self._pending):
            missing = [need for need in job.needs if need in lost]
            if missing:
                self._pending.remove(job)
                lost[job.name] = self._report.kept_back[job.name] = missing[0]
                self._on_change(job.name, "kept back")

    def _start_what_can(self) -> None:
        for job in list(self._pending):
            used = sum(self._slots(worker.job) for worker in self._running() if worker.job)
            fits = used == 0 or used + self._slots(job) <= self._cores
            if fits and all(self._is_done(need) for need in job.needs):
                self._pending.remove(job)
                self._tries[job.name] = self._tries.get(job.name, 0) + 1
                worker = self._idle_worker() or self._new_worker()
                worker.job = job
                worker.connection.send((job, self._root, self._threads[job.name]))
                self._on_change(job.name, "started")

    def _slots(self, job: Job) -> int:
        return self._threads[job.name] * job.processes

    def _idle_worker(self) -> _Worker | None:
        return next((w for w in self._workers if w.job is None and w.process.is_alive()), None)

    def _new_worker(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=False)
        start(process)
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _wait_for_news(self) -> None:
        running = self._running()
        ready = wait([worker.connection for worker in running], timeout=0.5) if running else []
        for worker in running:
            if worker.connection not in ready or worker.job is None:
                continue
            job, worker.job = worker.job, None
            try:
                problem = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._bury(worker, job)
                continue
            if problem is None:
                self._report.done.append(job.name)
                self._on_change(job.name, "done")
            else:
                self._fail(job, problem)

    def _bury(self, worker: _Worker, job: Job) -> None:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        if self._tries[job.name] < MAX_TRIES:
            self._on_change(job.name, "died, tried again")
            self._pending.insert(0, job)
        else:
            self._fail(job, f"its process died {MAX_TRIES} times (exit status {worker.process.exitcode})")

    def _fail(self, job: Job, reason: str) -> None:
        self._report.failed[job.name] = reason
        self._on_change(job.name, "failed")


def _check_can_be_sent(job: Job) -> None:
    try:
        pickle.dumps(job)
    except Exception as error:  # pickle raises errors of many types
        raise UsageError(
            f"job {job.name!r} cannot be sent to another process ({error}): its function should be one of a module"
        ) from error


def _work(connection: Connection) -> None:
    """What a worker process does: take a job, do it, say how it went; end with its parent."""
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        try:
            job, root, threads = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            problem = _attempt(job, root, threads)
        except (KeyboardInterrupt, ProcessDiedError):
            return
        connection.send(problem)


def _attempt(job: Job, root: Path, threads: int) -> str | None:
    try:
        execute(job, root, threads)
    except InstarError as error:
        return str(error)
    except ProcessDiedError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        with contextlib.suppress(OSError), open(root / "jobs" / job.name / LOG, "a") as log:
            log.write(traceback.format_exc())
        name = Path(where.filename).name
        return f"{type(error).__name__}: {error} ({name}:{where.lineno}; see jobs/{job.name}/{LOG})"
    return None


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
