"""`instar targets`: write, check and show stores of soft targets."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import Device, Quiet, check_device, numbers

app = typer.Typer(
    help="Write, check and show stores of soft targets: the teacher is paid once.", no_args_is_help=True
)

Store = Annotated[Path, typer.Argument(metavar="DIR", help="The store's folder.")]
Teachers = Annotated[
    list[str],
    typer.Option(
        "--teacher", help="RUN:teacher, NAME@FILE.safetensors, python:MODULE:FUNCTION; several are an ensemble."
    ),
]
Data = Annotated[str | None, typer.Option(help="Data set. Default: the first teacher's.")]
SplitSeed = Annotated[int | None, typer.Option(help="Decides which examples are validation.")]
ImageSize = Annotated[int | None, typer.Option(help="Resize a folder's pictures to this many pixels.")]


@app.command()
def write(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The store's folder.")],
    teacher: Teachers,
    data: Data = None,
    split_seed: SplitSeed = None,
    image_size: ImageSize = None,
    views: str = typer.Option("none", help="Augmentation that students will see: none, jitter:2, crop:4+flip."),
    num_views: int = typer.Option(1, help="Views of each example."),
    view_seed: int = typer.Option(None, help="Decides the views."),
    top_k: int = typer.Option(None, help="Keep so many logits and the mass of the rest. Default: all."),
    temperature: str = typer.Option(None, help="That a top-k store can be used at: 2,4,8."),
    dtype: str = typer.Option("float16", help="Of the logits: float16 or float32."),
    rows_per_shard: int = typer.Option(65_536, help="How much work a kill may cost."),
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Ask teachers once for their logits on the training and validation examples. A killed write goes on."""
    from rich.console import Console

    from instar.recipes.targets import store_tables, write_store
    from instar.reports import print_table

    about = {"name": data, "split_seed": split_seed, "image_size": image_size, "view_seed": view_seed}
    write_store(
        out,
        teacher,
        data=about,
        views=views,
        num_views=num_views,
        quiet=quiet,
        top_k=top_k,
        temperatures=numbers("--temperature", temperature) or (),
        dtype=dtype,
        rows_per_shard=rows_per_shard,
        device=check_device(device),
    )
    for table in store_tables(out):
        print_table(table, Console(highlight=False))


@app.command()
def check(
    store: Store,
    teacher: Teachers = [],  # noqa: B006 - typer copies it
    data: Data = None,
    split_seed: SplitSeed = None,
    image_size: ImageSize = None,
    temperature: float = typer.Option(None, help="In use: what the store's precision does at it."),
) -> None:
    """Read every byte of a store, compare it with teachers and data, say what its precision costs."""
    from rich.console import Console

    from instar.recipes.targets import check_store
    from instar.reports import print_table

    about = {"name": data, "split_seed": split_seed, "image_size": image_size}
    for table in check_store(store, teacher, data=about, temperature=temperature):
        print_table(table, Console(highlight=False))


@app.command()
def show(store: Store) -> None:
    """Show what a store holds."""
    from rich.console import Console

    from instar.recipes.targets import store_tables
    from instar.reports import print_table

    for table in store_tables(store):
        print_table(table, Console(highlight=False))
