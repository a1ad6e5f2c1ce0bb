"""`instar runs`: list, show, compare and remove run directories."""

from pathlib import Path

import typer

app = typer.Typer(help="List, show, compare and remove run directories.", no_args_is_help=True)

Root = typer.Option(Path("runs"), "--root", help="Where the runs are.")


@app.command("list")
def list_(root: Path = Root) -> None:
    """List the runs, oldest first."""
    from rich.console import Console

    from instar.recipes.run_tables import runs_table
    from instar.reports import print_table

    table = runs_table(root)
    if table is None:
        Console().print(f"No runs below {root}. instar distill makes one.", soft_wrap=True)
    else:
        print_table(table, Console(highlight=False))


@app.command()
def show(
    run: str = typer.Argument(help="A run directory, or one of its fits: RUN:teacher"),
    as_json: bool = typer.Option(False, "--json", help="Print result.json and nothing else."),
) -> None:
    """Show what a run found."""
    import json
    import sys

    from rich.console import Console

    from instar.recipes.run_tables import run_tables
    from instar.reports import print_table
    from instar.runs import Run, find_run

    if as_json:
        sys.stdout.write(json.dumps(Run.read(find_run(run)).result(), indent=2) + "\n")
        return
    console = Console(highlight=False)
    for table in run_tables(find_run(run)):
        print_table(table, console)


@app.command()
def compare(runs: list[str] = typer.Argument(help="Two or more run directories.")) -> None:
    """Put the rows of several runs beside each other, and say where their settings differ."""
    from rich.console import Console

    from instar.recipes.run_tables import comparison_tables
    from instar.reports import print_table

    console = Console(highlight=False)
    for table in comparison_tables(runs):
        print_table(table, console)


@app.command()
def remove(
    runs: list[str] = typer.Argument(help="Run directories."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
) -> None:
    """Delete run directories with all that is in them."""
    from instar.runs import Run, find_run, remove_run

    paths = [find_run(run) for run in runs]
    for path in paths:
        Run.read(path)
    if yes or typer.confirm(f"Delete {', '.join(map(str, paths))}?"):
        for path in paths:
            remove_run(path)
