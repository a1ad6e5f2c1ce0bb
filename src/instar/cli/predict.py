"""`instar predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import Calibrated, Device, Explain, Quiet, TopK


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="RUN, RUN:job, or the folder of a fit.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, folders of pictures, .npy files (- reads names from stdin); for a network of rows "
            ".csv, .jsonl or .parquet files, texts, or - for rows on stdin.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a file in place of stdout.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="csv, jsonl or parquet; by default as --out ends, or csv."),
    ] = None,
    top_k: TopK = 1,
    explain: Explain = False,
    calibrated: Calibrated = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable input.")] = False,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> int:
    """Class and probability of each input. An unreadable input is one line on stderr, and exit status 1."""
    from instar.deploy import load
    from instar.deploy.exported import find_export
    from instar.deploy.loading import why_taken
    from instar.recipes.experiments import check_device
    from instar.recipes.shipping.predictions import answers, find_inputs, known_of, row_of, row_writer

    ending = "" if out is None else out.suffix.lower().removeprefix(".")
    refused: list[str] = []
    with row_writer(out, form or ending or "csv") as write:
        model = load(run, device=check_device(device))
        names = find_inputs(inputs, of_rows=model.rows is not None)
        known = known_of(model, explain=explain, calibrated=calibrated)
        if not quiet:
            why = "" if find_export(Path(run)) else why_taken(run)
            sys.stderr.write(f"network: {model.source}" + (f" ({why})" if why else "") + "\n")
            sys.stderr.write(f"{known.in_words()}\n" if calibrated and known is not None else "")
        answered = 0
        for answer in answers(model, names, refused=refused, strict=strict, quiet=quiet):
            answered += 1
            write(
                row_of(answer, model.class_names, top_k=top_k, explain=explain, known=known, calibrated=calibrated)
            )
    for error in refused:
        sys.stderr.write(f"instar: {error}\n")
    if refused:
        sys.stderr.write(f"instar: {len(refused)} of {len(refused) + answered} inputs could not be read\n")
    return int(bool(refused))
