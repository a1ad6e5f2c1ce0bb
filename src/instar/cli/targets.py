"""`instar targets`: write, check and show stores of soft targets."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instar.cli.commands import LazyCommand, with_options
from instar.cli.options import AsJson, Device, Quiet, numbers

if TYPE_CHECKING:
    from instar.reports import Table

app = typer.Typer(
    help="Write, check and show stores of soft targets: the teacher runs only once.",
    no_args_is_help=True,
)

Store = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the store.")]
Teachers = typer.Option(
    "--teacher",
    help="RUN:teacher, NAME@FILE.safetensors, python:MODULE:FUNCTION, onnx:FILE, sklearn:FILE.skops, "
    "xgboost:FILE.json, lightgbm:FILE.txt; several are an ensemble.",
)


@app.command(cls=LazyCommand)
@with_options("STORE")
def write(
    typed: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the store.")],
    teacher: Annotated[list[str], Teachers],
    views: Annotated[
        str, typer.Option(help="Augmentation that students will see: none, jitter:2, crop:4+flip.")
    ] = "none",
    num_views: Annotated[int, typer.Option(help="Views of each example.")] = 1,
    top_k: Annotated[
        int | None, typer.Option(help="Logits to keep, with the mass of the others. By default all.")
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(metavar="<float,...>", help="Temperatures that a top-k store can be used at: 2,4,8."),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Classes to draw from those outside the top k; with a number, also 0, it is read sparse. By "
            "default 16 of sequences."
        ),
    ] = None,
    draws_at: Annotated[float | None, typer.Option(help="Temperature of the draws. By default 1.")] = None,
    full_rows: Annotated[
        int | None, typer.Option(help="Rows kept in full too, for `targets check`. By default 16 with --draws.")
    ] = None,
    hidden: Annotated[
        bool,
        typer.Option("--hidden", help="Keep the last hidden states, and the linear head once, not the logits."),
    ] = False,
    dtype: Annotated[str, typer.Option(help="Number format of the logits: float16 or float32.")] = "float16",
    rows_per_shard: Annotated[
        int | None,
        typer.Option(
            help="Rows of a file of the store. A killed write loses at most one file. By default 65,536, fewer "
            "over many classes."
        ),
    ] = None,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Store the logits of teachers for the training and validation examples. A killed write can be resumed.

    Without data options the data are those of the first teacher's run.
    """
    from instar.recipes.experiments import check_device
    from instar.recipes.targets import store_tables, write_store

    write_store(
        out,
        teacher,
        data=typed.get("data", {}),
        views=views,
        num_views=num_views,
        quiet=quiet,
        top_k=top_k,
        temperatures=numbers("--temperature", temperature) or (),
        draws=draws,
        draws_at=draws_at,
        full_rows=full_rows,
        hidden=hidden,
        dtype=dtype,
        rows_per_shard=rows_per_shard,
        device=check_device(device),
    )
    _print(store_tables(out))


@app.command("import", cls=LazyCommand)
@with_options("IMPORTED")
def import_(
    typed: dict[str, Any],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet, CSV, JSON lines (.jsonl) or npz.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the store.")],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column of the answers with the file, text or row of the example. By default file, row, ...",
        ),
    ] = None,
    made_at: Annotated[float, typer.Option(help="Temperature of the probabilities in the file.")] = 1.0,
    logits: Annotated[bool, typer.Option("--logits", help="The numbers are logits, not probabilities.")] = False,
    renormalise: Annotated[
        bool, typer.Option("--renormalise", help="Leave out the classes that the data has not.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Of the teacher in the store. By default that of the file.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Number format of the logits: float16 or float32.")] = "float32",
) -> None:
    """Store the answers of a teacher that lie in a file, for `instar distill --targets DIR`.

    A column for each class of the data, called as the class; rows of the top answers leave the others empty.
    """
    from instar.recipes.importing import import_store
    from instar.recipes.targets import store_tables

    about: dict[str, Any] = {"key": key, "made_at": made_at, "logits": logits, "renormalise": renormalise}
    done = import_store(out, file, data=typed.get("data", {}), name=name, dtype=dtype, **about)
    for sentence in done:
        typer.echo(f"{sentence[0].upper()}{sentence[1:]}.", err=True)
    _print(store_tables(out))


@app.command(cls=LazyCommand)
@with_options("STORE")
def check(
    typed: dict[str, Any],
    store: Store,
    teacher: Annotated[list[str] | None, Teachers] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Also report the error of the stored precision at this temperature.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a store, compare it with teachers and data, and report what its precision costs.

    Of a top-k store also what each reading of the other classes leaves out: bias and noise of the gradient, and
    the floor in nats, in rows that are kept in full or that the teacher answers again. Without data options the
    data are those of the first teacher's run.
    """
    from instar.recipes.targets import check_store, check_tables

    found = check_store(store, teacher or [], data=typed.get("data", {}), temperature=temperature)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _print(check_tables(found))


@app.command()
def show(store: Store) -> None:
    """Show what a store holds."""
    from instar.recipes.targets import store_tables

    _print(store_tables(store))


def _print(tables: "Iterable[Table]") -> None:
    from rich.console import Console

    from instar.reports import print_table

    for table in tables:
        print_table(table, Console(highlight=False, emoji=False))
