"""`instar data`: list, describe and check data sets."""

import json
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from instar.cli.commands import LazyCommand, with_options
from instar.cli.options import AsJson, Quiet


class _ShowByDefault(TyperGroup):
    """`instar data NAME` is `instar data show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = [*self.commands, "--help"]
        return super().parse_args(ctx, args if args and args[0] in known else ["show", *args])


app = typer.Typer(help="List, describe and check data sets.", cls=_ShowByDefault)


@app.command(cls=LazyCommand)
@with_options("DESCRIBED")
def show(
    typed: dict[str, Any],
    name: Annotated[
        str | None, typer.Argument(help="A data set to describe; without one the known data sets are listed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the data sets, or fetch and describe one: `instar data NAME` does the same."""
    from rich.console import Console

    from instar.recipes.data_tables import data_record, data_tables, known_table
    from instar.reports import print_table

    settings = typed.get("data", {}) | ({"name": name} if name else {})
    if as_json:
        about = data_record(settings) if settings else known_table().rows
        sys.stdout.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False, emoji=False)
    for table in data_tables(settings) if settings else [known_table()]:
        print_table(table, console)


@app.command(cls=LazyCommand)
@with_options("DESCRIBED")
def check(
    typed: dict[str, Any],
    name: Annotated[str, typer.Argument(help="folder:PATH, a known data set, or python:MODULE:FUNCTION.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read every example of a data set; list what is broken and what is there twice. Exit 1 if any is broken."""
    from rich.console import Console

    from instar.recipes.data_tables import inspect, inspection_record, inspection_tables, summary
    from instar.reports import print_table

    found = inspect(typed.get("data", {}) | {"name": name}, progress=not quiet)
    if as_json:
        sys.stdout.write(json.dumps(inspection_record(found), indent=2) + "\n")
    else:
        console = Console(highlight=False, emoji=False)
        for table in inspection_tables(found):
            print_table(table, console)
        console.print(f"\n{summary(found)}", soft_wrap=True, markup=False)
    if found.broken:
        raise typer.Exit(1)
