"""What `instar predict` is given for a network of rows: files of rows, rows on stdin, texts."""

import gzip
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from instar.data.kinds import kind_of
from instar.data.readers.audio import SOUND_SUFFIXES
from instar.data.records import csv_file, jsonl_file, parquet_file
from instar.data.records.places import with_places
from instar.deploy.rows import Rows
from instar.errors import DataError, UsageError
from instar.naming import few

STDIN = "-"
_GZIP = b"\x1f\x8b"
_FILES = "name a .csv, .jsonl or .parquet file, or - for stdin"
_READERS: dict[tuple[str, ...], Callable[[Path], pa.Table]] = {
    csv_file.SUFFIXES: csv_file.read_csv,
    jsonl_file.SUFFIXES: jsonl_file.read_jsonl,
    parquet_file.SUFFIXES: parquet_file.read_parquet,
}


def table_in(name: str, rows: Rows) -> pa.Table | None:
    """The rows that an input of `instar predict` means; None where it is a picture, a sound or an array.

    Args:
        name: a CSV, JSON lines or Parquet file; `-` for rows or texts on stdin; for texts a text itself; for
            sounds the path of one.
        rows: of the network.

    Raises:
        DataError, UsageError: they cannot be read, or lack a column.
    """
    path, kind = Path(name), kind_of(rows.roles)
    is_text = kind == "text" and len(rows.columns) == 1
    if name == STDIN:
        table = _from_stdin(sys.stdin.buffer.read(), rows, is_text)
    elif reader := next((read for endings, read in _READERS.items() if name.lower().endswith(endings)), None):
        if not path.is_file():
            raise DataError(f"{name}: no such file")
        table = reader(path)
    elif kind == "text" and _is_there(path):  # else its name would be read as a text
        raise DataError(f"{name}: a file, and this network takes texts: {_FILES}")
    elif is_text or (kind == "sound" and path.suffix.lower() in SOUND_SUFFIXES):
        table = pa.table({rows.columns[0]: [name]})
        return with_places([table], [""])
    elif kind in ("text", "table") and path.suffix.lower() != ".npy":
        columns = few(rows.columns)
        raise DataError(f"{name}: no file of rows, and this network takes rows with {columns}: {_FILES}")
    else:
        return None
    return _checked(table, name, rows)


def table_sent(name: str, content: bytes, rows: Rows) -> pa.Table | None:
    """The rows of a CSV or JSON lines file by its content; None where its name is that of something else.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    if name.lower().endswith(csv_file.SUFFIXES):
        table = csv_file.read_csv(_plain(content), name)
    elif name.lower().endswith(jsonl_file.SUFFIXES):
        table = jsonl_file.read_jsonl(_plain(content), name)
    else:
        return None
    return _checked(table, name, rows)


def _checked(table: pa.Table, name: str, rows: Rows) -> pa.Table:
    """The rows with the columns of the network, and their places."""
    try:
        return with_places([rows.checked(table)], [name], first=1)
    except UsageError as error:
        raise DataError(f"{name}: {error}") from error


def _plain(content: bytes) -> bytes:
    try:
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not a whole gzip file: {error}") from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is too long for a name
        return False


def _from_stdin(content: bytes, rows: Rows, is_text: bool) -> pa.Table:
    """JSON lines where the first begins as an object, CSV where its first line names the columns, else texts."""
    if not content.strip():
        raise UsageError("-: expected rows on stdin, found nothing")
    if content.lstrip()[:1] == b"{":
        return jsonl_file.read_jsonl(content, "-")
    first = csv_file.find_dialect(content.partition(b"\n")[0].decode(errors="replace") + "\n").separator
    names = content.partition(b"\n")[0].decode(errors="replace").strip().split(first)
    if not is_text or rows.columns[0] in [name.strip('"') for name in names]:
        return csv_file.read_csv(content, "-")
    try:
        lines = [line for line in content.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"-: not text in UTF-8: {error.reason}") from error
    return pa.table({rows.columns[0]: lines})
