"""Reads rows of a soft-target store from memory-mapped shards; checksums are compared at the first read."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import IdIndex
from instar.distillation.store_format import MANIFEST, Columns, Manifest, map_shard
from instar.errors import DataError


class StoredRows:
    """The rows of all shards as if they were one table, ordered by (view, id)."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._files = manifest, manifest.settings.files()
        self._mapped: dict[int, Columns] = {}

    @property
    def ids(self) -> Tensor:
        """(examples,) int64, ascending."""
        return self._index.ids

    @functools.cached_property
    def _index(self) -> IdIndex:
        ids = torch.from_numpy(self.take("id", np.arange(self._manifest.settings.num_examples)))
        return IdIndex(ids, str(self._manifest.path), "use the data that it was written for")

    def find(self, ids: Tensor, views: Tensor | int) -> NDArray[np.int64]:
        """The row of each (id, view mod number of stored views).

        Raises:
            UsageError: an example is not stored.
        """
        places = self._index.find(ids)
        views = views.cpu() if isinstance(views, Tensor) else views
        rows: NDArray[np.int64] = (places + views % self._manifest.settings.num_views * len(self.ids)).numpy()
        return rows

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

    def shards(self) -> Iterator[tuple[str, Columns]]:
        """File name and columns of each shard.

        Raises:
            DataError: a shard is missing or damaged.
        """
        for number, file in enumerate(self._files):
            yield file, self._columns(number)

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
