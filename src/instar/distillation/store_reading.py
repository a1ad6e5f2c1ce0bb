"""Reads rows of a soft-target store from memory-mapped shards; checksums are compared at the first read."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import IdIndex
from instar.distillation.store_format import (
    FULL,
    HEAD,
    MANIFEST,
    SEQUENCES,
    Columns,
    Manifest,
    map_file,
    map_shard,
)
from instar.errors import DataError
from instar.files import load_tensors
from instar.losses import AnyTargets, HeadTargets, LogitTargets, SoftTargets
from instar.sparse_targets import SparseTargets


class StoredRows:
    """The rows of all shards as if they were one table, ordered by (view, id), of sequences by (id, position)."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._files = manifest, manifest.settings.files()
        self._mapped: dict[int, Columns] = {}

    @property
    def ids(self) -> Tensor:
        """(examples,) int64, ascending."""
        return self._index.ids

    @functools.cached_property
    def _index(self) -> IdIndex:
        path, settings = self._manifest.path, self._manifest.settings
        if settings.num_positions:
            ids = torch.from_numpy(self._sequences["id"].copy())
        else:
            ids = torch.from_numpy(self.take("id", np.arange(settings.num_examples)))
        return IdIndex(ids, str(path), "use the data that it was written for")

    @functools.cached_property
    def _sequences(self) -> Columns:
        """The id and the length of each sequence, in the order of their rows."""
        columns, settings = self._other(SEQUENCES), self._manifest.settings
        found = {name: values.shape for name, values in columns.items()}
        shape = (settings.num_examples,)
        if found != {"id": shape, "length": shape} or columns["length"].sum() != settings.num_positions:
            raise DataError(f"{self._manifest.path / SEQUENCES} holds other sequences than {MANIFEST} says")
        return columns

    @functools.cached_property
    def _lengths(self) -> Tensor:
        return torch.from_numpy(self._sequences["length"].astype(np.int64))

    @functools.cached_property
    def _starts(self) -> Tensor:
        """The row of the first position of each sequence."""
        return self._lengths.cumsum(0) - self._lengths

    def lengths(self, ids: Tensor) -> Tensor:
        """The number of positions of some sequences."""
        return self._lengths[self._index.find(ids)]

    def find(self, ids: Tensor, views: Tensor | int) -> tuple[NDArray[np.int64], Tensor | None]:
        """The rows of some examples in a view, modulo the number of stored ones.

        Returns:
            The row of each example, and None; or of sequences the rows of all positions, one after another, and
            which positions of a batch they are, (batch, length) bool.

        Raises:
            UsageError: an example is not stored.
        """
        places, settings = self._index.find(ids), self._manifest.settings
        if settings.num_positions:
            lengths = self._lengths[places]
            longest = settings.length or (int(lengths.max()) if len(lengths) else 0)
            positions = torch.arange(longest)
            is_there = positions < lengths[:, None]
            return (self._starts[places][:, None] + positions)[is_there].numpy(), is_there
        views = views.cpu() if isinstance(views, Tensor) else views
        rows: NDArray[np.int64] = (places + views % settings.num_views * len(self.ids)).numpy()
        return rows, None

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of a column, copied from their shards.

        Raises:
            DataError: a shard is missing or damaged.
        """
        numbers, inside = np.divmod(rows, self._manifest.settings.rows_per_shard)
        first = self._columns(int(numbers[0]) if len(numbers) else 0)[name]
        if (numbers == numbers[:1]).all():
            return first[inside]
        values = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for number in np.unique(numbers):
            here = numbers == number
            values[here] = self._columns(int(number))[name][inside[here]]
        return values

    def take_all(self, member: str, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Some rows of all columns of a member, by the suffix of their names."""
        endings = self._manifest.settings.widths
        return {ending: torch.from_numpy(self.take(member + ending, rows)) for ending in endings}

    def shards(self) -> Iterator[tuple[str, Columns]]:
        """File name and columns of each shard.

        Raises:
            DataError: a shard is missing or damaged.
        """
        for number, file in enumerate(self._files):
            yield file, self._columns(number)

    def full(self) -> Columns:
        """The rows that are kept in full: their numbers, `row`, and all logits of each member.

        Raises:
            DataError: the file is missing or damaged.
        """
        return self._other(FULL)

    @functools.cached_property
    def head(self) -> dict[str, Tensor]:
        """Weight and perhaps bias of the teacher's linear head.

        Raises:
            DataError: the file is missing or damaged.
        """
        map_file(self._manifest.path / HEAD, self._manifest.files[HEAD])
        return {name: value.float() for name, value in load_tensors(self._manifest.path / HEAD)[0].items()}

    def check_others(self) -> None:
        """Read the files beside the shards.

        Raises:
            DataError: one is missing or damaged.
        """
        for name, about in self._manifest.files.items():
            map_file(self._manifest.path / name, about)

    def _other(self, name: str) -> Columns:
        return map_shard(self._manifest.path / name, self._manifest.files[name])

    def _columns(self, number: int) -> Columns:
        if number not in self._mapped:
            file = self._files[number]
            columns = map_shard(self._manifest.path / file, self._manifest.shards[file])
            settings = self._manifest.settings
            shapes = settings.column_shapes(len(settings.rows_of(number)))
            if {name: values.shape for name, values in columns.items()} != shapes:
                raise DataError(f"{self._manifest.path / file} has other columns or rows than {MANIFEST} says")
            self._mapped[number] = columns
        return self._mapped[number]


def in_batch(targets: AnyTargets, is_there: Tensor) -> AnyTargets:
    """The targets of positions, one after another, as those of a batch of sequences.

    Args:
        targets: (positions, ...).
        is_there: (batch, length), which positions exist.

    Returns:
        (batch, length, ...); those of other positions are 0, so that sparse and dense ones have no mass.
    """

    def spread(values: Tensor) -> Tensor:
        if bool(is_there.all()):
            return values.reshape(*is_there.shape, *values.shape[1:])
        padded = values.new_zeros(*is_there.shape, *values.shape[1:])
        padded[is_there] = values
        return padded

    if isinstance(targets, SparseTargets):
        drawn = None if targets.drawn is None else spread(targets.drawn)
        known = (spread(targets.classes), spread(targets.probs), spread(targets.rest))
        return SparseTargets(*known, targets.temperature, drawn, targets.reading)
    if isinstance(targets, HeadTargets):
        return HeadTargets(spread(targets.hidden), targets.weight, targets.temperature, targets.bias)
    if isinstance(targets, LogitTargets):
        return LogitTargets(spread(targets.logits))
    return SoftTargets(spread(targets.probs), targets.temperature)
