"""`instar transfer`."""

from typing import Annotated, Any

import typer

from instar.cli.commands import with_options
from instar.cli.options import RunOptions
from instar.cli.running import run_and_show

ListLayers = Annotated[
    bool,
    typer.Option(
        "--list-layers", help="Print the layers that a cut may follow, and stop.", rich_help_panel="Layers"
    ),
]


@with_options("TRANSFER")
def transfer(typed: dict[str, Any], run: RunOptions, list_layers: ListLayers = False) -> None:
    """Measure how transferable each layer of a network is: copy, freeze or fine-tune, retrain the rest, compare.

    With no option: the digits 0-4 against 5-9, in under a minute.
    """
    from instar.recipes.commands import TRANSFER

    config = TRANSFER.read_config(typed, run.config)
    if list_layers:
        _print_layers(config)
    else:
        run_and_show(TRANSFER.study, config, run)


def _print_layers(config: Any) -> None:
    from pathlib import Path

    from rich.console import Console

    from instar.recipes.transfer.figures import layer_table
    from instar.recipes.transfer.plan import Plan
    from instar.reports import print_table

    print_table(layer_table(Plan(config, Path()).layers), Console(highlight=False, emoji=False))
