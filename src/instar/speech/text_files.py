"""Text files of speech tools: UTF-8 lines whose fields are parted by spaces and tabs."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from instar.errors import DataError

_SHOWN = 80
_OTHER_WHITE_SPACE = re.compile(r"[^\S \t]")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers and without white space around them.

    White space other than spaces and tabs is refused, as Kaldi does: a no-break space parts two fields for one
    program and not for another.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or has other white space.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    for number, raw in enumerate(content.split(b"\n"), start=1):
        try:
            line = raw.decode().strip(" \t\r")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 text ({error.reason}); convert the file") from error
        if found := _OTHER_WHITE_SPACE.search(line):
            raise DataError(
                f"{path}, line {number}: the white space U+{ord(found[0]):04X} parts words for some programs and "
                f"not for others; replace it by a space in {shortened(line)}"
            )
        if line:
            yield number, line


def shortened(line: str) -> str:
    """A line in quotes for an error message, cut where it is long."""
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "...")
