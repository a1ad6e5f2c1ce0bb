"""Seconds until `instar --help` has answered."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.timing import figure, in_turns, ratio, write_result

ROUNDS = 10
GOAL_SECONDS = "<= 0.4"


def main() -> None:
    """Measure, and write `results/bench-help.json`."""
    commands = {
        "instar --help": [str(Path(sys.executable).parent / "instar"), "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }

    def call(name: str) -> None:
        subprocess.run(commands[name], check=True, capture_output=True)

    seconds = in_turns({name: partial(call, name) for name in commands}, rounds=ROUNDS)
    first, second = commands
    write_result(
        "help",
        config={"ratio": f"seconds of {first} over seconds of {second}"},
        seconds=seconds,
        ratios={f"{first} over {second}": ratio(seconds[first], seconds[second])},
        figures={
            first: figure(seconds[first], unit="seconds", goal=GOAL_SECONDS),
            second: figure(seconds[second], unit="seconds"),
        },
    )


if __name__ == "__main__":
    main()
