"""Prints tables in the terminal."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from instar.reports.formats import MINUS, MISSING, heading_of, is_numeric, table_cells
from instar.reports.records import printable
from instar.reports.sections import Column, Table

MOST_COLUMNS = 100  # characters; rows of wider tables are hard to follow


def print_table(table: Table, console: Console) -> None:
    """Print a table; where it is wider than the terminal, transposed if that makes it narrower.

    No word is broken: a table whose words fit neither way is printed in parts, with some of its columns or,
    transposed, with some of its rows each, whichever takes fewer lines.

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
    console.print()
    console.print(_words(table.title, console), style="bold")
    for drawn in _drawn(table, console, width):
        console.print(drawn, width=width)
    if table.caption:
        console.print(_words(table.caption, console), style="dim")


def _drawn(table: Table, console: Console, width: int) -> list[RichTable]:
    """The table as it fits: upright, transposed, or in parts."""
    upright, transposed = _upright(table, console), _transposed(table, console)
    is_narrow = _measured(upright, console).maximum <= max(width, _measured(transposed, console).maximum)
    for drawn in (upright, transposed) if is_narrow else (transposed, upright):
        if _fit(drawn, console, width):
            return [drawn]
    ways = [way for way in (_by_columns(table, console, width), _by_rows(table, console, width)) if way]
    return min(ways, key=lambda parts: sum(part.row_count + 4 for part in parts)) if ways else [transposed]


def _by_columns(table: Table, console: Console, width: int) -> list[RichTable]:
    """The table upright in parts, each with its labels and some of the other columns; empty if one does not fit.

    Where there is no room for all labels, the last ones are given up.
    """
    labels = [column for column in table.columns if column.key in table.labels] or [*table.columns[:1]]
    for count in range(len(labels), 0, -1):
        if parts := _with_labels(table, labels[:count], console, width):
            return parts
    return []


def _with_labels(table: Table, labels: Sequence[Column], console: Console, width: int) -> list[RichTable]:
    """The same with all of these labels."""
    others = [column for column in table.columns if column not in labels]
    parts: list[RichTable] = []
    while others:
        for count in range(len(others), 0, -1):
            part = _upright(replace(table, columns=[*labels, *others[:count]]), console)
            if _fit(part, console, width, folded=count == 1):
                break
        else:
            return []
        parts.append(part)
        others = others[count:]
    return parts


def _by_rows(table: Table, console: Console, width: int) -> list[RichTable]:
    """The table transposed in parts, each with some of the rows; empty if one does not fit."""
    empty = {column.key: None for column in table.columns}
    whole = [{**empty, **row} for row in table.rows]  # a part may have no row with the field of a column
    for size in range(len(whole) - 1, 0, -1):
        parts = [
            _transposed(replace(table, rows=whole[first : first + size], highlight=None), console)
            for first in range(0, len(whole), size)
        ]
        if all(_fit(part, console, width) for part in parts):
            return parts
    return []


def _upright(table: Table, console: Console) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD)
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if is_numeric(table, column) else "left"
        drawn.add_column(_words(heading_of(column), console), justify=justify, overflow="fold")
    for place, cells in enumerate(table_cells(table)):
        drawn.add_row(*(_words(cell, console) for cell in cells), style="bold" if place == table.highlight else "")
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


def _fit(drawn: RichTable, console: Console, width: int, *, folded: bool = True) -> bool:
    """Set the widths of the columns, if no word has to be broken: each has room for its longest word.

    Unless `folded`, each but the first has room for its longest line.

    What is left goes to the names in the first column, which stay on one line if they can, and is then shared
    among the columns whose lines are longer. (Rich takes from the widest columns, whatever words they hold.)
    """
    options = console.options.update(max_width=10_000)
    cells = [[column.header, *column.cells] for column in drawn.columns]
    needs = [[Measurement.get(console, options, cell) for cell in column] for column in cells]
    widths, longest = (
        [max(getattr(one, end) for one in column) for column in needs] for end in Measurement._fields
    )
    if not folded:
        widths[1:] = longest[1:]
    spare = width - (_measured(drawn, console).maximum - sum(longest)) - sum(widths)
    if spare < 0:
        return False
    if longest[0] - widths[0] <= spare:
        spare -= longest[0] - widths[0]
        widths[0] = longest[0]
    by_need = sorted(range(len(widths)), key=lambda place: longest[place] - widths[place])
    for number, place in enumerate(by_need):
        more = min(longest[place] - widths[place], spare // (len(by_need) - number))
        widths[place] += more
        spare -= more
    for column, wide in zip(drawn.columns, widths, strict=True):
        column.width = wide
    return True


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
