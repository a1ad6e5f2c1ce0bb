"""Converts rows of a result to the records of a chart: numbers and texts under fixed names."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from instar.errors import UsageError

Row = Mapping[str, Any]


def words_of(key: str) -> str:
    """The name of a field in words.

    Example:
        >>> words_of("test_errors")
        'test errors'
    """
    return key.replace("_", " ")


def printable(text: str) -> str:
    """The text with replacements for what UTF-8 cannot encode (the name of a folder may be any bytes)."""
    return text.encode(errors="replace").decode()


def chart_records(
    title: str,
    rows: Sequence[Row],
    *,
    needed: Mapping[str, str],
    optional: Mapping[str, str | None],
    words: Mapping[str, str | None],
) -> list[dict[str, Any]]:
    """Rows under the field names of the chart, so that Vega-Lite never sees the field names of a user."""
    records: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        where = f"chart {title!r}, row {number}"
        record: dict[str, Any] = {name: _number(row, key, where) for name, key in needed.items()}
        if None in record.values():
            continue
        record |= {name: _number(row, key, where) for name, key in optional.items() if key is not None}
        record |= {
            name: "" if key is None else printable(str(_field(row, key, where))) for name, key in words.items()
        }
        records.append(record)
    if not records:
        raise UsageError(f"chart {title!r} has no points")
    return records


def _field(row: Row, key: str, where: str) -> Any:
    if key not in row:
        raise UsageError(f"{where} has no field {key!r}; it has {', '.join(map(str, row)) or 'none'}")
    return row[key]


def _number(row: Row, key: str, where: str) -> float | None:
    value = _field(row, key, where)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageError(f"{where}: {key!r} should be a number, not {value!r}")
    return float(value) if math.isfinite(value) else None
