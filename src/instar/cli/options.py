"""Options that several commands share, and how a result is shown."""

import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instar.errors import UsageError

if TYPE_CHECKING:
    from instar.reports import Headline, Table


def _check_engine(name: str) -> str:
    if name != "local":
        from instar.jobs import check_engine

        check_engine(name)
    return name


ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file; a run's config.toml will do.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.")]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=_check_engine,
        help="What runs the jobs: local (processes here), ray (a Ray cluster here) or ray:HOST:PORT.",
    ),
]
Processes = Annotated[int, typer.Option(help="How many processes share one fit.")]
RunDir = Annotated[Path | None, typer.Option(help="Where to keep the run; below runs/ by default.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")]
Publish = Annotated[bool, typer.Option("--publish", help="Write the result into results/ too.")]
Json = Annotated[bool, typer.Option("--json", help="Print result.json and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


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


def set_values(typed: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Put `--set a.b=value` into nested settings; a value is read as TOML, and else taken as text."""
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {assignment!r} should be KEY=VALUE, for instance teacher.dropout=0.3")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *parents, last = key.split(".")
        place = typed
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {assignment!r}: {parent} has no parts")
        place[last] = value
    return typed


def check_device(device: str) -> str:
    """The device, if this machine has it.

    Raises:
        UsageError: it has not.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = device.partition(":")[0]
    if not available.get(kind, False):
        names = [name for name, is_there in available.items() if is_there]
        raise UsageError(f"device {device!r} is not available here; there is {', '.join(names)}")
    return device


def carry_out(
    recipe: Any,
    config: Any,
    table: Callable[[Mapping[str, Any]], "Table"],
    answer: Callable[[Mapping[str, Any]], "Headline"],
    *,
    run_dir: Path | None,
    device: str,
    engine: str,
    as_json: bool,
    quiet: bool,
    publish_as: str | None = None,
    **options: Any,
) -> Path:
    """Run a recipe, show what it found, and publish it under a name where one is given: the run directory.

    Args:
        recipe: a module of `instar.recipes` with `run_path` and `main`.
        config: its configuration.
        table: of the result.
        answer: of the result.
        run_dir: where to keep the run; the recipe says where by default.
        device: where to compute.
        engine: of the jobs.
        as_json: print the result as JSON.
        quiet: show no progress.
        publish_as: name of the file in `results/`.
        options: of this recipe's `main` alone.
    """
    from instar.recipes.study import Execution, Study, run_path, run_study

    if isinstance(recipe, Study):
        path = run_dir or run_path(recipe, config)
        execution = Execution(check_device(device), engine, quiet=quiet or as_json, **options)
        result = run_study(recipe, config, path, execution)
        if publish_as is not None:
            from instar.recipes.publishing import publish

            publish(result, publish_as)
        show(result, path, as_json, table, answer)
        return path
    path = run_dir or recipe.run_path(config)
    result = recipe.main(
        config, path, device=check_device(device), engine=engine, quiet=quiet or as_json, **options
    )
    if publish_as is not None:
        from instar.recipes.publishing import publish

        publish(result, publish_as)
    show(result, path, as_json, table, answer)
    return path


def show(
    result: Mapping[str, Any],
    path: Path,
    as_json: bool,
    table: Callable[[Mapping[str, Any]], "Table"],
    answer: Callable[[Mapping[str, Any]], "Headline"],
) -> None:
    """A result on stdout: as JSON, or as a person reads it, with the path of the page."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    from rich.console import Console

    from instar.reports import print_table

    console = Console(highlight=False)
    print_table(table(result), console)
    headline = answer(result)
    console.print(f"\n[bold]{headline.sentence}[/bold]\n{headline.detail}")
    console.print(f"\nPage: {path / 'report.html'}", soft_wrap=True)
