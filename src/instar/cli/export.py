"""`instar export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="RUN, RUN:job, or the folder of a fit.")],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="onnx, torch, safetensors, transformers or timm.")
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Of ONNX: a file of eight-bit integers beside the one in float.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="A new folder. By default below exports/.")
    ] = None,
) -> None:
    """Write a network into a folder to ship: a file that answers as the run does, and a model card."""
    from rich.console import Console

    from instar.deploy.exported import CARD
    from instar.deploy.loading import why_taken
    from instar.recipes.shipping.exports import export as export_run
    from instar.recipes.shipping.exports import parity_table
    from instar.reports import print_table

    done = export_run(run, to=to, int8=int8, out=out)
    console = Console(highlight=False, emoji=False)
    print_table(parity_table(done), console)
    for sentence in done.said:
        console.print(sentence, markup=False)
    why = why_taken(run)
    network = done.network + (f" ({why})" if why else "")
    for what, path in (("Network", network), ("Folder", done.path), ("Card", done.path / CARD)):
        console.print(f"{what}: {path}", soft_wrap=True, markup=False)
