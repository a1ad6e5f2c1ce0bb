"""Tables of values separated by commas, or by another sign."""

import contextlib
import csv
import io
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from instar.data.records.files import parts_of_files
from instar.data.records.on_disk import in_little_memory, is_large, on_disk
from instar.data.records.places import with_places
from instar.errors import DataError, first_line

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_SEPARATORS = ",;\t|"
_SAMPLE_BYTES = 1 << 18
_ROWS = 200
"""Of a sample, that tell how a file is written."""
_WHOLE = re.compile(r"-?\d+")
_WITH_POINT, _WITH_COMMA = re.compile(r"-?\d*\.\d+(e-?\d+)?", re.I), re.compile(r"-?\d*,\d+(e-?\d+)?", re.I)


class Dialect(NamedTuple):
    """How a file is written."""

    separator: str
    decimal: str


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `csv:PLACE` by part.

    Raises:
        UsageError: there is no such file.
        DataError: a file that is no table; names the file and the row.
    """
    return {
        part: with_places(in_little_memory(map(read_csv, files)), [str(file) for file in files])
        for part, files in parts_of(place).items()
    }


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by part."""
    return parts_of_files("csv", place, SUFFIXES)


def read_csv(file: Path | bytes, where: object = None) -> pa.Table:
    """One file, or its content, whose first line has the names of the columns.

    The separator (comma, semicolon, tab or |) and the decimal sign are found from the first rows.

    Raises:
        DataError: it is no table of one width in UTF-8.
    """
    import pyarrow.csv as pcsv

    where = file if where is None else where
    try:
        sample = _sample(file)
        dialect = find_dialect(sample)
        parsing = pcsv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True)
        options = {"parse_options": parsing, "convert_options": pcsv.ConvertOptions(decimal_point=dialect.decimal)}
        if isinstance(file, Path) and is_large(file.stat().st_size):
            # A block of 64 MiB tells the types; where a later one has others, all of it is read at once.
            with contextlib.suppress(pa.ArrowInvalid):
                reader = pcsv.open_csv(file, read_options=pcsv.ReadOptions(block_size=2**26), **options)
                return on_disk(reader, reader.schema)
        return pcsv.read_csv(io.BytesIO(file) if isinstance(file, bytes) else file, **options)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not text in UTF-8, byte {error.start}: {error.reason}; save it as UTF-8"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where}: {first_line(error)}") from error


def _sample(file: Path | bytes) -> str:
    if isinstance(file, bytes):
        content = file[:_SAMPLE_BYTES]
    else:
        with pa.input_stream(file) as stream:
            content = stream.read(_SAMPLE_BYTES)
    return content.decode("utf-8-sig", errors="replace" if len(content) == _SAMPLE_BYTES else "strict")


def find_dialect(sample: str) -> Dialect:
    """How the first rows of a file are written.

    Example:
        >>> find_dialect("a;b\\n1,5;x\\n2,25;y\\n"), find_dialect('a,b\\n"1;5",2.5\\n')
        (Dialect(separator=';', decimal=','), Dialect(separator=',', decimal='.'))
    """
    rows = {sign: list(islice(csv.reader(io.StringIO(sample), delimiter=sign), _ROWS)) for sign in _SEPARATORS}

    def score(sign: str) -> tuple[float, int]:
        widths = Counter(len(row) for row in rows[sign] if row)
        if not widths:
            return 0.0, 0
        width, count = widths.most_common(1)[0]
        return (count / widths.total() if width > 1 and len(rows[sign][0]) == width else 0.0), width

    best = max(_SEPARATORS, key=score)
    separator = best if score(best)[0] > 0 else ","
    cells = [cell for row in rows[separator][1:] for cell in row]
    commas, points = (sum(bool(sign.fullmatch(cell)) for cell in cells) for sign in (_WITH_COMMA, _WITH_POINT))
    return Dialect(separator, "," if commas > points and separator != "," else ".")
