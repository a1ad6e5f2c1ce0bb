"""Formats numbers and names, for the page and the terminal."""

import math
import numbers
import string
from html import escape
from typing import Any

from instar.reports.records import Row, printable, words_of
from instar.reports.sections import Column, Table

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def escaped(words: str) -> str:
    """The text escaped for HTML, in content and in attributes."""
    return escape(printable(words))


def format_cell(row: Row, column: Column) -> str:
    """The text of a cell; an en dash where a field of the format is None, NaN or missing.

    Example:
        >>> row = {"mean": -31.2, "low": -35.0, "high": -27.4, "bytes": 9_580_840, "sd": None}
        >>> format_cell(row, Column("mean", format="{:.1f} [{low:.1f}, {high:.1f}]"))
        '−31.2 [−35.0, −27.4]'
        >>> format_cell(row, Column("bytes", format="{:si}B")), format_cell(row, Column("sd", format="{:.1f}"))
        ('9.58\\xa0MB', '–')
    """
    try:
        return _Formatter().vformat(column.format, (row.get(column.key),), row).strip()
    except _MissingValueError:
        return MISSING


def table_cells(table: Table) -> list[list[str]]:
    """The texts of all cells of a table."""
    return [[format_cell(row, column) for column in table.columns] for row in table.rows]


def heading_of(column: Column) -> str:
    """The heading of a column, or its key in words."""
    return column.heading or words_of(column.key)


def is_numeric(table: Table, column: Column) -> bool:
    """Whether a column holds numbers, which are aligned to the right."""
    values = [row.get(column.key) for row in table.rows]
    return all(value is None or _is_number(value) for value in values)


class _MissingValueError(Exception):
    """A field of a format has no value."""


class _Formatter(string.Formatter):
    """`str.format` with a minus sign, SI prefixes, and `_MissingValueError` for missing values."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            value, used = super().get_field(field_name, args, kwargs)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise _MissingValueError from error
        if value is None or (_is_number(value) and not math.isfinite(value)):
            raise _MissingValueError
        return value, used

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if not _is_number(value):
            return str(value)
        if format_spec == "si":
            return _with_prefix(float(value)).replace("-", MINUS)
        default = "," if isinstance(value, numbers.Integral) else ".4g"
        return format(value, format_spec or default).replace("-", MINUS)


def _with_prefix(value: float) -> str:
    """Three significant digits and a prefix: 2395210 -> 2.4 M."""
    rounded = float(f"{value:.3g}")
    thousands = min(int(math.log10(abs(rounded)) // 3), 4) if abs(rounded) >= 1000 else 0
    return f"{rounded / 1000**thousands:.3g}{NO_BREAK_SPACE}{('', 'k', 'M', 'G', 'T')[thousands]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
