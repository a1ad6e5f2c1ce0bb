"""`instar reproduce`."""

import sys
from typing import Annotated

import typer

from instar.cli.commands import with_run_options
from instar.cli.options import RunOptions, set_values
from instar.cli.running import run_and_show
from instar.recipes.reproductions import REPRODUCTIONS, as_toml, reproduction, reproduction_config

app = typer.Typer(help="Repeat a study of the papers, and compare with their figures.", no_args_is_help=True)

Scale = Annotated[
    str | None,
    typer.Option(help=r"tiny (for tests), small (minutes) or full (hours). [dim]\[default: small][/dim]"),
]
Show = Annotated[bool, typer.Option("--show", help="Print the settings as TOML, which --config reads, and stop.")]


@app.callback()
def studies() -> None:
    """Repeat a study of the papers, and compare with their figures."""


def _add_command(name: str, what: str, data: str, more_data: str) -> None:
    data_help = rf"{more_data}. [dim]\[default: {data}][/dim]"

    def with_data(
        run: RunOptions,
        scale: Scale = None,
        data: Annotated[str | None, typer.Option(help=data_help)] = None,
        show: Show = False,
    ) -> None:
        _reproduce(name, scale, data, show, run)

    def as_it_is(run: RunOptions, scale: Scale = None, show: Show = False) -> None:
        _reproduce(name, scale, None, show, run)

    app.command(name, help=what)(with_run_options(with_data if data else as_it_is))


def _reproduce(name: str, scale: str | None, data: str | None, show: bool, run: RunOptions) -> None:
    config = reproduction_config(name, scale, data, run.config, set_values({}, run.set_ or ()))
    if show:
        sys.stdout.write(as_toml(config))
    else:
        run_and_show(reproduction(name).study, config, run)


for name, study in REPRODUCTIONS.items():
    _add_command(name, study.what, study.data, study.more_data)
