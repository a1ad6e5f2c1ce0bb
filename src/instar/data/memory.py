"""Data sets in memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from instar.arguments import require_tensor
from instar.data.columns import MASK_NAME, Varying, column_form, columns_of, contents, pads_of
from instar.data.dataset import Dataset, Numbers
from instar.data.identity import content_ids
from instar.data.vocabulary import Vocabulary
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.structures import Inputs, are_numbers, device_of, map_tensors, tensors_in


class InMemoryDataset(Dataset):
    """Examples in memory, gathered by index: each a tensor, or a mapping or a tuple of tensors.

    uint8 are pixels, scaled to 0 to 1. Other integers and booleans are ids and masks: they reach the network as
    they are. (Other integer types become int64, other floating point types float32.)

    Args:
        inputs: (n, ...) a tensor or an array, a list of examples that may differ in their first dimension, or a
            mapping by name or a tuple of these. A batch of such a list is padded to its longest example, and has a
            mask beside it. A list of equal shapes of numbers is one tensor; one of integers is taken to vary.
        labels: (n,) integers, -1 for examples without a label; None where no example has a label.
        class_names: at least two, in the order of the labels.
        ids: (n,) int64; by default from the bytes of each example.
        scale: as for `Dataset`; by default 1/255 for uint8 and 1 for floating point.
        mean, std: as for `Dataset`; for a single tensor of numbers.
        mask: the name of the mask of padded examples (1 for a value, 0 behind the end) in a mapping that has none
            of that name; in a tuple the mask is put last, and a list becomes such a tuple. None makes no mask.
        pad: what stands behind the end of shorter examples, for a mapping also by name.

    Raises:
        DataError: no example, different numbers of inputs and labels, labels outside the classes, NaN or infinity.
        UsageError: invalid class names, mean, std or types.

    Example:
        >>> images = torch.arange(3 * 4, dtype=torch.uint8).view(3, 1, 2, 2)
        >>> data = InMemoryDataset(images, torch.tensor([0, 1, -1]), class_names=["cat", "dog"])
        >>> data.gather(data.ids[:2], 0).shape, data.labels(data.ids).tolist()
        (torch.Size([2, 1, 2, 2]), [0, 1, -1])
        >>> words = InMemoryDataset({"input_ids": [[5, 3], [8]]}, torch.tensor([0, 1]), class_names=["cat", "dog"])
        >>> {name: values.tolist() for name, values in words.gather(words.ids, 0).items()}
        {'input_ids': [[5, 3], [8, 0]], 'attention_mask': [[1, 1], [1, 0]]}
    """

    in_memory = True

    def __init__(
        self,
        inputs: Any,
        labels: Tensor | None,
        *,
        class_names: Sequence[str],
        ids: Tensor | None = None,
        scale: float | None = None,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        mask: str | None = MASK_NAME,
        pad: float | Mapping[str, float] = 0,
    ) -> None:
        columns = columns_of(inputs, mask=mask, pad=pad)
        number, device = len(tensors_in(columns)[0]), device_of(columns)
        if labels is None:
            labels = torch.full((number,), NO_LABEL, device=device)
        require_tensor("labels", labels)
        if len(labels) != number:
            raise DataError(f"{number} inputs and {len(labels)} labels: each input needs one (-1 is none)")
        if scale is not None and not (isinstance(columns, Tensor) and are_numbers(columns.dtype)):
            raise UsageError("scale: only a single tensor of numbers is scaled; scale the tensors before")
        ids = (content_ids(contents(columns), labels) if ids is None else ids).to(device)
        about: dict[str, Any] = {"class_names": class_names, "mean": mean, "std": std}
        self._hold(columns, ids, labels.to(device), scale=scale, **about)

    @classmethod
    def of_columns(cls, columns: Inputs, labels: Tensor, *, class_names: Sequence[str], ids: Tensor) -> Self:
        """The data set of columns as `columns_of` gives them, which were checked before: nothing is looked at."""
        made = cls.__new__(cls)
        made._hold(columns, ids, labels, class_names=class_names, are_different=True)
        return made

    def _hold(
        self, columns: Inputs, ids: Tensor, labels: Tensor, *, scale: float | None = None, **about: Any
    ) -> None:
        if scale is None:
            scale = 1 / 255 if isinstance(columns, Tensor) and columns.dtype == torch.uint8 else 1.0
        form = map_tensors(column_form, columns)
        Dataset.__init__(self, ids, labels, example_shape=form, scale=scale, **about)
        self._inputs = columns

    def raw(self, rows: Tensor) -> Inputs:
        """The stored examples of some rows, before views and scaling: (batch, *example_shape)."""
        if isinstance(self._inputs, Tensor):
            return self._inputs.index_select(0, rows)
        return map_tensors(lambda column: column.index_select(0, rows), self._inputs)

    def contents(self, rows: Tensor) -> Iterator[Any]:
        """The bytes of each of some stored examples, without padding."""
        return contents(map_tensors(lambda column: column[rows], self._inputs))

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the ids in the examples are of, where that is known: views of words need it."""
        varying = [column for column in tensors_in(self._inputs) if isinstance(column, Varying)]
        return next((one.vocabulary for one in varying if one.vocabulary is not None), None)

    @property
    def pad(self) -> float | dict[str, float]:
        """What stands behind the end of shorter examples."""
        return pads_of(self._inputs)

    @property
    def lengths(self) -> Tensor:
        """(n,) int64: the length of each example, in the order of `ids`.

        Raises:
            UsageError: the examples do not vary in length.
        """
        varying = [column for column in tensors_in(self._inputs) if isinstance(column, Varying)]
        if not varying:
            raise UsageError(
                "lengths: the examples are all of one length; give lists of tensors that vary in theirs"
            )
        return torch.stack([column.lengths[self.rows(self.ids)] for column in varying]).amax(0)

    def to(self, device: torch.device | str) -> Self:
        """The data set in the memory of another device; of a subset only its own examples are copied."""
        device = torch.empty(0, device=device).device  # with the index of the current device, for "cuda"
        if device == device_of(self._inputs):
            return self
        rows = self.rows(self.ids)
        moved = self._move(device, "_mean", "_std")
        moved._inputs = map_tensors(lambda column: column[rows].to(device), self._inputs)
        moved._labels = self._labels[rows].to(device)
        moved.files = None if self.files is None else [self.files[row] for row in rows.tolist()]
        moved.keys = None if self.keys is None else self.keys.take(rows.cpu().numpy())
        moved.label_probs = None if self.label_probs is None else self.label_probs[rows].to(device)
        moved.texts = None if self.texts is None else self.texts.take(rows.cpu().numpy())
        moved.sounds = None if self.sounds is None else self.sounds.take(rows)
        moved._index(self.ids.to(device), torch.arange(len(rows), device=device))
        return moved
