"""`instar specialists`."""

from typing import Any

from instar.cli.commands import with_options
from instar.cli.options import RunOptions
from instar.cli.running import run_and_show


@with_options("SPECIALISTS")
def specialists(typed: dict[str, Any], run: RunOptions) -> None:
    """Train a generalist and a specialist for each set of classes that it confuses, and combine them.

    With no option: the digits, in under a minute.
    """
    from instar.recipes.commands import SPECIALISTS

    run_and_show(SPECIALISTS.study, SPECIALISTS.read_config(typed, run.config), run)
