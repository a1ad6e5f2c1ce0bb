"""`instar data`."""

from typing import Annotated, Any

import typer

from instar.cli.commands import with_options

Name = Annotated[
    str | None, typer.Argument(help="A data set to describe; without one the known data sets are listed.")
]


@with_options("DESCRIBED")
def data(typed: dict[str, Any], name: Name = None) -> None:
    """List the data sets, or fetch and describe one."""
    from rich.console import Console

    from instar.recipes.data_tables import data_table, known_table
    from instar.reports import print_table

    settings = typed.get("data", {}) | ({"name": name} if name else {})
    print_table(data_table(settings) if settings else known_table(), Console(highlight=False))
