"""`instar serve`."""

import sys
from typing import Annotated

import typer

from instar.cli.options import Calibrated, Device, Explain, Quiet, TopK


def serve(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="RUN, RUN:job, the folder of a fit, or an exported folder.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines ask.")
    ] = "127.0.0.1",
    top_k: TopK = 1,
    explain: Explain = False,
    calibrated: Calibrated = False,
    max_mib: Annotated[float, typer.Option(min=0, help="Largest body of a request, MiB.")] = 16.0,
    timeout: Annotated[float, typer.Option(min=0, help="Longest time for a request, seconds.")] = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP, a JSON row for each input, until SIGTERM or Ctrl-C; what was accepted is answered."""
    from instar.deploy import load
    from instar.naming import import_extra
    from instar.recipes.experiments import check_device
    from instar.recipes.shipping.predictions import known_of
    from instar.recipes.shipping.serving import Limits, Shown, listening, serve

    for package in ("uvicorn", "starlette", "python_multipart"):
        import_extra(package, "serve")
    with listening(host, port) as listener:
        model = load(run, device=check_device(device))
        known = known_of(model, explain=explain, calibrated=calibrated)
        if calibrated and known is not None and not quiet:
            sys.stderr.write(f"{known.in_words()}\n")
        shown = Shown(top_k=top_k, explain=explain, known=known, calibrated=calibrated)
        serve(model, listener, shown=shown, limits=Limits(int(max_mib * 2**20), timeout), quiet=quiet)
