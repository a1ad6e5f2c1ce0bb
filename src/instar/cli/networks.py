"""`instar networks`: the networks that can be built by name."""

import json
import sys
from typing import Annotated

import typer

from instar.cli.options import AsJson
from instar.errors import UsageError


def networks(
    word: Annotated[
        str, typer.Argument(metavar="[WORD]", help="List those of timm and torchvision whose names hold it, too.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built by name, with the number of their weights."""
    from rich.console import Console

    from instar.recipes.network_tables import known_networks, networks_table
    from instar.reports import print_table

    found = known_networks(word)
    if not found:
        raise UsageError(f"no network's name holds {word!r}; instar networks lists the forms of names")
    if as_json:
        sys.stdout.write(json.dumps({"networks": found}, indent=2) + "\n")
    else:
        print_table(networks_table(found), Console(highlight=False, emoji=False))
