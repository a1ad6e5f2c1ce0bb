"""Data sets whose examples are decoded from files when they are needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from instar.data.dataset import Dataset, Numbers
from instar.data.identity import content_ids
from instar.errors import DataError
from instar.structures import Form, Inputs, joined, map_tensors


class StreamingDataset(Dataset):
    """Examples in files, decoded when they are gathered, for data that does not fit in memory.

    Args:
        files: one for each example.
        labels: (n,) integers, -1 for examples without a label.
        decode: returns the raw example of a file, always of `example_shape` and of the same type.
        class_names: at least two, in the order of the labels.
        example_shape: shape of one example.
        ids: (n,) int64; by default from the bytes of each file.
        scale, mean, std: as for `Dataset`.

    Raises:
        DataError: no file, different numbers of files and labels, labels outside the classes; at `gather`, a file
            that cannot be decoded.
        UsageError: invalid class names, mean or std.
    """

    in_memory = False

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        *,
        decode: Callable[[Path], Inputs],
        class_names: Sequence[str],
        example_shape: Form,
        ids: Tensor | None = None,
        scale: float = 1 / 255,
        mean: Numbers | None = None,
        std: Numbers | None = None,
    ) -> None:
        if len(labels) != len(files):
            raise DataError(f"{len(files)} files and {len(labels)} labels: each file needs one (-1 is none)")
        super().__init__(
            content_ids((file.read_bytes() for file in files), labels) if ids is None else ids,
            labels,
            class_names=class_names,
            example_shape=example_shape,
            scale=scale,
            mean=mean,
            std=std,
        )
        self.files = self._files = list(files)
        self._decode = decode
        self._device = torch.device("cpu")

    def raw(self, rows: Tensor) -> Inputs:
        """The decoded files of some rows, before views and scaling, in main memory."""
        decoded = [self._decode(self._files[row]) for row in rows.tolist()]
        return joined([map_tensors(lambda one: one[None], example) for example in decoded])

    def finish(self, raw: Inputs, ids: Tensor, views: Tensor | int) -> Inputs:
        """The second half of `gather`, after `raw`, on the device of the data set."""
        return super().finish(map_tensors(lambda one: one.to(self._device), raw), ids, views)

    def labels(self, ids: Tensor) -> Tensor:
        """The labels of some examples: (batch,) int64; -1 for an example without a label.

        Raises:
            UsageError: an id that is not in this data set.
        """
        return super().labels(ids).to(self._device)

    def to(self, device: torch.device | str) -> Self:
        """The data set with its batches on another device; ids stay in main memory."""
        moved = self._move(torch.device(device), "_mean", "_std")
        moved._device = torch.device(device)
        return moved
