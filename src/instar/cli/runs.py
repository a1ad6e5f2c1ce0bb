"""`instar runs`: list, show, compare and remove run directories."""

import json
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from instar.errors import InstarError

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="List, show, compare and remove run directories.", no_args_is_help=True)

_EDGES = 10  # columns of padding and lines beside the three of the list
_IN_A_PIPE = 400  # columns, where another program reads the names
_LEAST_NAME, _WIDE_NAME = 10, 30  # a name gets more than the second only where nothing else needs the room

Root = typer.Option(Path("runs"), "--root", help="Where the runs are.")


@app.command("list")
def list_(
    root: Path = Root,
    as_json: bool = typer.Option(False, "--json", help="Print a list of records and nothing else."),
) -> None:
    """List the runs, oldest first."""
    from rich.console import Console

    from instar.recipes.run_tables import run_records

    records = run_records(root)
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _IN_A_PIPE
    if as_json:
        sys.stdout.write(json.dumps(records, indent=2) + "\n")
    elif records:
        console.print(list_table(records, console.width))
    else:
        console.print(f"No runs below {root}. instar distill makes one.", soft_wrap=True)


def list_table(records: list[dict[str, Any]], width: int) -> "Table":
    """Runs as a table: in a narrow terminal names are broken between their parts, and numbers are not."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    states, differences = [*map(_state, records)], [*map(_difference, records)]
    lines = max(len(line) for number, of in differences for line in (number, of, "difference"))
    words = max(len(word) for number, of in differences for word in (number, *of.split(), "difference"))
    room = width - _EDGES - max(len(line) for state in states for line in state.split("\n"))
    room = max(room - lines, min(room - words, _WIDE_NAME), _LEAST_NAME)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("difference", min_width=words)
    for record, state, (number, of) in zip(records, states, differences, strict=True):
        name = Text.assemble(_folded(record["run"], room), "\n", (record["recipe"], "dim"))
        table.add_row(name, state, Text.assemble(number, "\n" if of else "", (of, "dim")))
    return table


def _folded(name: str, width: int) -> str:
    """A name in lines of at most this width, broken after a slash, a hyphen or an underscore where there is one.

    Example:
        >>> print(_folded("runs/distill/digits-mlp-8x1", 14))
        runs/distill/
        digits-mlp-8x1
    """
    lines = [""]
    for part in re.findall(r"[^/_-]*[/_-]?", name):
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, width) or [line])


def _state(record: dict[str, Any]) -> str:
    from instar.jobs import duration

    if not record["done"]:
        return f"not finished\n{record['fits']} fits"
    return "done" if record.get("seconds") is None else f"done\n{duration(record['seconds'])}"


def _difference(record: dict[str, Any]) -> tuple[str, str]:
    """The number with its interval, and what it is of."""
    difference = record.get("difference")
    if difference is None:
        return "", ""
    interval = "" if difference.get("low") is None else " [{low:+.1f}, {high:+.1f}]".format(**difference)
    return f"{difference['mean']:+.1f}{interval}", "{name} - {minus}, {unit}".format(**difference)


@app.command()
def show(
    run: str = typer.Argument(help="A run directory, or one of its fits: RUN:teacher"),
    as_json: bool = typer.Option(False, "--json", help="Print result.json and nothing else."),
) -> None:
    """Show the result of a run."""
    from rich.console import Console

    from instar.recipes.run_tables import run_tables
    from instar.reports import print_table
    from instar.runs import Run, find_run

    if as_json:
        sys.stdout.write(json.dumps(Run.read(find_run(run)).result(), indent=2) + "\n")
        return
    console = Console(highlight=False, emoji=False)
    for table in run_tables(find_run(run)):
        print_table(table, console)


@app.command()
def compare(runs: list[str] = typer.Argument(help="Two or more run directories.")) -> None:
    """Compare the rows, differences and settings of several runs."""
    from rich.console import Console

    from instar.recipes.run_tables import comparison_tables
    from instar.reports import print_table

    console = Console(highlight=False, emoji=False)
    for table in comparison_tables(runs):
        print_table(table, console)


@app.command()
def remove(
    runs: list[str] = typer.Argument(help="Run directories."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
) -> None:
    """Delete run directories with everything in them."""
    from instar.runs import Run, find_run, remove_run

    paths = [find_run(run) for run in runs]
    for path in paths:
        Run.read(path)
    if yes or _agrees(f"Delete {', '.join(map(str, paths))}?"):
        for path in paths:
            remove_run(path)


def _agrees(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        raise InstarError("nothing is deleted: the question got no answer; --yes deletes without asking") from None
