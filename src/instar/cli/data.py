"""`instar data`."""

import typer


def data(
    name: str = typer.Argument(None, help="A data set to look at; without one, those that are known are listed."),
    split_seed: int = typer.Option(0, help="Decides which examples are validation."),
    image_size: int = typer.Option(None, help="Resize a folder's pictures to this many pixels."),
) -> None:
    """List the data sets, or fetch and describe one."""
    from rich.console import Console

    from instar.recipes.data_tables import data_table, known_table
    from instar.reports import print_table

    table = data_table(name, split_seed=split_seed, image_size=image_size) if name else known_table()
    print_table(table, Console(highlight=False))
