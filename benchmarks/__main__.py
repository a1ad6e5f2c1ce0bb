"""Run the benchmarks, each in a process of its own, and show what they wrote."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.peer_environment import peer_python
from benchmarks.timing import RESULTS

MODULES = {
    "step": "step",
    "library-step": "library_step",
    "text-step": "text_step",
    "asking": "asking",
    "first-step": "first_step",
    "loop-limit": "loop_limit",
    "precision": "precision",
    "epoch": "epoch",
    "whole-job": "whole_job",
    "views": "views",
    "store": "store",
    "treatment": "treatment",
    "study": "study",
    "specialists": "specialists",
    "engines": "engines",
    "speech": "speech",
    "decoding": "decoding",
    "width": "width",
    "export": "export",
    "serve": "serve",
    "reading": "reading",
    "exports": "exports",
    "help": "cli_help",
    "start": "start",
    "kills": "kills",
    "fuzz": "fuzz",
    "defaults": "defaults",
    "tables": "tables",
    "streams": "streams",
    "other-libraries": "other_libraries",
}
# take an hour, or are no measure of speed
ON_DEMAND = {"start", "kills", "fuzz", "defaults", "exports", "streams", "other-libraries", "tables"}
BESIDE_PEER = {"epoch", "whole-job", "width", "other-libraries"}
WIDTH = 110  # characters, where no terminal says another


def main() -> int:
    """Run those that were asked for, by default all; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(MODULES)}; by default all but {', '.join(sorted(ON_DEMAND))}",
    )
    names = parser.parse_args().names or [name for name in MODULES if name not in ON_DEMAND]
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"no benchmark {unknown[0]!r}: {', '.join(MODULES)}")
    failed = [name for name in names if not _run(name)]
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(_table(name for name in names if name not in failed))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _run(name: str) -> bool:
    print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        python = peer_python() if name in BESIDE_PEER else sys.executable
        subprocess.run([python, "-m", f"benchmarks.{MODULES[name]}"], check=True)
    except subprocess.CalledProcessError as error:
        print(f"failed with exit status {error.returncode}", file=sys.stderr)
        return False
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return True


def _table(names: Iterable[str]) -> Table:
    table = Table(title="Medians and quartiles of n rounds", box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("median", "quartiles", "n", "goal"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in names:
        file = RESULTS / f"bench-{name}.json"
        if not file.exists():  # it counts, and has its own table in docs/results.md
            continue
        result = json.loads(file.read_text())
        table.add_row(f"[bold]{name}[/] (ratio: {result['config']['ratio']})")
        for what, about in [*result["ratios"].items(), *result["figures"].items()]:
            table.add_row(f"  {what}", *_cells(about))
        table.add_section()
    return table


def _cells(about: dict[str, Any]) -> list[str]:
    short = {"ratio": "", "seconds": " s", "examples/s": " /s", "requests/s": " /s", "requests": "", "bytes": " B"}
    unit = short.get(about["unit"], f" {about['unit']}")
    low, high = map(_number, about["spread"])
    met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[about.get("met")]
    return [_number(about["median"]) + unit, f"{low} to {high}", str(about["n"]), f"{about.get('goal', '')} {met}"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
