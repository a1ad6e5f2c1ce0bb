"""Rows of a source, with their labels and ids, split into training, validation and test rows."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from instar.data.identity import content_ids
from instar.data.records.files import ALL
from instar.data.records.labels import labels_of
from instar.data.records.parting import by_column, cut_rows
from instar.data.records.places import PLACE
from instar.data.records.roles import Roles
from instar.errors import UsageError
from instar.naming import import_object

READERS = {"csv": "csv_file"}
"""The modules of the sources, by what stands before the colon."""

_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Records:
    """Rows with named columns, split."""

    parts: Mapping[str, pa.Table]
    """of train, validation and test"""
    labels: Mapping[str, Tensor]
    """(n,) int64 class numbers of each part, -1 for none"""
    ids: Mapping[str, Tensor]
    """(n,) int64 of each part, from the key or the content of the rows"""
    class_names: tuple[str, ...]
    roles: Roles
    source: str
    notes: tuple[str, ...] = ()
    """what was guessed or decided, a sentence each"""


def is_source(name: str) -> bool:
    """Whether the name of a data set is that of a source of rows.

    Example:
        >>> is_source("csv:flowers.csv"), is_source("folder:photos")
        (True, False)
    """
    return name.partition(":")[0] in READERS and ":" in name


def read_records(
    source: str, roles: Roles | None = None, *, validation_fraction: float = 0.1, split_seed: int = 0
) -> Records:
    """Read the rows of a source and split them.

    Args:
        source: `csv:FILE`.
        roles: of the columns; those that are not named are guessed where there is one choice.
        validation_fraction, split_seed: as for `load_data`.

    Raises:
        DataError: files that cannot be read; names file and row.
        UsageError: a column that is not there, or a role that could be several columns.
    """
    scheme, _, place = source.partition(":")
    tables = import_object(f"instar.data.records.{READERS[scheme]}:read_tables")(place)
    return split_records(
        tables, source, roles or Roles(), validation_fraction=validation_fraction, split_seed=split_seed
    )


def split_records(
    tables: Mapping[str, pa.Table],
    source: str,
    roles: Roles,
    *,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
) -> Records:
    """Tables by part as records; those without parts are split, a fifth for the test."""
    whole = next(iter(tables.values()))
    for column in roles.columns:
        if column not in whole.column_names:
            names = ", ".join(name for name in whole.column_names if name != PLACE)
            raise UsageError(f"{source}: there is no column {column!r}; the columns are {names}")
    if roles.label is None:
        raise UsageError(f"{source}: which column is the class? name it with label")
    if roles.part is not None:
        tables = by_column(tables[ALL], roles.part)
    found = labels_of(tables, roles.label)
    ids = {part: _ids_of(table, roles, found.numbers[part]) for part, table in tables.items()}
    records = Records(dict(tables), found.numbers, ids, found.class_names, roles, source, found.notes)
    if ALL in records.parts:
        records = _cut(records, ALL, "test", "train", _TEST_FRACTION, split_seed, parts=3)
    if "validation" not in records.parts:
        records = _cut(records, "train", "validation", "train", validation_fraction, split_seed)
    return records


def _cut(
    records: Records, part: str, chosen: str, rest: str, fraction: float, split_seed: int, *, parts: int = 2
) -> Records:
    """Split off a share of a part under another name; the rest gets a name too."""
    table, labels, ids = records.parts[part], records.labels[part], records.ids[part]
    groups = None if records.roles.group is None else table[records.roles.group]
    about = {"class_names": records.class_names, "parts": parts}
    rows = dict(
        zip(
            (rest, chosen),
            cut_rows(ids, labels, groups, fraction=fraction, split_seed=split_seed, **about),  # type: ignore[arg-type]
            strict=True,
        )
    )
    others = {name: name for name in records.parts if name != part}
    return dataclasses.replace(
        records,
        parts={name: records.parts[name] for name in others}
        | {name: table.take(pa.array(number.numpy())) for name, number in rows.items()},
        labels={name: records.labels[name] for name in others}
        | {name: labels[number] for name, number in rows.items()},
        ids={name: records.ids[name] for name in others} | {name: ids[number] for name, number in rows.items()},
    )


def _ids_of(table: pa.Table, roles: Roles, labels: Tensor) -> Tensor:
    """Ids from the key, or from the cells that a network sees."""
    if len(table) == 0:
        return torch.empty(0, dtype=torch.int64)
    columns = roles.inputs if roles.key is None else (roles.key,)
    return content_ids(_row_bytes(table.select(columns)), labels)


def _row_bytes(table: pa.Table) -> Iterator[bytes]:
    """The cells of each row as bytes: numbers in double precision, whatever type a file has them in."""
    cells = [_cells(table[name]) for name in table.column_names]
    if all(isinstance(one, np.ndarray) for one in cells):
        yield from (row.tobytes() for row in np.stack(cells, axis=1))
        return
    for row in zip(*cells, strict=True):
        parts = [one if isinstance(one, bytes) else np.float64(one).tobytes() for one in row]
        yield b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _cells(column: pa.ChunkedArray) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | list[bytes]":
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        numbers: np.ndarray[tuple[int], np.dtype[np.float64]] = column.cast(pa.float64()).to_numpy()
        return numbers
    return [one if isinstance(one, bytes) else repr(one).encode() for one in column.to_pylist()]
