"""`instar advise`."""

from typing import Any

from instar.cli.commands import with_options
from instar.cli.options import RunOptions
from instar.cli.running import run_and_show


@with_options("ADVISE")
def advise(typed: dict[str, Any], run: RunOptions) -> None:
    """Find which layers of a trained network to keep for your data, and whether to freeze them.

    With no option: a network trained on the digits 0-4, and twenty examples each of 5-9.
    """
    from instar.recipes.commands import ADVISE

    run_and_show(ADVISE.study, ADVISE.read_config(typed, run.config), run)
