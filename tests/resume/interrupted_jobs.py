"""A command that does jobs, to be interrupted and started again: `python interrupted_jobs.py ROOT [--quiet]`.

`--engine=NAME` does the first of them alone, on another engine.
"""

import sys

from instar.jobs import Job, open_engine, run_jobs
from job_functions import fragile_fit

EPOCHS = 40
CONFIG = {"dies_at": 0, "epochs": EPOCHS, "checkpoint_seconds": 1000.0}  # only an interruption leaves a checkpoint
JOBS = [Job("alone", fragile_fit, CONFIG), Job("shared", fragile_fit, CONFIG, processes=2)]


def main() -> None:
    """Do the jobs on three cores, so that both run at once."""
    other = [option.removeprefix("--engine=") for option in sys.argv if option.startswith("--engine=")]
    jobs = JOBS[:1] if other else JOBS
    try:
        with open_engine(*other, cores=1 if other else 3) as engine:
            run_jobs(jobs, sys.argv[1], engine=engine, quiet="--quiet" in sys.argv).raise_if_failed()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
