"""The local engine: worker processes on this machine, each with its share of the cores."""

import bisect
import multiprocessing
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from instar.errors import DataWarning, InstarError
from instar.jobs.execution import ProcessDiedError, attempt
from instar.jobs.graph import Batch, threads_of
from instar.jobs.walk import DIED, DONE, FAILED, MAX_TRIES, STARTED, Engine, News, Task
from instar.processes import Written, pack, start_process, start_server, unpack


@dataclass
class _Try:
    task: Task
    number: int = 1

    @property
    def slots(self) -> int:
        job = self.task.job
        return job.processes * (1 if job.gpus else self.task.threads)  # who feeds a GPU keeps one core busy


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    stderr: Written
    current: _Try | None = None


class LocalEngine(Engine):
    """Runs jobs on this machine, as many at once as their threads leave room for."""

    def __init__(self, *, cores: int) -> None:
        self._cores = cores
        self._workers: list[_Worker] = []
        self._waiting: list[_Try] = []
        start_server()

    def threads(self, batch: Batch) -> dict[str, int]:
        """The cores, shared among the jobs of a level."""
        return threads_of(batch.jobs, self._cores, batch.beside)

    def submit(self, task: Task) -> None:
        """Take a job, to do it as soon as there is room: of several, that with most ahead."""
        bisect.insort(self._waiting, _Try(task), key=lambda one: -one.task.ahead)

    def news(self) -> Iterator[News]:
        """Start what fits, and wait for a moment for what ends."""
        yield from self._start_what_fits()
        busy = [(worker, worker.current) for worker in self._workers if worker.current is not None]
        ready = wait([worker.connection for worker, _ in busy], timeout=0.5) if busy else []
        for worker, current in busy:
            worker.stderr.show()
            if worker.connection in ready:
                worker.current = None
                yield self._end_of(current, worker)

    def close(self) -> None:
        """Let what runs save a checkpoint, and end."""
        for worker in self._workers:
            if worker.current is not None:
                worker.process.terminate()  # it saves a checkpoint and ends
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(timeout=20)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
            worker.stderr.close()
        self._workers.clear()
        self._waiting.clear()

    def _start_what_fits(self) -> Iterator[News]:
        for current in list(self._waiting):
            used = sum(worker.current.slots for worker in self._workers if worker.current is not None)
            if used == 0 or used + current.slots <= self._cores:
                self._waiting.remove(current)
                worker = self._idle_worker() or self._new_worker()
                worker.current = current
                worker.stderr.begin()
                worker.connection.send(pack(current.task))
                yield News(current.task.job, STARTED)

    def _idle_worker(self) -> _Worker | None:
        return next((w for w in self._workers if w.current is None and w.process.is_alive()), None)

    def _new_worker(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        stderr = Written()
        process = start_process(_work, theirs, stderr=stderr.fileno())
        theirs.close()
        self._workers.append(_Worker(process, ours, stderr))
        return self._workers[-1]

    def _end_of(self, current: _Try, worker: _Worker) -> News:
        job = current.task.job
        try:
            problem = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(worker, current)
        return News(job, DONE) if problem is None else News(job, FAILED, problem)

    def _bury(self, worker: _Worker, current: _Try) -> News:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        written = worker.stderr.last_lines()
        worker.stderr.close()
        if current.number < MAX_TRIES:
            self._waiting.insert(0, _Try(current.task, current.number + 1))
            return News(current.task.job, DIED)
        reason = f"its process died {MAX_TRIES} times (exit status {worker.process.exitcode})"
        if written:
            reason += f"; its last lines on stderr: {written}"
        return News(current.task.job, FAILED, reason)


def _work(connection: Connection) -> None:
    """The loop of a worker process: receive a job, do it, send what went wrong or None."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.simplefilter("ignore", DataWarning)  # the main process has read the same data and warned
    while True:
        try:
            message = connection.recv()
            problem = _attempt(*message)
        except (EOFError, KeyboardInterrupt, ProcessDiedError):
            return
        connection.send(problem)


def _attempt(content: bytes, script: dict[str, Any]) -> str | None:
    try:
        job, root, threads, _ = unpack(content, script)
    except InstarError as error:
        return str(error)
    except Exception as error:  # raised by the module of the function, or by the script
        return f"a worker cannot import the job's function: {type(error).__name__}: {error}"
    return attempt(job, root, threads)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
