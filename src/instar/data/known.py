"""The data sets that `load_data` knows, and where they are."""

from typing import NamedTuple

from instar.data.sources import FSDD, SOURCES, TEXT_SOURCES, Source, find
from instar.errors import InstarError

FOLDER, PYTHON, FILES = "folder:PATH", "python:MODULE:FUNCTION", "text:FILES"
ROWS = "csv: jsonl: parquet: hf: webdataset:"


class KnownData(NamedTuple):
    """A data set in the table of `instar data`."""

    name: str
    what: str
    where: str | None
    """the folder that holds it; None where it would be downloaded or is the user's"""
    publisher: str


def known_data() -> list[KnownData]:
    """The data sets that `load_data` knows, and where they are.

    Example:
        >>> [data.name for data in known_data()][:2]
        ['digits', 'mnist']
    """
    return [
        KnownData("digits", "1,797 handwritten digits, 8x8 grey", "comes with scikit-learn", "scikit-learn"),
        *(
            KnownData(source.name, source.what, _where(source), source.publisher)
            for source in (*SOURCES.values(), *TEXT_SOURCES.values(), FSDD)
        ),
        KnownData(FOLDER, "pictures or sounds: one folder a class, or train/ and test/ of these", None, "you"),
        KnownData(FILES, "running text, for networks that predict the next token", None, "you"),
        KnownData(ROWS, "rows of your tables: texts, numbers, pictures, sounds", None, "you"),
        KnownData(PYTHON, "what your function returns: Splits, or training and test data", None, "you"),
    ]


def _where(source: Source) -> str | None:
    try:
        found = find(source)
    except InstarError:  # an incomplete data set
        return None
    return str(found[0]) if found else None
