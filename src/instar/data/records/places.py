"""Where a row comes from: its file and its number there, kept with a table in whatever order its rows are put."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

PLACE = "instar:place"
"""The column that holds the number of a row among all rows that were read."""

_FILES = b"instar:files"


def with_places(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """Tables of one schema as one table that knows where each row comes from.

    Args:
        tables: at least one.
        names: what messages call each of them.

    Example:
        >>> table = with_places([pa.table({"a": [1, 2]}), pa.table({"a": [3]})], ["one.csv", "two.csv"])
        >>> place_of(table.take([2, 0]), 0)
        'two.csv, row 0'
    """
    starts = np.cumsum([0, *(len(table) for table in tables)]).tolist()
    whole = pa.concat_tables(tables)
    whole = whole.append_column(PLACE, pa.array(np.arange(len(whole))))
    return whole.replace_schema_metadata(
        {**(whole.schema.metadata or {}), _FILES: json.dumps([list(names), starts])}
    )


def place_of(table: pa.Table, row: int) -> str:
    """What a message calls a row: `train.csv, row 17`, rows counted from 0; `row 17` of a table without places."""
    if PLACE not in table.column_names:
        return f"row {row}"
    return places_of(table, [row])[0]


def places_of(table: pa.Table, rows: Sequence[int]) -> list[str]:
    """`place_of` of several rows."""
    if PLACE not in table.column_names:
        return [f"row {row}" for row in rows]
    names, starts = json.loads(table.schema.metadata[_FILES])
    numbers = table[PLACE].take(pa.array(rows, pa.int64())).to_numpy()
    files = np.searchsorted(starts, numbers, side="right") - 1
    return [
        f"{names[file]}, row {number - starts[file]}" if names[file] else f"row {number - starts[file]}"
        for file, number in zip(files.tolist(), numbers.tolist(), strict=True)
    ]
