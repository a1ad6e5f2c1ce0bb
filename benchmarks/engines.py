"""A hundred jobs of a second each through either engine, over the seconds that they take with all cores busy."""

import itertools
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.jobs import Engine, Job, open_engine, run_jobs
from instar.runs import Run

NUM_JOBS, SECONDS = 100, 1.0
ROUNDS = 3
GOALS = {"local": "<= 1.05", "ray": "<= 1.15"}


def main() -> None:
    """Measure, and write `results/bench-engines.json`."""
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = {name: stack.enter_context(open_engine(name, cores=cores)) for name in GOALS}
        ways = {name: _jobs(engine, folder / name, cores) for name, engine in engines.items()}
        seconds = in_turns(ways, rounds=ROUNDS, at_most_seconds=0)
    busy = NUM_JOBS * SECONDS / cores
    write_result(
        "engines",
        config={
            "num_jobs": NUM_JOBS,
            "seconds_of_a_job": SECONDS,
            "cores": cores,
            "workers": "started before, by a round of few jobs that does not count",
            "ratio": f"seconds of {NUM_JOBS} jobs that sleep {SECONDS:g} s over {busy:g} s, all cores busy",
        },
        seconds=seconds,
        ratios={name: ratio(values, [busy] * len(values), goal=GOALS[name]) for name, values in seconds.items()},
        figures={name: figure(values, unit="seconds") for name, values in seconds.items()},
    )


def _jobs(engine: Engine, folder: Path, cores: int) -> Way:
    """All jobs, in a new run directory at each call; at the first, what wakes each worker."""
    calls = itertools.count()

    def run() -> None:
        call = next(calls)
        jobs = [Job(f"job-{n}", sleep, {}) for n in range(NUM_JOBS if call else 2 * cores)]
        run_jobs(jobs, folder / str(call), engine=engine, quiet=True).raise_if_failed()

    return run


def sleep(run: Run, needs: Mapping[str, Path]) -> dict[str, object]:
    """A job that takes its time and no core."""
    time.sleep(SECONDS)
    return {}


if __name__ == "__main__":
    main()
