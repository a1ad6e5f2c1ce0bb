"""Lines of JSON, an object each."""

import io
import re
from pathlib import Path

import pyarrow as pa

from instar.data.records.csv_file import encoding_of
from instar.data.records.files import parts_of_files
from instar.data.records.on_disk import in_little_memory
from instar.data.records.places import with_places
from instar.errors import DataError, first_line

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz")
_MOST_BLOCK = 1 << 26  # bytes; an object must fit into one


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `jsonl:PLACE` by part.

    Raises:
        UsageError: there is no such file.
        DataError: a file that is not lines of JSON; names the file and the row.
    """
    return {
        part: with_places(in_little_memory(map(read_jsonl, files)), [str(file) for file in files], first=1)
        for part, files in parts_of(place).items()
    }


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by part."""
    return parts_of_files("jsonl", place, SUFFIXES)


def read_jsonl(file: Path | bytes, where: object = None) -> pa.Table:
    """One file, or its content; a key that a line lacks is nothing there.

    Raises:
        DataError: a line that is no object, or a column that holds numbers in one line and texts in another.
    """
    import pyarrow.json as pjson

    where = file if where is None else where
    try:
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        block = min(max(size, 1 << 20), _MOST_BLOCK)
        return pjson.read_json(
            io.BytesIO(file) if isinstance(file, bytes) else file, read_options=pjson.ReadOptions(block_size=block)
        )
    except (pa.ArrowException, OSError) as error:
        if encoding_of(_beginning(file)).startswith("utf-16"):
            raise DataError(f"{where} is in UTF-16: save it as UTF-8") from error
        reason = first_line(error).removeprefix("JSON parse error: ")
        if changed := re.fullmatch(r"Column\(/(.*)\) changed from (.*) to (.*) in row (\d+)", reason):
            column, before, after, row = changed.groups()
            raise DataError(
                f"{where}, row {int(row) + 1}: {column!r} is a {after}, and a {before} in the rows before"
            ) from error
        reason = re.sub(r"in row (\d+)", lambda found: f"in row {int(found[1]) + 1}", reason)  # Arrow's are from 0
        raise DataError(f"{where}: not a JSON object in each line: {reason}") from error


def _beginning(file: Path | bytes) -> bytes:
    with pa.input_stream(file if isinstance(file, Path) else pa.py_buffer(file)) as stream:
        content: bytes = stream.read(1 << 10)
        return content
