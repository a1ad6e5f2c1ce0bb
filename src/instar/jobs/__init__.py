"""A graph of fits: skip what is done, go on with what was cut, try again what died."""

import os
from collections.abc import Sequence
from pathlib import Path

from instar.errors import UsageError
from instar.jobs.display import Display, duration
from instar.jobs.graph import Batch, Job, JobReport, check_graph, num_gpus
from instar.jobs.local import LocalEngine
from instar.jobs.ray import RayEngine, check_ray
from instar.jobs.walk import Engine, More

__all__ = [
    "Batch",
    "Engine",
    "Job",
    "JobReport",
    "check_engine",
    "check_graph",
    "duration",
    "num_gpus",
    "open_engine",
    "run_batches",
    "run_jobs",
]


def check_engine(name: str) -> str:
    """The name of an engine, if there is one and what it needs is here.

    Raises:
        UsageError: no such engine, Ray is not installed, or nothing listens at its address.
    """
    kind, separator, address = name.partition(":")
    if kind == "ray" and bool(separator) == bool(address):
        check_ray(address)
    elif name != "local":
        raise UsageError(f"unknown engine {name!r}; there is local, ray and ray:ADDRESS")
    return name


def open_engine(name: str = "local", *, cores: int | None = None) -> Engine:
    """An engine that several graphs of jobs share, to be used in a `with` statement.

    Args:
        name: `local`, processes on this machine; `ray`, a Ray cluster that is started on this machine and ended
            with the engine; or `ray:ADDRESS`, one that runs already (HOST:PORT, or auto on a machine of it).
        cores: how many to use; all of the machine or of the cluster by default.

    Raises:
        UsageError: no such engine, less than one core, Ray is not installed or no cluster answers.
    """
    if cores is not None and cores < 1:
        raise UsageError(f"cores is {cores}, expected at least 1")
    kind, _, address = check_engine(name).partition(":")
    if address:
        return RayEngine(address, cores=cores)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = cores or usable
    return LocalEngine(cores=cores) if kind == "local" else RayEngine(cores=cores)


def run_jobs(
    jobs: Sequence[Job],
    root: str | Path,
    *,
    engine: Engine | str = "local",
    title: str = "all jobs",
    quiet: bool = False,
) -> JobReport:
    """Do a graph of jobs, each in its own run directory `root/jobs/NAME`.

    What is done is skipped, what was cut goes on, what died is tried again, and what fails keeps back only
    those that need it. Ctrl-C saves a checkpoint of each job that runs.

    Args:
        jobs: in any order; `needs` decides.
        root: run directory of the command.
        engine: an open one, or the name of one to open for these jobs.
        title: what the progress is of, where these are not all jobs of a command: `part 1 of 2`.
        quiet: show no progress.

    Raises:
        UsageError: the graph or the engine is wrong.
    """
    batches = iter([Batch(jobs, title)])
    return run_batches(lambda _: next(batches, None), root, engine=engine, quiet=quiet)


def run_batches(more: More, root: str | Path, *, engine: Engine | str = "local", quiet: bool = False) -> JobReport:
    """Do jobs that come in batches, each decided by how those before it ended, or while they still run.

    Args:
        more: gives the next batch, from the report so far; one without jobs where none come yet, None after the
            last. It is asked twice a second, and whenever a job ends.
        root, engine, quiet: as for `run_jobs`.

    Raises:
        UsageError: a batch or the engine is wrong.
    """
    if isinstance(engine, str):
        with open_engine(engine) as opened:
            return run_batches(more, root, engine=opened, quiet=quiet)
    root = Path(root)
    with Display(root, quiet=quiet) as display:

        def shown(report: JobReport) -> Batch | None:
            batch = more(report)
            if batch is not None and batch.jobs:
                display.add(batch)
            return batch

        return engine.run(root, shown, on_change=display.change)
