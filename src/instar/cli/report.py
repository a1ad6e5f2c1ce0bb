"""`instar report`."""

from pathlib import Path

import typer


def report(
    runs: list[str] = typer.Argument(help="One or more run directories."),
    out: Path = typer.Option(Path("report.html"), help="The page to write."),
) -> None:
    """Write one page about several runs; for one run, a copy of its own page."""
    from instar.recipes.run_tables import write_report

    typer.echo(f"Page: {write_report(runs, out)}")
