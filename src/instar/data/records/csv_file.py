"""Tables of values separated by commas, or by another sign."""

import codecs
import contextlib
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from instar.data.records.cells import CODE
from instar.data.records.files import parts_of_files
from instar.data.records.on_disk import in_little_memory, is_large, on_disk
from instar.data.records.places import with_places
from instar.errors import DataError, DataWarning, first_line

SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_PLAIN = (".csv", ".tsv", ".txt")
_READ_AT_ONCE = 1 << 20
_SEPARATORS = ",;\t|"
_SAMPLE_BYTES = 1 << 18
_ROWS = 200
"""Of a sample, that tell how a file is written."""
_WHOLE = re.compile(r"-?\d+")
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")
_OTHER_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)")
_UTF_8, _LATIN = "utf-8-sig", "cp1252"
_MAY_BE_CODE = rb"[,;\t|\r\n\"][ \t]*0[0-9]+[ \t]*[,;\t|\r\n\"]"
_BLOCK_BYTES, _LONGEST_CELL = 1 << 24, 64
_SIGNED = r"^\s*-?(\d+|\d*[.,]\d+(e-?\d+)?)\s*$|^\s*(NA|N/A|nan|NaN|null|NULL|None|\?)?\s*$"
"""A number with either decimal sign, or what stands for a missing one."""
_FRACTION = {sign: rf"^\s*-?(0?|[1-9]\d*){re.escape(sign)}\d+" for sign in ",."}
"""By the decimal sign; 01.02 is a day."""
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
        part: with_places(_read_alike(files), [str(file) for file in files], first=1)
        for part, files in parts_of(place).items()
    }


def _read_alike(files: Sequence[Path]) -> list[pa.Table]:
    """The tables of several files; a column that holds codes in one of them holds codes in all."""
    tables = in_little_memory(map(read_csv, files))
    codes: set[str] = set()
    for name in tables[0].column_names:
        columns = [table[name] for table in tables if table.column_names.count(name) == 1]
        if any(pa.types.is_integer(one.type) for one in columns):
            codes |= {name for one in columns if pa.types.is_string(one.type) and _has_code(one)}
    return in_little_memory(
        read_csv(file, codes=codes) if _has_numbers(table, codes) else table
        for file, table in zip(files, tables, strict=True)
    )


def _has_numbers(table: pa.Table, columns: Collection[str]) -> bool:
    return any(pa.types.is_integer(field.type) and field.name in columns for field in table.schema)


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by part."""
    return parts_of_files("csv", place, SUFFIXES)


def read_csv(file: Path | bytes, where: object = None, *, codes: Collection[str] = ()) -> pa.Table:
    """One file, or its content, whose first line has the names of the columns.

    The encoding, the separator (comma, semicolon, tab or |) and the decimal sign are found from the first rows. A
    column of whole numbers of which one begins with a 0, such as 02139, holds codes, which are texts.

    Args:
        file: or its content.
        where: what messages call it.
        codes: columns that hold codes, whatever they begin with.

    Raises:
        DataError: it is no table of one width, or no text; numbers in it have two decimal signs.

    Warns:
        DataWarning: it is not in UTF-8, and is read as UTF-16 or as Windows-1252.
    """
    where = file if where is None else where
    try:
        sample = _sample(file)
        encoding = encoding_of(sample)
        table = _read(file, sample, encoding, codes, where)
        if any(pa.types.is_binary(field.type) for field in table.schema):  # bytes behind the sample are no UTF-8
            encoding = _LATIN
            table = _read(file, sample, encoding, codes, where)
    except (UnicodeDecodeError, pa.ArrowException, OSError) as error:
        is_coding = isinstance(error, UnicodeDecodeError)
        reason = "neither UTF-8 nor Windows-1252; save it as UTF-8" if is_coding else first_line(error)
        if found := _OTHER_WIDTH.search(reason):
            row, expected, cells, text = found.groups()
            reason = f"{cells} cell{'s' * (cells != '1')}, expected {expected}: {text[:60]!r}"
            if _ends_in_quotes(file, encoding, find_dialect(sample.decode(encoding, "ignore")).separator):
                reason += "; a quote is not closed, or the file is cut off here"
            where = f"{where}, row {int(row) - 1}"  # Arrow counts the names of the columns too
        raise DataError(f"{where}: {reason}") from error
    if encoding != _UTF_8:
        name = "Windows-1252 (Latin-1)" if encoding == _LATIN else "UTF-16"
        warnings.warn(
            f"{where}: not in UTF-8, read as {name}; save it as UTF-8 if letters come out wrong",
            DataWarning,
            stacklevel=2,
        )
    return table


def _read(file: Path | bytes, sample: bytes, encoding: str, codes: Collection[str], where: object) -> pa.Table:
    import pyarrow.csv as pcsv

    dialect = find_dialect(codecs.getincrementaldecoder(encoding)().decode(sample))
    parsing = pcsv.ParseOptions(delimiter=dialect.separator, newlines_in_values=_may_hold_quotes(file))
    coding = "utf8" if encoding == _UTF_8 else encoding  # Arrow itself leaves out the mark at the beginning
    table = _parsed(file, coding, parsing, pcsv.ConvertOptions(decimal_point=dialect.decimal))
    names = table.column_names
    numbers = [one.name for one in table.schema if pa.types.is_integer(one.type) and names.count(one.name) == 1]
    if numbers and (codes or encoding.startswith("utf-16") or _may_hold_codes(file)):
        as_texts = pcsv.ConvertOptions(
            include_columns=numbers,
            column_types=dict.fromkeys(numbers, pa.string()),
            strings_can_be_null=True,
        )
        table = _with_codes(table, _parsed(file, coding, parsing, as_texts), codes)
    if dialect.separator != ",":  # between commas, "1,2" may be a list
        _check_signs(table, dialect.decimal, where)
    return _with_points(table) if dialect.decimal == "," else table


def _check_signs(table: pa.Table, decimal: str, where: object) -> None:
    """Refuse numbers with two decimal signs: those with the rarer one would be texts, or 1.250 a fraction."""
    found: dict[str, dict[str, str]] = {",": {}, ".": {}}
    """by sign: columns, and where"""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            found[decimal][name] = ""
        elif pa.types.is_string(column.type) and _are_signed(column[:_ROWS]) and _are_signed(column):
            for sign, pattern in _FRACTION.items():
                fractions = pc.match_substring_regex(column, pattern)
                row = pc.index(fractions, True).as_py()
                if row >= 0 and (sign == "." or not _are_thousands(column.filter(fractions))):
                    found[sign][name] = f" (row {row + 1}: {column[row]})"
    if found[","] and found["."]:
        mixed = [name for name in found[","] if name in found["."]]
        comma, point = ((mixed or list(found[sign]))[0] for sign in ",.")
        raise DataError(
            f"{where}: {comma!r} has decimal commas{found[','][comma]} and {point!r} decimal "
            f"points{found['.'][point]}; write one sign"
        )


def _are_thousands(numbers: pa.ChunkedArray) -> bool:
    """Whether all are as 1,250, which are refused as such where they are numbers."""
    return bool(pc.all(pc.match_substring_regex(numbers, f"^{_THOUSANDS.pattern}$")).as_py())


def _ends_in_quotes(file: Path | bytes, encoding: str, separator: str) -> bool:
    """Whether the last value begins with a quote that is not closed."""
    with pa.input_stream(file if isinstance(file, Path) else pa.py_buffer(file)) as stream:
        lines = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
        try:
            for _ in csv.reader(lines, delimiter=separator, strict=True):
                pass
        except csv.Error as error:
            return "unexpected end of data" in str(error)
    return False


def _are_signed(column: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, _SIGNED)).as_py())


def _parsed(file: Path | bytes, coding: str, parsing: Any, converting: Any) -> pa.Table:
    import pyarrow.csv as pcsv

    options = {"parse_options": parsing, "convert_options": converting}
    if isinstance(file, Path) and is_large(file.stat().st_size):
        # A block of 64 MiB tells the types; where a later one has others, all of it is read at once.
        with contextlib.suppress(pa.ArrowInvalid):
            reader = pcsv.open_csv(
                file, read_options=pcsv.ReadOptions(block_size=2**26, encoding=coding), **options
            )
            return on_disk(reader, reader.schema)
    try:
        return pcsv.read_csv(_content(file), read_options=pcsv.ReadOptions(encoding=coding), **options)
    except pa.ArrowInvalid as error:
        if "Expected" in str(error):  # another number of cells: one thread alone knows the row
            alone = pcsv.ReadOptions(encoding=coding, use_threads=False)
            pcsv.read_csv(_content(file), read_options=alone, **options)
        raise


def _may_hold_codes(file: Path | bytes) -> bool:
    """Whether some cell may be a number that begins with a 0: looked for at an eighth of the time of reading."""
    with pa.input_stream(file if isinstance(file, Path) else pa.py_buffer(file)) as stream:
        end = b""
        while block := stream.read(_BLOCK_BYTES):
            content = pa.array([end + block + b"\n"], pa.large_binary())
            if pc.match_substring_regex(content, _MAY_BE_CODE)[0].as_py():
                return True
            end = block[-_LONGEST_CELL:]
    return False


def _with_codes(table: pa.Table, texts: pa.Table, codes: Collection[str]) -> pa.Table:
    """A table in which the columns that hold codes are texts, given its columns of whole numbers as texts."""
    for name in texts.column_names:
        if name in codes or _has_code(texts[name]):
            place = table.column_names.index(name)
            table = table.set_column(place, name, pc.utf8_trim_whitespace(texts[name]))
    return table


def _has_code(texts: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, CODE)).as_py())


def _may_hold_quotes(file: Path | bytes) -> bool:
    """Whether a value may have lines of its own: in quotes, which Arrow then looks for in all of a file first."""
    if isinstance(file, bytes):
        return b'"' in file
    if not file.name.lower().endswith(_PLAIN) or is_large(file.stat().st_size):
        return True
    with file.open("rb") as stream:
        return any(b'"' in part for part in iter(partial(stream.read, _READ_AT_ONCE), b""))


def _content(file: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _sample(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:_SAMPLE_BYTES]
    with pa.input_stream(file) as stream:
        content: bytes = stream.read(_SAMPLE_BYTES)
        return content


def encoding_of(sample: bytes) -> str:
    """The encoding that the first bytes of a file are in: UTF-8 where they may be."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if zeros := sample.count(0):  # letters of Europe in two bytes each
        return "utf-16-le" if sample[1::2].count(0) > zeros / 2 else "utf-16-be"
    try:
        codecs.getincrementaldecoder(_UTF_8)().decode(sample)
    except UnicodeDecodeError:
        return _LATIN
    return _UTF_8


def _with_points(table: pa.Table) -> pa.Table:
    """A table of a file with decimal commas, whose columns that remained texts have points in their numbers too.

    One cell that is no number makes a column one of texts: it is found where numbers are expected.
    """
    for place, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        column = table.column(place)
        different = [one for one in pc.unique(column).to_pylist() if one is not None]
        numbers = sum(bool(_WITH_COMMA.fullmatch(one.strip())) for one in different)
        if 2 * numbers > len(different):
            texts = pc.replace_substring_regex(column, r"^(\s*[-+]?\d*),(\d+(e[-+]?\d+)?\s*)$", r"\1.\2")
            table = table.set_column(place, field.name, texts)
    return table


def find_dialect(sample: str) -> Dialect:
    """How the first rows of a file are written.

    Example:
        >>> find_dialect("a;b\\n1,5;x\\n2,25;y\\n"), find_dialect('a,b\\n"1;5",2.5\\n')
        (Dialect(separator=';', decimal=','), Dialect(separator=',', decimal='.'))
    """
    lines = io.StringIO(sample, newline=None)  # also where lines end with a carriage return alone
    content = lines.read()
    rows = {sign: list(islice(csv.reader(io.StringIO(content), delimiter=sign), _ROWS)) for sign in _SEPARATORS}

    def score(sign: str) -> tuple[float, int]:
        widths = Counter(len(row) for row in rows[sign] if row)
        if not widths:
            return 0.0, 0
        width, count = widths.most_common(1)[0]
        return (count / widths.total() if width > 1 and len(rows[sign][0]) == width else 0.0), width

    best = max(_SEPARATORS, key=score)
    separator = best if score(best)[0] > 0 else ","
    cells = [cell for row in rows[separator][1:] for cell in row]
    commas = [cell for cell in cells if "," in cell and _WITH_COMMA.fullmatch(cell)]
    points = sum(bool(_WITH_POINT.fullmatch(cell)) for cell in cells) if commas else 0
    # Between commas a number with a comma stands in quotes; with three digits behind it, it is one of thousands.
    is_decimal = separator != "," or any(not _THOUSANDS.fullmatch(one) for one in commas)
    return Dialect(separator, "," if len(commas) > points and is_decimal else ".")
