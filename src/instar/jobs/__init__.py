"""A graph of fits: skip what is done, go on with what was cut, try again what died."""

import os
from collections.abc import Sequence
from pathlib import Path

from instar.errors import UsageError
from instar.jobs.display import Display, duration
from instar.jobs.graph import Job, JobReport, check_graph
from instar.jobs.local import LocalEngine

__all__ = ["Job", "JobReport", "LocalEngine", "check_graph", "duration", "open_engine", "run_jobs"]


def open_engine(name: str = "local", *, cores: int | None = None) -> LocalEngine:
    """An engine that several graphs of jobs share, to be used in a `with` statement.

    Args:
        name: `local`, processes on this machine.
        cores: how many to use; all of them by default.

    Raises:
        UsageError: no such engine, or less than one core.
    """
    if name != "local":
        raise UsageError(f"unknown engine {name!r}; there is local")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores is not None and cores < 1:
        raise UsageError(f"cores is {cores}, expected at least 1")
    return LocalEngine(cores=cores or usable)


def run_jobs(
    jobs: Sequence[Job], root: str | Path, *, engine: LocalEngine | str = "local", quiet: bool = False
) -> JobReport:
    """Do a graph of jobs, each in its own run directory `root/jobs/NAME`.

    What is done is skipped, what was cut goes on, what died is tried again, and what fails keeps back only
    those that need it. Ctrl-C saves a checkpoint of each job that runs.

    Args:
        jobs: in any order; `needs` decides.
        root: run directory of the command.
        engine: an open one, or the name of one to open for these jobs.
        quiet: show no progress.

    Raises:
        UsageError: the graph or the engine is wrong.
    """
    check_graph(jobs)
    root = Path(root)
    if isinstance(engine, str):
        with open_engine(engine) as opened:
            return run_jobs(jobs, root, engine=opened, quiet=quiet)
    with Display(jobs, root, quiet=quiet) as display:
        return engine.run(jobs, root, on_change=display.change)
