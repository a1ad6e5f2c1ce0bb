"""One job in this process: open its run directory, do the work unless it is done, write the result."""

import contextlib
import datetime
import sys
import tempfile
import traceback
from collections.abc import Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from instar.errors import InstarError, RunError
from instar.jobs.graph import Job
from instar.processes import pack, start_process, unpack
from instar.runs import LOG, Run


class ProcessDiedError(Exception):
    """One of the processes that share a job was killed: the job is to be tried again."""


def job_run(job: Job, root: Path) -> Run:
    """The run directory of a job; a process that was just killed may hold it for a moment."""
    return Run(root / "jobs" / job.name, recipe="job", config=job.config, wait_seconds=10.0)


def execute(job: Job, root: Path, threads: int) -> None:
    """Do a job, or go on with it, or see that it is done.

    Args:
        job: the job.
        root: run directory of the command.
        threads: how many threads to compute with, in each process.
    """
    torch.set_num_threads(threads)
    with job_run(job, root) as run:
        if run.is_done:
            return
        needs = {need: root / "jobs" / need for need in job.needs}
        alone = job.processes == 1
        run.finish(job.function(run, needs) if alone else _execute_distributed(job, run, needs, threads))


def attempt(job: Job, root: Path, threads: int) -> str | None:
    """`execute`, with what went wrong in one line, or None.

    Raises:
        ProcessDiedError: the job is to be tried again.
    """
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


def _execute_distributed(job: Job, run: Run, needs: Mapping[str, Path], threads: int) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        others = [
            start_process(_other_rank, pack((job, needs)), run.path, threads, rank, meeting, daemon=True)
            for rank in range(1, job.processes)
        ]
        try:
            result = _rank(job, run, needs, rank=0, meeting=meeting)
            for process in others:
                process.join(timeout=20)
        except InstarError:  # the others have the same to say
            raise
        except RuntimeError as error:  # as when a connection breaks, because another process has ended
            _look_for_another_cause(job, run, others, error)
            raise
        finally:
            for process in others:
                process.kill()
                process.join()
    return result


def _look_for_another_cause(job: Job, run: Run, others: list[BaseProcess], error: Exception) -> None:
    wait([process.sentinel for process in others], timeout=10)
    for process in others:
        process.join(timeout=0.1)
    ends = [process.exitcode for process in others if process.exitcode]
    if any(end < 0 for end in ends):
        raise ProcessDiedError(f"exit statuses {ends}") from error
    if ends:
        run.log(f"process 0 of {job.processes}: {error}")
        raise RunError(f"one of the {job.processes} processes failed: see {run.path / LOG}") from error


def _other_rank(packed: tuple[bytes, dict[str, Any]], path: Path, threads: int, rank: int, meeting: str) -> None:
    job, needs = unpack(*packed)
    torch.set_num_threads(threads)
    run = Run.read(path)
    try:
        _rank(job, run, needs, rank=rank, meeting=meeting)
    except Exception:
        run.log(f"process {rank} of {job.processes}: {traceback.format_exc()}")
        sys.exit(1)


def _rank(job: Job, run: Run, needs: Mapping[str, Path], *, rank: int, meeting: str) -> Mapping[str, Any]:
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=job.processes,
        timeout=datetime.timedelta(minutes=10),
    )
    try:
        return job.function(run, needs)
    finally:
        torch.distributed.destroy_process_group()
