"""Files of the CoNLL form: a word and its tag on a line, a blank line behind each sentence."""

import io
import re
import warnings
from pathlib import Path

import pyarrow as pa

from instar.data.records.csv_file import encoding_of
from instar.data.records.files import parts_of_files
from instar.data.records.places import with_places
from instar.errors import DataError, DataWarning

SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".txt")
WORDS, TAGS = "words", "tags"
_BEGIN = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*\S+\s*=")
"""`# sent_id = 1`, as files of treebanks have them"""


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `conll:PLACE` by part: columns `words` and `tags`, a row for each sentence.

    Raises:
        UsageError: there is no such file.
        DataError: a line that is no word with its tag; names the file and the line.
    """
    return {
        part: with_places([read_conll(file) for file in files], [str(file) for file in files], first=1)
        for part, files in parts_of(place).items()
    }


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by part."""
    return parts_of_files("conll", place, SUFFIXES)


def read_conll(file: Path) -> pa.Table:
    """One file: the first column is the word, the last one its tag; columns end at tabs, or else at blanks.

    A word may hold other blanks of Unicode, and other ends of lines. Comments, `# NAME = ...`, are left out.

    Raises:
        DataError: it is neither UTF-8 nor UTF-16, or a line has one column or more or fewer than the first line.

    Warns:
        DataWarning: it is in UTF-16.
    """
    content = file.read_bytes()
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding if encoding.startswith("utf-16") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    if encoding.startswith("utf-16"):
        warnings.warn(f"{file}: not in UTF-8, read as UTF-16", DataWarning, stacklevel=2)
    lines = io.StringIO(text, newline=None).read().split("\n")  # one of all ends of lines
    sentences: list[list[list[str]]] = [[]]
    width = 0
    for number, line in enumerate(lines, 1):
        if _COMMENT.match(line):
            continue
        line = line.strip(" \t")
        columns = [one for one in re.split("\t" if "\t" in line else " ", line) if one]
        if not columns or columns[0] == _BEGIN:
            sentences += [[]] if sentences[-1] else []
            continue
        width = width or len(columns)
        if len(columns) < 2 or len(columns) != width:
            expected = f"{width} columns as above" if width > 1 else "a word and its tag"
            raise DataError(f"{file}, line {number}: {line[:40]!r} has {len(columns)}, expected {expected}")
        sentences[-1].append(columns)
    whole = [sentence for sentence in sentences if sentence]
    kind = pa.list_(pa.string())
    columns_of = {WORDS: 0, TAGS: -1}
    return pa.table(
        {
            name: pa.array([[one[place] for one in each] for each in whole], kind)
            for name, place in columns_of.items()
        }
    )
