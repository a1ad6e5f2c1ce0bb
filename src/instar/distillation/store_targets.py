"""Soft targets from a store, for a fit."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from instar.data import Dataset, IdIndex
from instar.guards import views_of
from instar.losses import AnyTargets, HeadTargets, LogitTargets, SoftTargets

_ROWS_AT_ONCE = 65_536  # limits the memory that is needed beside the result while targets are prepared


class StoreTargets:
    """Soft targets of a store as a function of (ids, views), for `training.fit`; see `SoftTargetStore.targets`.

    Targets that fit into memory are computed once, at the temperature: a step then only gathers its rows.

    Args:
        read: returns the soft targets for (ids, views) from the files.
        data: the student's training data.
        class_names: the classes of the targets; `fit` compares them with those of the data.
        num_views: view v is the stored view v mod num_views.
        temperature: the temperature of the targets that `read` returns.
        mean: how `read` averages the members' probabilities.
        reading: what `read` says of the classes outside the top k; None where the targets are not sparse.
        identity: what the store is known by.
        device: where the targets are kept.
        remembered_bytes: the most memory that prepared targets may take; above it, each step reads the files.
    """

    def __init__(
        self,
        read: Callable[[Tensor, Tensor | int], AnyTargets],
        data: Dataset,
        *,
        class_names: tuple[str, ...],
        num_views: int,
        temperature: float,
        mean: str,
        reading: str | None,
        identity: Mapping[str, Any],
        device: torch.device,
        remembered_bytes: int,
    ) -> None:
        self.class_names, self.views, self.num_views = class_names, views_of(data), num_views
        self.temperature, self.mean, self.reading, self.identity = temperature, mean, reading, identity
        self._read, self._device = read, device
        self._index = IdIndex(
            data.ids.to(device), "the data of these soft targets", "make them for the data that the student sees"
        )
        self._prepared: SoftTargets | LogitTargets | None = None
        self._head: tuple[Tensor, Tensor | None] | None = None
        if 4 * num_views * len(data) * len(class_names) <= remembered_bytes:
            self._prepared = self._prepare()

    def __call__(self, ids: Tensor, views: Tensor | int) -> AnyTargets:
        """Soft targets for a batch, (batch, ...), on the device.

        Raises:
            UsageError: an example is not in `data`.
        """
        if self._prepared is None:
            return self._moved(self._read(ids, views))
        return self._prepared[self._index.find(ids) + views % self.num_views * len(self._index.ids)]

    def _prepare(self) -> SoftTargets | LogitTargets:
        batches = torch.split(self._index.ids, _ROWS_AT_ONCE)
        read = (self._read(ids, view) for view in range(self.num_views) for ids in batches)
        parts = [part for part in read if isinstance(part, SoftTargets | LogitTargets)]
        values = torch.cat([part.logits if isinstance(part, LogitTargets) else part.probs for part in parts])
        if self.temperature == math.inf:
            return LogitTargets(values.to(self._device))
        return SoftTargets(values.to(self._device), self.temperature)

    def _moved(self, targets: AnyTargets) -> AnyTargets:
        device = self._device
        if isinstance(targets, LogitTargets):
            return LogitTargets(targets.logits.to(device))
        if isinstance(targets, HeadTargets):
            if self._head is None:  # as large as the student's own; moved once
                bias = None if targets.bias is None else targets.bias.to(device)
                self._head = targets.weight.to(device), bias
            weight, bias = self._head
            return HeadTargets(targets.hidden.to(device), weight, targets.temperature, bias)
        return targets.to(device)
