"""What the schema of a table says of its columns, as Hugging Face writes it: names of classes, for instance."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from instar.data.records.labels import is_list
from instar.errors import DataError
from instar.losses import NO_LABEL

_METADATA = b"huggingface"
_LISTS = ("Sequence", "List", "LargeList")


def features_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The features in a schema's metadata, by column; empty where there are none.

    Example:
        >>> features_of({b"huggingface": b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}'})
        {'label': {'_type': 'ClassLabel'}}
    """
    try:
        found = json.loads((metadata or {})[_METADATA])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def with_class_names(table: pa.Table, features: Mapping[str, Any], where: object, *, first: int = 0) -> pa.Table:
    """A table whose columns of numbered classes hold their names, as categories; -1 becomes nothing.

    Lists of such numbers become lists of names.

    Args:
        table: with columns of whole numbers.
        features: as `features_of` gives them.
        where: the file, for errors.
        first: number of its first row, as for `with_places`.

    Raises:
        DataError: names that are no texts, or a number that has no name.
    """
    for column, about in features.items():
        about = about if isinstance(about, dict) else {}
        inner = about.get("feature") if about.get("_type") in _LISTS else None
        about = inner if isinstance(inner, dict) else about
        if about.get("_type") != "ClassLabel" or column not in table.column_names:
            continue
        names = about.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: the class names of {column!r} in the schema's metadata are not texts")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{where}: two classes of {column!r} are called {twice!r} in the schema's metadata")
        place = table.column_names.index(column)
        numbers = table[column]
        if is_list(numbers.type) and pa.types.is_integer(numbers.type.value_type):
            lists = [_names_in(row, names, f"{where}, row {number}: {column!r}") for number, row in
                     enumerate(numbers.to_pylist(), first)]  # fmt: skip
            table = table.set_column(place, column, pa.array(lists, pa.list_(pa.string())))
        if not pa.types.is_integer(numbers.type):
            continue
        values = numbers.cast(pa.int64()).fill_null(NO_LABEL).to_numpy()
        wrong = np.flatnonzero((values < NO_LABEL) | (values >= len(names)))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{where}, row {row + first}: {column!r} is {values[row]}, expected 0 to {len(names) - 1}"
            )
        indices = pa.array(values.astype(np.int32), mask=values == NO_LABEL)
        table = table.set_column(place, column, pa.DictionaryArray.from_arrays(indices, pa.array(names)))
    return table


def _names_in(row: list[int | None] | None, names: list[str], where: str) -> list[str | None] | None:
    for number in row or ():
        if number is not None and not NO_LABEL <= number < len(names):
            raise DataError(f"{where} has {number}, expected 0 to {len(names) - 1}")
    return None if row is None else [None if one in (None, NO_LABEL) else names[int(one or 0)] for one in row]
