"""The contents of the pictures or sounds in a column, whether it has bytes or paths."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.data.records.places import folders_of, place_of
from instar.errors import DataError

_READABLE = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of one row's file; as text what a message calls it."""

    content: bytes
    table: pa.Table
    row: int
    path: str | None = None

    def __str__(self) -> str:
        place = place_of(self.table, self.row)
        return place if self.path is None else f"{place}: {self.path}"


def cells_of(table: pa.Table, column: str) -> Iterator[Cell]:
    """The content of each row's file, one after another.

    Args:
        table: paths are taken from the folders of the files that its rows come from, else from the current folder.
        column: of bytes, of texts (paths), or of {bytes, path} as Hugging Face has pictures and sounds.

    Raises:
        DataError: a row without a value, a file that cannot be read, or a column of another type.

    Example:
        >>> table = pa.table({"clip": [b"RIFF", b"fLaC"]})
        >>> [(cell.content, str(cell)) for cell in cells_of(table, "clip")]
        [(b'RIFF', 'row 0'), (b'fLaC', 'row 1')]
    """
    kind = table.schema.field(column).type
    if not _is_readable(kind):
        raise DataError(f"{place_of(table, 0)}: {column!r} holds {kind}, expected paths, bytes or {{bytes, path}}")
    for row, (value, folder) in enumerate(zip(table[column], folders_of(table), strict=True)):
        yield _cell(table, column, row, value.as_py(), folder)


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(place).name for place in range(kind.num_fields)}
    return kind in _READABLE


def _cell(table: pa.Table, column: str, row: int, value: Any, folder: Path) -> Cell:
    path = value
    if isinstance(value, dict):
        path = value["path"]
        value = value["bytes"] if value["bytes"] is not None else path
    if isinstance(value, bytes):
        return Cell(value, table, row)
    if not value:
        raise DataError(f"{place_of(table, row)}: {column!r} is empty; give a file, or leave the row out")
    file = folder / Path(path).expanduser()
    try:
        return Cell(file.read_bytes(), table, row, path)
    except OSError as error:
        raise DataError(f"{place_of(table, row)}: {file}: cannot be read: {error.strerror or error}") from error
