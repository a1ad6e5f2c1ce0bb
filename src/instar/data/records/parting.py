"""Rows split into training, validation and test rows: by a column, or by hashes of their ids."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from instar.data.hashing import key_of, keyed_hash
from instar.data.identity import content_ids
from instar.data.readers.folder import PARTS
from instar.data.records.places import place_of
from instar.data.splits import chosen_rows
from instar.errors import DataError
from instar.naming import listed


def part_named(text: str) -> str | None:
    """The part that a word means: `dev` is validation.

    Example:
        >>> part_named("Dev"), part_named("fold 3")
        ('validation', None)
    """
    return next((part for part, words in PARTS.items() if text.strip().lower() in words), None)


def by_column(table: pa.Table, column: str) -> dict[str, pa.Table]:
    """The rows of each part that a column names, the training part first.

    Raises:
        DataError: a row whose part is none of these.
    """
    words = table[column].cast(pa.string()).combine_chunks()
    meant = {word: part_named(word or "") for word in pc.unique(words).to_pylist()}
    for word, part in meant.items():
        if part is None:
            is_it = pc.is_null(words) if word is None else pc.equal(words, word)
            row = pc.index(is_it, True).as_py()
            found = "nothing" if word is None else repr(word)
            raise DataError(f"{place_of(table, row)}: part {found} in {column!r}, expected {listed(list(PARTS))}")
    return {
        part: table.filter(pc.is_in(words, value_set=pa.array([w for w, p in meant.items() if p == part])))
        for part in PARTS
        if part in meant.values()
    }


def cut_rows(
    ids: Tensor,
    labels: Tensor,
    groups: pa.ChunkedArray | None,
    *,
    fraction: float,
    split_seed: int,
    class_names: Sequence[str],
    contents: Tensor | None = None,
    parts: int = 2,
    place: Callable[[int], str] | None = None,
) -> tuple[Tensor, Tensor]:
    """The rows that stay and those that are split off: a share of each class, or whole groups of rows.

    Args:
        ids: (n,) int64.
        labels: (n,) int64, -1 for none.
        groups: (n,) the group of each row; those with the smallest hashes are split off, up to the share.
        fraction: share that is split off.
        split_seed: chooses.
        class_names, contents, parts, place: as for `splits.chosen_rows`.

    Raises:
        DataError: a class with too few examples, or fewer than two groups.
    """
    if groups is None:
        about: dict[str, Any] = {"class_names": class_names, "contents": contents, "parts": parts, "place": place}
        is_chosen = chosen_rows(ids, labels, fraction=fraction, split_seed=split_seed, **about)
    else:
        is_chosen = _whole_groups(groups, fraction, split_seed)
    return (~is_chosen).nonzero().squeeze(1), is_chosen.nonzero().squeeze(1)


def _whole_groups(groups: pa.ChunkedArray, fraction: float, split_seed: int) -> Tensor:
    encoded = groups.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    names, numbers = encoded.dictionary.to_pylist(), torch.from_numpy(encoded.indices.to_numpy().astype(np.int64))
    if len(names) < 2:
        raise DataError(f"one group of rows, {names[0]!r}, cannot be split; two are needed")
    hashes = content_ids([repr(name).encode() for name in names], torch.zeros(len(names), dtype=torch.int64))
    order = keyed_hash(key_of("split", split_seed), hashes).argsort()
    sizes = torch.bincount(numbers, minlength=len(names))[order]
    before = sizes.cumsum(0) - sizes
    num_groups = int((before < round(fraction * len(numbers))).sum())
    chosen = order[: max(1, min(num_groups, len(names) - 1))]
    return torch.isin(numbers, chosen)
