"""Sequences in memory with a class at each position: names in sentences, parts of speech, states of frames."""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from instar.data.checks import as_tensor, checked_labels
from instar.data.columns import Varying
from instar.data.memory import InMemoryDataset
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.structures import tensors_in


class TaggedSequences(InMemoryDataset):
    """Sequences of their own length with a label at each position; -1 where there is none.

    `fit`, `evaluate` and `distill` take each position that is no padding as a row: a network gives logits
    (batch, length, classes).

    Args:
        inputs: as for `InMemoryDataset`, with lists of sequences.
        labels: a list of labels for each sequence, as long as the sequence is.
        class_names: at least two, in the order of the labels.
        others: of `InMemoryDataset`.

    Raises:
        DataError: a sequence with fewer or more labels than positions, or labels outside the classes.
        UsageError: the examples do not vary in length, or as `InMemoryDataset`.

    Example:
        >>> inputs, labels = {"input_ids": [[5, 3, 9], [8]]}, [[0, 1, -1], [1]]
        >>> data = TaggedSequences(inputs, labels, class_names=["word", "name"])
        >>> data.gather(data.ids, 0)["attention_mask"].tolist(), data.labels(data.ids).tolist()
        ([[1, 1, 1], [1, 0, 0]], [[0, 1, -1], [1, -1, -1]])
    """

    def __init__(self, inputs: Any, labels: Sequence[Any], *, class_names: Sequence[str], **others: Any) -> None:
        super().__init__(inputs, torch.zeros(len(labels), dtype=torch.int64), class_names=class_names, **others)
        varying = [column for column in tensors_in(self._inputs) if isinstance(column, Varying)]
        if not varying:
            raise UsageError("labels at each position: give the examples as lists of sequences, {name: lists}")
        tags = [as_tensor(f"the labels of row {row}", one).flatten() for row, one in enumerate(labels)]
        for row, (one, length) in enumerate(zip(tags, varying[0].lengths.tolist(), strict=True)):
            if len(one) != length:
                raise DataError(
                    f"row {row}: {length} positions and {len(one)} labels: each needs one (-1 is none)"
                )
        flat = torch.cat(tags)
        checked_labels(flat, torch.arange(len(flat)), self.class_names)
        self._tags = Varying(flat.long(), varying[0].lengths, NO_LABEL)

    def labels_at(self, rows: Tensor) -> Tensor:
        """(batch, length) int64: the labels of the positions of some stored rows, -1 behind their ends."""
        tags: Tensor = self._tags.index_select(0, rows)
        return tags.masked_fill_((self._labels[rows] < 0)[:, None], NO_LABEL)

    @property
    def num_documents(self) -> int:
        """How many sequences are stored: each is a document."""
        return self.num_stored

    def documents(self, ids: Tensor) -> Tensor:
        """(batch, length) int64: the number of the sequence that each position is in; -1 behind its end."""
        rows = self.rows(ids)
        lengths = self._tags.lengths[rows]
        places = torch.arange(int(lengths.max()), device=lengths.device)
        return rows[:, None].masked_fill(places >= lengths[:, None], -1)

    def num_rows(self, ids: Tensor) -> int:
        """How many positions some examples have."""
        return int(self._tags.lengths[self.rows(ids)].sum())

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hex digits that identify the sequences with their labels, in any order, class names and form."""
        ids = self.ids.sort().values.cpu()
        rows = self.rows(ids.to(self.ids.device))
        digest = hashlib.sha256(repr((self.class_names, self.example_shape)).encode() + ids.numpy().tobytes())
        for row in torch.split(rows, 1):
            digest.update(self.labels_at(row).cpu().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Self:
        """The data set in the memory of another device."""
        rows = self.rows(self.ids)
        moved = super().to(device)
        if moved is not self:
            moved._tags = self._tags[rows].to(torch.device(device))
        return moved
