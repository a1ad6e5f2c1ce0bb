"""Prints tables in the terminal."""

from typing import Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from instar.reports.formats import MINUS, MISSING, heading_of, is_numeric, table_cells
from instar.reports.records import printable
from instar.reports.sections import Table

MOST_COLUMNS = 100  # characters; rows of wider tables are hard to follow


def print_table(table: Table, console: Console) -> None:
    """Print a table; where it is wider than the terminal, transposed if that makes it narrower.

    Example:
        >>> table = Table("Errors", [{"network": "teacher", "errors": 67}])
        >>> print_table(table, Console(width=40))  # doctest: +NORMALIZE_WHITESPACE
        <BLANKLINE>
        Errors
        <BLANKLINE>
         network   errors
        ──────────────────
         teacher       67
        <BLANKLINE>
    """
    width = min(console.width, MOST_COLUMNS)
    upright, transposed = _upright(table, console, width), _transposed(table, console)
    fits = _measured(upright, console).maximum <= max(width, _measured(transposed, console).maximum)
    drawn = upright if fits else transposed
    console.print()
    console.print(_words(table.title, console), style="bold")
    console.print(drawn, width=width)
    if table.caption:
        console.print(_words(table.caption, console), style="dim")


def _upright(table: Table, console: Console, width: int) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD)
    names = [_words(name, console) for name, *_ in table_cells(table)]
    longest = max((name.cell_len for name in names), default=0)
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if is_numeric(table, column) else "left"
        is_name = column == table.columns[0]  # the other columns are narrowed first
        heading = _words(heading_of(column), console)
        least = longest if is_name else None
        drawn.add_column(heading, justify=justify, overflow="fold", no_wrap=is_name, min_width=least)
    for place, cells in enumerate(table_cells(table)):
        drawn.add_row(*(_words(cell, console) for cell in cells), style="bold" if place == table.highlight else "")
    if any(" " in name.plain for name in names) and _measured(drawn, console).minimum > width:
        first = drawn.columns[0]  # unbroken, it would leave too little room for the words of other columns
        first.no_wrap, first.min_width = False, None
    return drawn


def _transposed(table: Table, console: Console) -> RichTable:
    """The transposed table, with a column for each row: good for few rows with many fields."""
    drawn = RichTable(box=box.SIMPLE_HEAD)
    first, *others = zip(table.columns, *table_cells(table), strict=True)
    drawn.add_column(_words(heading_of(first[0]), console), overflow="fold")
    for place, cell in enumerate(first[1:]):
        style = "bold" if place == table.highlight else ""
        drawn.add_column(_words(cell, console), justify="right", overflow="fold", style=style)
    for column, *cells in others:
        drawn.add_row(_words(heading_of(column), console), *(_words(cell, console) for cell in cells))
    return drawn


def _measured(drawn: RichTable, console: Console) -> Measurement:
    """The widths, in characters, that a table needs without broken words and without broken lines."""
    return Measurement.get(console, console.options.update(max_width=10_000), drawn)


def _words(words: str, console: Console) -> RichText:
    """A text without rich's markup; with ASCII dashes and minus signs where the terminal cannot show others."""
    words = printable(words)
    try:
        words.encode(console.encoding)
    except UnicodeEncodeError:
        plain = words.translate({ord(MINUS): "-", ord(MISSING): "-"})
        words = plain.encode(console.encoding, errors="replace").decode(console.encoding)
    return RichText(words)
