"""Pictures and sounds in the cells of a table: their bytes, or the paths of files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.data.records.places import file_of, place_of
from instar.errors import DataError


def blobs_of(table: pa.Table, column: str) -> Iterator[bytes]:
    """The content of each cell: bytes, {bytes, path} as Hugging Face has it, or a path from the table's folder.

    Raises:
        DataError: there is nothing in a cell, or its file cannot be read; names the row.
    """
    row = 0
    for chunk in table[column].chunks:
        paths: Any = None
        if pa.types.is_struct(chunk.type):
            chunk, paths = chunk.field("bytes"), chunk.field("path")
        for number in range(len(chunk)):
            cell = chunk[number].as_py()
            if cell is None and paths is not None:
                cell = paths[number].as_py()
            yield cell if isinstance(cell, bytes) else _read(table, column, row, cell)
            row += 1


def _read(table: pa.Table, column: str, row: int, cell: Any) -> bytes:
    if not isinstance(cell, str) or not cell:
        raise DataError(f"{place_of(table, row)}: {column!r} is {cell!r}, expected bytes or the path of a file")
    path = Path(cell).expanduser()
    if not path.is_absolute():
        path = file_of(table, row).parent / path
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{place_of(table, row)}: {path} cannot be read: {error.strerror or error}") from error
