"""Seconds of the commands without options and of the tests, beside a checkout of an earlier commit."""

import argparse
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.timing import Seconds, figure, in_turns, ratio, write_result

ROOT = Path(__file__).parents[1]
EARLIER = "c8c33c6"
COMMANDS = ("distill", "transfer", "advise", "specialists")
COMMAND_GOAL = "<= 0.5"
ROUNDS, SUITE_ROUNDS = 5, 1
TEST_GOAL, TEST_SECONDS_GOAL, CHECK_GOAL = "<= 0.333", "<= 180", "<= 0.5"
CONFIG = {"ratio": f"seconds now over seconds of {EARLIER}", "earlier": EARLIER, "options": "none"}


def main() -> None:
    """Measure, and write `results/bench-start.json` (the commands) and `results/bench-tests.json` (the tests)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--commands", nargs="*", default=COMMANDS, metavar="COMMAND", help="none leaves them out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--suite-rounds", type=int, default=SUITE_ROUNDS, help="0 leaves the tests out")
    asked = parser.parse_args()
    with earlier_python() as (folder, python):
        if asked.commands:
            measure_commands(asked.commands, python, asked.rounds)
        if asked.suite_rounds:
            measure_suites(folder, python, asked.suite_rounds)


def measure_commands(commands: Sequence[str], earlier: str, rounds: int) -> None:
    """Seconds of the commands, in turns with the earlier ones."""
    pythons = {"now": sys.executable, EARLIER: earlier}
    ways = {
        f"{command}, {when}": partial(run_command, python, command)
        for command in commands
        for when, python in pythons.items()
    }
    seconds = in_turns(ways, rounds=rounds, at_most_seconds=float("inf"))
    ratios = {
        command: ratio(seconds[f"{command}, now"], seconds[f"{command}, {EARLIER}"], goal=COMMAND_GOAL)
        for command in commands
    }
    figures = {way: figure(values, unit="seconds") for way, values in seconds.items()}
    write_result("start", config=CONFIG, seconds=seconds, ratios=ratios, figures=figures)


def measure_suites(folder: Path, earlier: str, rounds: int) -> None:
    """Seconds of the tests, after those of the earlier commit."""
    seconds = run_suites(rounds, folder, earlier)
    before, test, slow = (seconds[name] for name in (f"all tests, {EARLIER}", "make test", "slow tier"))
    check = [sum(both) for both in zip(test, slow, strict=True)]
    ratios = {
        "make test": ratio(test, before, goal=TEST_GOAL),
        "tests of make check": ratio(check, before, goal=CHECK_GOAL),
    }
    figures = {way: figure(values, unit="seconds") for way, values in seconds.items()}
    figures["make test"] = figure(test, unit="seconds", goal=TEST_SECONDS_GOAL)
    write_result("tests", config=CONFIG, seconds=seconds, ratios=ratios, figures=figures, benchmark="start")


@contextmanager
def earlier_python() -> Iterator[tuple[Path, str]]:
    """A checkout of the earlier commit, and a Python with that instar and all else that this one has."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkout"
        subprocess.run([*git, "add", "--quiet", "--detach", folder, EARLIER], check=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
            (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
            paths = [folder / "src", *site.getsitepackages()]
            (packages / "earlier.pth").write_text("\n".join(map(str, paths)))
            yield folder, str(folder / ".venv" / "bin" / "python")
        finally:
            subprocess.run([*git, "remove", "--force", folder], check=True)


def run_command(python: str, command: str) -> None:
    """`instar COMMAND` in an empty folder, with as many threads as it takes."""
    folder = tempfile.mkdtemp()
    settings = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    try:
        subprocess.run(
            [python, "-m", "instar", command], cwd=folder, env=settings, check=True, capture_output=True
        )
    finally:
        shutil.rmtree(folder)


def run_suites(rounds: int, folder: Path, earlier: str) -> Seconds:
    """The tests of both, in turns: all of them at the earlier commit, and the two tiers now."""
    runs = {
        f"all tests, {EARLIER}": partial(run_tests, earlier, folder),
        "make test": partial(run_tests, sys.executable, ROOT, "--dist", "worksteal", "-m", "not slow"),
        "slow tier": partial(run_tests, sys.executable, ROOT, "--dist", "worksteal", "-m", "slow"),
    }
    seconds: Seconds = {name: [] for name in runs} if rounds else {}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def run_tests(python: str, folder: Path, *options: str) -> None:
    """As the Makefile runs them; tests that fail are named, and take the time that they take."""
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [python, "-m", "pytest", "-q", "--numprocesses", str(os.cpu_count()), *options]
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-2000:], file=sys.stderr)


if __name__ == "__main__":
    main()
