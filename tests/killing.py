"""A command that is killed in the middle, and begun again: beside it the same command undisturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from instar.runs import PROGRESS


class Twice(NamedTuple):
    """Two run directories of one command, the second killed once or more."""

    undisturbed: Path
    killed: Path


def run_undisturbed_and_killed(
    words: Sequence[str],
    folder: Path,
    *,
    signals: Sequence[signal.Signals],
    news: str,
    at_most_seconds: float,
    seed: int = 5,
    one_core: bool = False,
    interrupt_all: bool = True,
) -> Twice:
    """Run `instar WORDS` to its end, and elsewhere with a signal in the middle of each start but the last.

    Where a busy machine finishes the command before the signal is sent, the rest of the signals go to a new run.

    Args:
        words: of the command, without its run directory.
        folder: for all run directories.
        signals: one for each start.
        news: folders of the jobs, a pattern below the run directory: a signal comes after one of them has reported
            its progress.
        at_most_seconds: after that.
        seed: of how long after that.
        one_core: so that all fits have one thread.
        interrupt_all: SIGINT goes to all processes, as a terminal sends it, and not to the first alone.
    """
    undisturbed = folder / "undisturbed"
    _finish(_start(words, undisturbed, one_core))
    moments, waiting, number = random.Random(seed), list(signals), 0
    while waiting:
        killed = folder / f"killed-{number}"
        process = _start(words, killed, one_core)
        _wait_for_news(killed, news, process)
        time.sleep(moments.uniform(0, at_most_seconds))
        if process.poll() is None:
            one = waiting.pop(0)
            if interrupt_all or one == signal.SIGKILL:
                os.killpg(process.pid, one)
            else:
                process.send_signal(one)
        else:
            number += 1
        process.communicate(timeout=1200)
    _finish(_start(words, killed, one_core))
    return Twice(undisturbed, killed)


def _start(words: Sequence[str], path: Path, one_core: bool) -> "subprocess.Popen[str]":
    """In a session of its own, as a terminal would have it."""
    cores = {min(os.sched_getaffinity(0))} if one_core else os.sched_getaffinity(0)
    return subprocess.Popen(
        [sys.executable, "-m", "instar", *words, "--run-dir", str(path), "--quiet"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def _finish(process: "subprocess.Popen[str]") -> None:
    _, said = process.communicate(timeout=1200)
    assert process.returncode == 0, said


def _wait_for_news(path: Path, news: str, process: "subprocess.Popen[str]") -> None:
    """Until a job has told of its progress since now, or all is done."""
    began = time.time()
    while process.poll() is None:
        for file in path.glob(f"{news}/{PROGRESS}"):
            try:
                if file.stat().st_mtime > began:
                    return
            except FileNotFoundError:  # its job has ended meanwhile
                pass
        time.sleep(0.01)
