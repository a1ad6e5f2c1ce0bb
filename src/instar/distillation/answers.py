"""Answers of a teacher that lie in a file: probabilities or logits, by key and class name."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.errors import DataError, UsageError, first_line

KEYS = ("key", "file", "file_name", "filename", "path", "row", "id")
"""Columns that hold the keys where none is named."""

_PROBABILITIES, _LOGITS, _CLASSES, _REST = (
    ("probs", "probabilities"),
    ("logits",),
    ("classes", "class_names"),
    "rest",
)
Columns = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a file says, row by row; `values` has NaN and `given` False for a class that a row does not answer."""

    keys: list[str] | None
    """None where rows are in the order of the data"""
    class_names: list[str]
    values: NDArray[np.float64]
    """(rows, classes)"""
    given: NDArray[np.bool_]
    """(rows, classes)"""
    rest: NDArray[np.float64] | None
    """(rows,) probability of all classes that a row does not answer"""
    are_logits: bool

    def name(self, row: int) -> str:
        """A row as messages call it."""
        return f"row {row}" if self.keys is None else repr(self.keys[row])


def read_answers(path: Path, *, key: str | None = None, logits: bool = False) -> Answers:
    """The answers in a file: Parquet, CSV, JSON lines or npz.

    A table has a column for each class, called as the class; or one column `probs` (or `probabilities`, `logits`)
    that holds an object {class: number}, or a list, whose classes are in a column `classes`, or the lines of
    `FILE.classes.txt` beside the file. An npz has arrays `probs` or `logits` (rows, classes), `class_names`, and
    perhaps `keys` and `rest`. A row of the top k answers leaves the other classes empty; the column `rest` may
    hold their mass.

    Args:
        path: of the file; `.parquet`, `.csv`, `.jsonl` or `.npz`.
        key: the column of the keys; by default the one of `KEYS` that is there.
        logits: whether the columns of classes hold logits.

    Raises:
        UsageError: no such file, another kind of file, or no such column.
        DataError: the file is damaged, empty, or has a column that holds no numbers.
    """
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".npz": _npz}
    if path.suffix not in readers:
        raise UsageError(f"{path}: expected a file .parquet, .csv, .jsonl or .npz")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        columns = readers[path.suffix](path, key)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # pyarrow, numpy and json have their own
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {first_line(error)}") from error
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{path} has no rows")
    return _answers(path, columns, key, logits)


def _answers(path: Path, columns: Columns, key: str | None, logits: bool) -> Answers:
    found = [name for name in ([key] if key else KEYS) if name in columns]
    if key and not found:
        raise UsageError(f"{path} has no column {key!r}; it has {', '.join(map(repr, list(columns)[:8]))}")
    if len(found) > 1:
        raise UsageError(f"{path}: {' and '.join(found)} may both be the key; say which, --key {found[0]}")
    keys = [_as_key(one) for one in columns.pop(found[0])] if found else None
    rest = _numbers(path, _REST, columns.pop(_REST))[0] if _REST in columns else None
    packed = next((name for name in (*_PROBABILITIES, *_LOGITS) if name in columns), None)
    if packed is None:
        parts = {name: _numbers(path, name, column) for name, column in columns.items()}
        values, given = (np.stack(arrays, axis=1) for arrays in zip(*parts.values(), strict=True))
        return Answers(keys, list(parts), values, given, rest, logits)
    names = next((columns[name] for name in _CLASSES if name in columns), None)
    class_names, values, given = _unpacked(path, packed, columns[packed], names)
    return Answers(keys, class_names, values, given, rest, logits or packed in _LOGITS)


def _unpacked(
    path: Path, name: str, column: Any, names: Any
) -> tuple[list[str], NDArray[np.float64], NDArray[np.bool_]]:
    """Class names, numbers and which are there, of a column of objects or lists."""
    if names is None and not isinstance(column[0], Mapping):
        beside = path.with_suffix(".classes.txt")
        if not beside.is_file():
            raise UsageError(
                f"{path}: the lists in {name} have no class names; write them into a column 'classes', or one "
                f"a line into {beside}"
            )
        names = beside.read_text().splitlines()
    shared = names is not None and isinstance(names[0], str)
    rows = []
    for place, row in enumerate(column):
        own = list(row) if isinstance(row, Mapping) else names if shared or names is None else names[place]
        numbers = list(row.values()) if isinstance(row, Mapping) else row
        if not isinstance(numbers, list | tuple | np.ndarray) or own is None or len(own) != len(numbers):
            raise DataError(f"{path}: row {place} has not one number for each class in {name}")
        rows.append({str(one): number for one, number in zip(own, numbers, strict=True) if number is not None})
    class_names = list(dict.fromkeys(one for row in rows for one in row))
    places = {one: number for number, one in enumerate(class_names)}
    values, given = np.full((len(rows), len(places)), np.nan), np.zeros((len(rows), len(places)), bool)
    for number, row in enumerate(rows):
        at = [places[one] for one in row]
        try:
            values[number, at], given[number, at] = list(row.values()), True
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{path}: row {number} of {name} holds {_odd(row.values())!r}, expected numbers"
            ) from None
    return class_names, values, given


def _numbers(path: Path, name: str, column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers of a column, and which are there: nothing is not the same as NaN."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        return column.astype(np.float64), np.ones(len(column), bool)
    given = np.array([one is not None for one in column])
    try:
        return np.array([np.nan if one is None else float(one) for one in column]), given
    except (TypeError, ValueError):
        odd = next(one for one in column if one is not None and not isinstance(one, int | float))
        raise DataError(
            f"{path}: column {name!r} holds {odd!r}, expected the numbers of a class; leave the column out, or "
            "name the one of the keys, --key COLUMN"
        ) from None


def _odd(values: Iterable[Any]) -> Any:
    """The first value that is no number."""
    for one in values:
        try:
            float(one)
        except (TypeError, ValueError, OverflowError):
            return one
    return None


def _as_key(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _of_table(table: Any) -> Columns:
    names = table.column_names
    if twice := [one for one in dict.fromkeys(names) if names.count(one) > 1]:
        raise DataError(f"there are several columns {twice[0]!r}; leave one")
    return {
        name: column.to_numpy() if _is_plain(column) else column.to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _is_plain(column: Any) -> bool:
    import pyarrow.types as kinds

    return not column.null_count and (kinds.is_integer(column.type) or kinds.is_floating(column.type))


def _parquet(path: Path, key: str | None) -> Columns:
    import pyarrow.parquet

    return _of_table(pyarrow.parquet.read_table(path))


def _csv(path: Path, key: str | None) -> Columns:
    import pyarrow
    import pyarrow.csv

    texts = {name: pyarrow.string() for name in ([key] if key else KEYS)}  # the key 007 is not 7
    options = pyarrow.csv.ConvertOptions(column_types=texts, null_values=[""], strings_can_be_null=True)
    return _of_table(pyarrow.csv.read_csv(path, convert_options=options))


def _json_lines(path: Path, key: str | None) -> Columns:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError("a line is no object; expected one for each example, {...}")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _npz(path: Path, key: str | None) -> Columns:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items() if name not in _CLASSES}
    if len(set(rows.values())) > 1:
        raise DataError(
            f"its arrays have different numbers of rows: {', '.join(f'{one} {rows[one]}' for one in rows)}"
        )
    for name in (*_PROBABILITIES, *_LOGITS):
        if name in arrays and arrays[name].ndim != 2:
            raise DataError(f"{name} has shape {arrays[name].shape}, expected (rows, classes)")
    columns: Columns = {}
    for name, array in arrays.items():
        if name in _CLASSES:
            columns[name] = [str(one) for one in array]
        elif name == "keys":
            columns[key or KEYS[0]] = array.tolist()
        else:
            columns[name] = list(array) if array.ndim > 1 else array
    return columns
