"""One job in this process: open its run directory, do the work unless it is done, write the result."""

import datetime
import multiprocessing
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from instar.errors import RunError
from instar.jobs.graph import Job
from instar.runs import Run


def job_run(job: Job, root: Path) -> Run:
    """The run directory of a job; a process that was just killed may hold it for a moment."""
    return Run(root / "jobs" / job.name, recipe="job", config=job.config, wait_seconds=5.0)


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


def _execute_distributed(job: Job, run: Run, needs: Mapping[str, Path], threads: int) -> Mapping[str, Any]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        others = [
            context.Process(target=_other_rank, args=(job, run.path, needs, threads, rank, meeting), daemon=True)
            for rank in range(1, job.processes)
        ]
        for process in others:
            process.start()
        try:
            result = _rank(job, run, needs, rank=0, meeting=meeting)
        finally:
            for process in others:
                process.join(timeout=20)
                process.kill()
    failed = [process for process in others if process.exitcode]
    if failed:
        raise RunError(f"{run.path}: a process of {job.processes} ended with status {failed[0].exitcode}")
    return result


def _other_rank(job: Job, path: Path, needs: Mapping[str, Path], threads: int, rank: int, meeting: str) -> None:
    torch.set_num_threads(threads)
    _rank(job, Run.read(path), needs, rank=rank, meeting=meeting)


def _rank(job: Job, run: Run, needs: Mapping[str, Path], *, rank: int, meeting: str) -> Mapping[str, Any]:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=job.processes,
        timeout=datetime.timedelta(minutes=10),
    )
    try:
        return job.function(run, needs)
    finally:
        torch.distributed.destroy_process_group()
