"""Cells of rows as bytes, by which examples are known; and columns in which a number is broken."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data.identity import content_ids
from instar.data.records.blobs import blobs_of
from instar.data.records.on_disk import slices
from instar.data.records.places import place_of
from instar.data.records.roles import Roles
from instar.errors import DataError

_MOSTLY = 0.5  # of the different texts of a column; where more are numbers, a few others are mistakes
_ALL = 0.9  # of the texts that are no plain numbers
_FEW, _SOME = 3, 0.1  # so many, or this share of them: more are no mistakes, but names such as `A/5 21171`
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$"
CODE = r"^\s*0\d"
"""What a code begins with, as no number does: 02139 is a place, and 007 another class than 7."""
_THOUSANDS = re.compile(  # 1,250 and 1'250'000.5; of points two, or a comma behind them: 1.250 is a fraction
    r"[-+]?[1-9]\d{0,2}"
    r"(?:([, '\u2019\u00a0\u202f])\d{3}(?:\1\d{3})*(?:[.,]\d+)?|(?:\.\d{3}){2,}(?:,\d+)?|(?:\.\d{3})+,\d+)"
)
NOTHING = ("", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?")
"""What stands for a missing number."""


def row_ids(table: pa.Table, roles: Roles, labels: Tensor) -> Tensor:
    """(n,) int64: the ids of rows, from the key, or from the cells that a network sees.

    Args:
        labels: (n,) int64, that tell copies of one row apart, as for `content_ids`.

    Raises:
        DataError: a key that two rows share, or that is missing.
    """
    if roles.key is None:
        return content_ids(chain.from_iterable(_row_bytes(part, roles) for part in slices(table)), labels)
    keys = table[roles.key]
    if keys.null_count:
        row = pc.index(keys.is_null(), True).as_py()
        raise DataError(f"{place_of(table, row)}: the key {roles.key!r} is missing")
    texts = keys.cast(pa.string()).to_pylist()
    if len(set(texts)) < len(texts):
        seen: dict[str, int] = {}
        for row, text in enumerate(texts):
            if text in seen:
                raise DataError(
                    f"{place_of(table, row)}: the key {roles.key!r} is {text!r} as in "
                    f"{place_of(table, seen[text])}; a key tells each row apart"
                )
            seen[text] = row
    return content_ids((text.encode() for text in texts), torch.zeros(len(texts), dtype=torch.int64))


def _row_bytes(table: pa.Table, roles: Roles) -> Iterable[bytes]:
    """The inputs of each row as bytes: numbers in double precision, whatever type a file has them in."""
    files = (roles.image, roles.audio)
    cells = [blobs_of(table, name) if name in files else _cells(table[name]) for name in roles.inputs]
    if len(cells) == 1 and not isinstance(cells[0], np.ndarray):
        return _split(cells[0]) if isinstance(cells[0], pa.Array) else cells[0]
    rows = _bytes_of_rows([one for one in cells if isinstance(one, np.ndarray)] or [np.zeros(len(table))])
    texts = [_with_lengths(one) for one in cells if not isinstance(one, np.ndarray)]
    return map(b"".join, zip(rows, *texts, strict=True)) if texts else rows


def _bytes_of_rows(columns: Sequence[NDArray[np.float64]]) -> list[bytes]:
    """The numbers of each row, of which there is one NaN and one zero."""
    rows = np.empty((len(columns[0]), len(columns)))
    for place, numbers in enumerate(columns):
        np.add(numbers, 0.0, out=rows[:, place])
    rows[np.isnan(rows)] = np.nan
    found: list[bytes] = rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0].tolist()
    return found


def _with_lengths(cells: pa.Array | Iterable[bytes]) -> Iterable[bytes]:
    """Cells that can be joined, each with its length before it; most columns have few different ones."""
    if not isinstance(cells, pa.Array):  # pictures stay where they are
        return (len(cell).to_bytes(8, "little") + cell for cell in cells)
    encoded = cells.dictionary_encode()
    different = np.empty(len(encoded.dictionary), dtype=object)
    different[:] = [len(cell).to_bytes(8, "little") + cell for cell in _split(encoded.dictionary)]
    joined: list[bytes] = different[encoded.indices.to_numpy()].tolist()
    return joined


def _cells(column: pa.ChunkedArray) -> NDArray[np.float64] | pa.Array:
    """Numbers, or what else there is as an array of bytes."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
        return numbers
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = column.cast(pa.large_string()).fill_null("").cast(pa.large_binary())
        return pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_binary())
    return pa.array([_as_bytes(one) for one in column.to_pylist()], pa.large_binary())


def _split(cells: pa.Array) -> list[bytes]:
    """The bytes of each cell: slices of their buffer, since a list of Arrow's takes five times as long."""
    _, ends, content = cells.buffers()
    places = np.frombuffer(ends, np.int64)[cells.offset : cells.offset + len(cells) + 1] if len(cells) else [0]
    first, last = int(places[0]), int(places[-1])
    whole = content.slice(first, last - first).to_pybytes() if last > first else b""
    places = [place - first for place in np.asarray(places).tolist()]
    return [whole[start:end] for start, end in pairwise(places)]


def _as_bytes(cell: Any) -> bytes:
    if isinstance(cell, bytes):
        return cell
    return b"" if cell is None else (cell if isinstance(cell, str) else repr(cell)).encode()


def are_numbers(column: pa.ChunkedArray) -> bool:
    """Whether all texts of a column are numbers, and none a code such as 02139."""
    different = [one for one in pc.unique(column).to_pylist() if one is not None and one not in NOTHING]
    return bool(different) and all(
        re.match(_NUMBER, one, re.IGNORECASE) and not re.match(CODE, one) for one in different
    )


def about_codes(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """Which columns of numbers are texts since some begin with a 0, a sentence each.

    Example:
        >>> about_codes(pa.table({"zip": ["02139", "90210"], "name": ["007", "Bond"]}), ["zip", "name"])
        ["'zip' holds codes such as '02139', texts; write numbers without a 0 in front"]
    """
    said = []
    for name in columns:
        kind = table.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts = pc.unique(table[name]).drop_null()
            codes = texts.filter(pc.match_substring_regex(texts, CODE))
            if len(codes) and all(one in NOTHING or re.match(_NUMBER, one, re.I) for one in texts.to_pylist()):
                code = codes[0].as_py()
                said.append(f"{name!r} holds codes such as {code!r}, texts; write numbers without a 0 in front")
    return said


def check_numbers(table: pa.Table, columns: Sequence[str]) -> None:
    """Refuse a column of numbers that holds some texts: it would be read as thousands of categories.

    Raises:
        DataError: names the first such row.
    """
    for column in columns:
        kind = table.schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            continue
        different = [one for one in pc.unique(table[column]).to_pylist() if one is not None and one not in NOTHING]
        wrong = [one for one in different if not re.match(_NUMBER, one, re.IGNORECASE)]
        grouped = [one for one in wrong if _THOUSANDS.fullmatch(one.strip())]
        if grouped and len(grouped) >= _ALL * len(wrong):
            row = pc.index(table[column], grouped[0]).as_py()
            raise DataError(
                f"{place_of(table, row)}: {column!r} is {grouped[0]!r}, a number with signs between its "
                "thousands; write numbers without them, or leave the column out of features"
            )
        are_few = len(wrong) <= max(_FEW, _SOME * len(different))
        if wrong and are_few and len(different) - len(wrong) > _MOSTLY * len(different):
            row = pc.index(table[column], wrong[0]).as_py()
            raise DataError(
                f"{place_of(table, row)}: {column!r} is {wrong[0]!r}, and a number in most other rows; repair "
                "it, or leave the cell empty"
            )
