"""Rows with a class of each word: a list of words, and a list of as many tags beside it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from instar.data.records.files import ALL
from instar.data.records.labels import Labels, is_list
from instar.data.records.places import place_of
from instar.data.records.roles import Roles
from instar.errors import DataError
from instar.losses import NO_LABEL
from instar.naming import few

_IGNORED = -100
"""The class of a position that the losses of PyTorch leave out"""
_PARTS = 3  # a tag of fewer different sentences cannot be in each part

_NONE = (None, "", NO_LABEL, _IGNORED, str(_IGNORED))

Sentences = list[list[str]]


def are_words(kind: pa.DataType) -> bool:
    """Whether cells are lists of texts."""
    return is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))


def is_tagged(table: pa.Table, roles: Roles) -> bool:
    """Whether the roles are those of words and their tags."""
    if len(roles.text) != 1 or roles.label is None or roles.label not in table.column_names:
        return False
    kinds = {name: table.schema.field(name).type for name in (*roles.text, roles.label)}
    return are_words(kinds[roles.text[0]]) and is_list(kinds[roles.label])


def words_of(table: pa.Table, column: str) -> Sentences:
    """The words of each row.

    Raises:
        DataError: a row without a word, or a word that is nothing; names the row.
    """
    sentences: Sentences = table[column].to_pylist()
    for row, words in enumerate(sentences):
        if not words or not all(words):
            found = "a word that is nothing" if words else "no word"
            raise DataError(f"{place_of(table, row)}: {column!r} holds {found}, expected a list of words")
    return sentences


def tags_of(table: pa.Table, roles: Roles) -> list[list[str | None]]:
    """The tag of each word of each row; None where there is none (null, an empty text, -1 or -100).

    Raises:
        DataError: a row with more or fewer tags than words, or a tag that is none; names the row.
    """
    text, label = roles.text[0], str(roles.label)
    is_empty = pa.types.is_null(table[label].type.value_type)  # pyarrow 26 cannot read such lists
    cells = [None] * len(table) if is_empty else table[label].to_pylist()
    found: list[list[str | None]] = []
    for row, (words, tags) in enumerate(zip(words_of(table, text), cells, strict=True)):
        tags = [None] * len(words) if tags is None else tags
        if len(tags) != len(words):
            raise DataError(
                f"{place_of(table, row)}: {len(words)} words in {text!r} and {len(tags)} tags in {label!r}: each "
                "word needs one (null is none)"
            )
        if odd := [tag for tag in tags if isinstance(tag, float | list | dict) or _is_below(tag)]:
            raise DataError(
                f"{place_of(table, row)}: tag {odd[0]!r} in {label!r}, expected a text or a whole number from 0 "
                "on (-1, -100 or null is none)"
            )
        found.append([None if tag in _NONE else str(tag) for tag in tags])
    return found


def _is_below(tag: Any) -> bool:
    return isinstance(tag, int) and tag < NO_LABEL and tag != _IGNORED


def without_empty(tables: Mapping[str, pa.Table], roles: Roles) -> tuple[dict[str, pa.Table], tuple[str, ...]]:
    """Tables without the rows that have neither words nor tags, and how many were left out, a sentence a part.

    Raises:
        DataError: no row of a part has words.

    Example:
        >>> rows = pa.table({"words": [["a", "tree"], []], "tags": [["O", "B"], []]})
        >>> without_empty({"train": rows}, Roles(text=("words",), label="tags"))[1]
        ('1 of 2 train rows has no words and is left out',)
    """
    found, said = {}, []
    for part, table in tables.items():
        lengths = [
            pc.fill_null(pc.list_value_length(table[name]), 0) for name in (roles.text[0], str(roles.label))
        ]
        is_there = pc.greater(pc.max_element_wise(*lengths), 0)
        num_rows, found[part] = len(table), table.filter(is_there)
        if not len(found[part]):
            raise DataError(f"{place_of(table, 0)}: {roles.text[0]!r} holds no word, nor does any other row")
        if num := num_rows - len(found[part]):
            of_part = "" if part == ALL else f"{part} "
            are = "has no words and is" if num == 1 else "have no words and are"
            said.append(f"{num:,} of {num_rows:,} {of_part}rows {are} left out")
    return found, tuple(said)


def labels_of_words(tables: Mapping[str, pa.Table], roles: Roles) -> Labels:
    """The classes of words, which the first part tells; and of each row the tag that decides its part.

    That is its rarest tag, so that rare ones are in each part. Sentences of a tag that fewer than three different
    ones have are not split off (-1).

    Raises:
        DataError: as `tags_of`, or fewer than two tags.
    """
    tags = {part: tags_of(table, roles) for part, table in tables.items()}
    first = next(iter(tables))
    found = {tag for row in tags[first] for tag in row if tag is not None}
    are_numbers = all(tag.isdecimal() for tag in found)
    names = tuple(sorted(found, key=int if are_numbers else None))
    if len(names) < 2:
        raise DataError(
            f"{place_of(tables[first], 0)}: expected two or more tags in {roles.label!r}, found {few(names) or 0}"
        )
    numbers = {
        part: torch.tensor([0 if any(row) else NO_LABEL for row in rows], dtype=torch.int64)
        for part, rows in tags.items()
    }
    if first in (ALL, "train"):
        numbers[first] = _rarest(words_of(tables[first], roles.text[0]), tags[first], names)
    return Labels(names, numbers)


def _rarest(sentences: Sentences, tags: Sequence[Sequence[str | None]], names: Sequence[str]) -> Tensor:
    different = dict(zip(map(tuple, sentences), tags, strict=True))
    counts = Counter(tag for row in different.values() for tag in {*row} if tag is not None)
    numbers = {name: number for number, name in enumerate(names)}

    def rarest(row: Sequence[str | None]) -> int:
        known = [tag for tag in row if tag is not None]
        return numbers[min(known, key=lambda tag: (counts[tag], tag))] if known else NO_LABEL

    sizes = Counter(map(rarest, different.values()))
    found = [rarest(row) for row in tags]
    split = [number if sizes[number] >= _PARTS else NO_LABEL for number in found]
    return torch.tensor(split if max(split) >= 0 else [0] * len(split), dtype=torch.int64)


def numbers_of_tags(table: pa.Table, roles: Roles, names: Sequence[str]) -> list[Tensor]:
    """The class of each word of each row, -1 for none.

    Raises:
        DataError: a tag that is not one of the names; names the row.
    """
    numbers: dict[str | None, int] = {None: NO_LABEL} | {name: number for number, name in enumerate(names)}
    found = []
    for row, tags in enumerate(tags_of(table, roles)):
        if unknown := [tag for tag in tags if tag not in numbers]:
            raise DataError(
                f"{place_of(table, row)}: tag {unknown[0]!r} of {roles.label!r} is not one of the training tags "
                f"{few(names)}"
            )
        found.append(torch.tensor([numbers[tag] for tag in tags], dtype=torch.int64))
    return found
