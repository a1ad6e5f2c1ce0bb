"""What people hold in Python as tables of Arrow: pandas, polars, mappings of arrays, data sets of Hugging Face."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from instar.data.records.features import features_of, with_class_names
from instar.data.records.files import ALL
from instar.data.records.parting import part_named
from instar.data.records.places import with_places
from instar.errors import DataError, UsageError, first_line
from instar.naming import described


def tables_in(data: Any) -> dict[str, pa.Table]:
    """The tables by part: of one table all its rows, of several by the names of parts in a mapping.

    Args:
        data: a table of Arrow, a frame of pandas or polars, a mapping of columns, rows as a list of mappings, a
            `datasets.Dataset`, or a mapping of these by part.

    Raises:
        UsageError: something else.

    Example:
        >>> tables_in({"height": [1.5, 2.5], "kind": ["a", "b"]})["all"].column_names[:2]
        ['height', 'kind']
    """
    if (
        isinstance(data, Mapping)
        and data
        and all(_is_table(one) or isinstance(one, Mapping) for one in data.values())
    ):
        parts = {part_named(str(name)): one for name, one in data.items()}
        if None in parts or len(parts) < len(data) or "train" not in parts:
            raise UsageError(f"data of {', '.join(map(str, data))}: expected train, and validation or test")
        order = [part for part in ("train", "validation", "test") if part in parts]
        return {str(part): with_places([table_of(parts[part])], [f"the {part} rows"]) for part in order}
    return {ALL: with_places([table_of(data)], [""])}


def _is_table(data: Any) -> bool:
    """Whether something has named columns of its own."""
    kind = type(data).__module__.partition(".")[0]
    return isinstance(data, pa.Table | pa.RecordBatch) or (
        kind in ("pandas", "polars", "datasets") and hasattr(data, "columns" if kind != "datasets" else "features")
    )


def is_rows(data: Any) -> bool:
    """Whether something is a table, or mappings that can be read as one."""
    if _is_table(data) or hasattr(data, "__arrow_c_stream__"):
        return True
    if isinstance(data, Mapping):
        return bool(data) and all(isinstance(name, str) for name in data)
    return isinstance(data, Sequence) and not isinstance(data, str) and bool(data) and isinstance(data[0], Mapping)


def table_of(data: Any) -> pa.Table:
    """One table.

    Raises:
        UsageError: it has no named columns.
        DataError: columns of different lengths, or values that no column of Arrow holds.
    """
    kind = type(data).__module__.partition(".")[0]
    try:
        if isinstance(data, pa.Table):
            return with_class_names(data, features_of(data.schema.metadata), "the table")
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if kind == "pandas":
            return pa.Table.from_pandas(data, preserve_index=False).replace_schema_metadata()
        if kind == "datasets" and hasattr(data, "with_format"):
            table = data.with_format("arrow")[:]
            return with_class_names(table, features_of(data.features.arrow_schema.metadata), "the data set")
        if isinstance(data, Mapping):
            return pa.table({str(name): _column(str(name), values) for name, values in data.items()})
        if isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
            names = dict.fromkeys(name for row in data for name in row)
            return pa.table({name: _column(name, [row.get(name) for row in data]) for name in names})
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"the {type(data).__name__}: cannot be read as a table: {first_line(error)}") from error
    raise UsageError(f"data should be a table or rows with named columns, found {described(data)}")


def _column(name: str, values: Any) -> Any:
    """A column of Arrow; rows of an array of two dimensions become lists."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if getattr(values, "ndim", 1) == 2:
        values = list(values)
    try:
        return pa.array(values) if not isinstance(values, pa.ChunkedArray) else values
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"column {name!r}: {first_line(error)}") from error
