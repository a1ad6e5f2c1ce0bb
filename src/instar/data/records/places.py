"""Where a row comes from: its file and its number there, kept with a table in whatever order its rows are put."""

import bisect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from instar.errors import DataError
from instar.naming import few

PLACE = "instar:place"
"""The column that holds the number of a row among all rows that were read."""

FILES = b"instar:files"
"""What the schema of such a table calls the names of the files, and where each begins."""


def with_places(tables: Sequence[pa.Table], names: Sequence[str], *, first: int = 0) -> pa.Table:
    """Tables of the same columns as one table that knows where each row comes from.

    Categories (and classes that files number) are matched by their names, whatever order each table has them in.

    Args:
        tables: at least one.
        names: what messages call each of them.
        first: number of the first row: 1 in a file, below the names of its columns; 0 in memory, as Python has it.

    Raises:
        DataError: the columns of one are not those of the first, or hold something else.

    Example:
        >>> table = with_places([pa.table({"a": [1, 2]}), pa.table({"a": [3]})], ["one", "two"], first=1)
        >>> place_of(table.take([2, 0]), 0)
        'two, row 1'
    """
    columns = tables[0].column_names
    for table, name in zip(tables, names, strict=True):
        if len(set(table.column_names)) < len(table.column_names):
            twice = next(one for one in table.column_names if table.column_names.count(one) > 1)
            raise DataError(f"{name}: there are two columns {twice!r}; name them apart")
        if set(table.column_names) != set(columns):
            missing = [one for one in columns if one not in table.column_names]
            more = [one for one in table.column_names if one not in columns]
            differs = f"lacks {few(missing)}" if missing else f"also has {few(more)}"
            raise DataError(
                f"{name}: {differs}, other columns than {names[0]}; the files of one part have the same"
            )
    starts = np.cumsum([0, *(len(table) for table in tables)]).tolist()
    whole = _joined([table.select(columns) for table in tables], names)
    whole = whole.append_column(PLACE, pa.array(np.arange(len(whole))))
    return whole.replace_schema_metadata({FILES: json.dumps([list(names), starts, first])})


def _joined(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    tables = [_in_plain_types(table) for table in tables]
    try:
        return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    except pa.ArrowException as error:
        for table, name in zip(tables, names, strict=True):
            for one, other in zip(tables[0].schema, table.schema, strict=True):
                try:
                    pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive")
                except pa.ArrowException:
                    raise DataError(
                        f"{name}: column {one.name!r} holds {other.type}, in {names[0]} {one.type}"
                    ) from error
        raise DataError(f"{names[0]} and others: {' '.join(str(error).split())}") from error


def _in_plain_types(table: pa.Table) -> pa.Table:
    """A table without the types that few functions know: views, decimals, categories with small numbers."""
    for place, field in enumerate(table.schema):
        wanted = _plain_type(field.type)
        if wanted != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(wanted))
    return table


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_decimal(kind) or kind == pa.float16():
        return pa.float64()
    if pa.types.is_dictionary(kind):
        values = kind.value_type
        return pa.dictionary(pa.int32(), pa.string() if pa.types.is_string_view(values) else values)
    return kind


def place_of(table: pa.Table, row: int) -> str:
    """What a message calls a row: `train.csv, row 17`, from 1; or `row 17`, from 0 of a table without places."""
    return places_of(table, [row])[0]


class Place:
    """`place_of` a row, found out where a message needs it."""

    def __init__(self, table: pa.Table, row: int) -> None:
        self._table, self._row = table, row

    def __str__(self) -> str:
        return place_of(self._table, self._row)


class Places(Sequence[Place]):
    """The places of the rows of a table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.select([PLACE])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: Any) -> Any:
        return Place(self._table, row)


def file_of(table: pa.Table, row: int) -> Path:
    """The file that a row comes from; for rows that come from none one in the current folder."""
    if PLACE not in table.column_names:
        return Path("table")
    names, starts, _ = json.loads(table.schema.metadata[FILES])
    return Path(names[bisect.bisect_right(starts, table[PLACE][row].as_py()) - 1] or "table")


def places_of(table: pa.Table, rows: Sequence[int]) -> list[str]:
    """`place_of` of several rows."""
    if PLACE not in table.column_names:
        return [f"row {row}" for row in rows]
    names, starts, first = json.loads(table.schema.metadata[FILES])
    numbers = table[PLACE].take(pa.array(rows, pa.int64())).to_numpy()
    files = np.searchsorted(starts, numbers, side="right") - 1
    return [
        f"{names[file]}{', ' * bool(names[file])}row {number - starts[file] + first}"
        for file, number in zip(files.tolist(), numbers.tolist(), strict=True)
    ]


def columns_of_user(table: pa.Table) -> list[str]:
    """The names of the columns that were read."""
    return [name for name in table.column_names if name != PLACE]


def type_in_words(kind: pa.DataType) -> str:
    """What a column holds, in plain words; in those of Arrow what tables seldom hold.

    Example:
        >>> type_in_words(pa.string()), type_in_words(pa.int64()), type_in_words(pa.list_(pa.string()))
        ('text', 'whole number', 'list of text')
    """
    words = {
        "text": pa.types.is_string(kind) or pa.types.is_large_string(kind),
        "whole number": pa.types.is_integer(kind),
        "number": pa.types.is_floating(kind),
        "yes or no": pa.types.is_boolean(kind),
        "category": pa.types.is_dictionary(kind),
        "date": pa.types.is_date(kind) or pa.types.is_timestamp(kind),
        "bytes": pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind),
        "nothing": pa.types.is_null(kind),
    }
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {type_in_words(kind.value_type)}"
    return next((word for word, fits in words.items() if fits), str(kind))
