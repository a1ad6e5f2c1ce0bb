"""`instar runs`: list, show, compare and remove run directories."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="List, show, compare and remove run directories.", no_args_is_help=True)

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
    console = Console(highlight=False)
    if as_json:
        sys.stdout.write(json.dumps(records, indent=2) + "\n")
    elif records:
        console.print(list_table(records))
    else:
        console.print(f"No runs below {root}. instar distill makes one.", soft_wrap=True)


def list_table(records: list[dict[str, Any]]) -> "Table":
    """Runs as a table: in a narrow terminal names are folded, and numbers are not."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    numbers = [_number(record.get("difference")) for record in records]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("difference", overflow="fold", min_width=max(map(len, numbers)))
    for record, number in zip(records, numbers, strict=True):
        name = Text.assemble(record["run"], "\n", (record["recipe"], "dim"))
        about = record.get("difference", {})
        of = "\n{name} - {minus}, {unit}".format(**about) if about else ""
        table.add_row(name, _state(record), Text.assemble(number, (of, "dim")))
    return table


def _state(record: dict[str, Any]) -> str:
    from instar.jobs import duration

    if not record["done"]:
        return f"not finished\n{record['fits']} fits"
    return "done" if record.get("seconds") is None else f"done\n{duration(record['seconds'])}"


def _number(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return ""
    interval = "" if difference.get("low") is None else " [{low:+.1f}, {high:+.1f}]".format(**difference)
    return f"{difference['mean']:+.1f}{interval}"


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
    console = Console(highlight=False)
    for table in run_tables(find_run(run)):
        print_table(table, console)


@app.command()
def compare(runs: list[str] = typer.Argument(help="Two or more run directories.")) -> None:
    """Compare the rows, differences and settings of several runs."""
    from rich.console import Console

    from instar.recipes.run_tables import comparison_tables
    from instar.reports import print_table

    console = Console(highlight=False)
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
    if yes or typer.confirm(f"Delete {', '.join(map(str, paths))}?"):
        for path in paths:
            remove_run(path)
