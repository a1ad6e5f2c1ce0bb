"""Options that belong to no setting: how a study is run, and what is shown of it."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from instar.errors import UsageError

RUN = "Run"


def _check_engine(name: str) -> str:
    if name != "local":
        from instar.jobs import check_engine

        check_engine(name)
    return name


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings in TOML; a run's config.toml too.", rich_help_panel=RUN
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any other setting, by its key in config.toml.", rich_help_panel=RUN
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.", rich_help_panel=RUN)]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=_check_engine,
        help="Where jobs run: local, ray (a cluster on this machine) or ray:HOST:PORT.",
        rich_help_panel=RUN,
    ),
]
Processes = Annotated[int, typer.Option(help="Processes that share one fit.", rich_help_panel=RUN)]
RunDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The run directory. By default below runs/.", rich_help_panel=RUN),
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard event files too.", rich_help_panel=RUN)
]
Publish = Annotated[bool, typer.Option("--publish", help="Write the result to results/ too.", rich_help_panel=RUN)]
Json = Annotated[bool, typer.Option("--json", help="Print result.json and nothing else.", rich_help_panel=RUN)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON record and nothing else.")]
TopK = Annotated[int, typer.Option(min=1, help="Number of classes to name, the most probable first.")]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Add the entropy (nats), and the share of less sure validation examples."),
]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Probabilities at a temperature fitted on validation.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.", rich_help_panel=RUN)]


@dataclass(frozen=True)
class RunOptions:
    """Options of every command that runs a study."""

    config: ConfigFile = None
    set_: Set = None
    run_dir: RunDir = None
    device: Device = "cpu"
    engine: Engine = "local"
    publish: Publish = False
    as_json: Json = False
    quiet: Quiet = False


def names(option: str, text: str | None) -> list[str] | None:
    """`cat,dog` as names.

    Raises:
        UsageError: one of them is empty.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} {text!r} should be a name, or several with commas: 3,5")
    return parts


def numbers(option: str, text: str | None) -> list[float] | None:
    """`2,4,8` as numbers.

    Raises:
        UsageError: one of them is no number.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r} should be a number, or several with commas: 2,4,8") from None


def set_values(typed: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Put `--set a.b=value` into nested settings; a value is read as TOML, or else as text."""
    from instar.recipes.options import put

    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {assignment!r} should be KEY=VALUE, for instance teacher.dropout=0.3")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        put(typed, key, value)
    return typed
