"""Data sets: examples by id, with labels and views.

The training loop uses `gather`, `labels`, `class_names` and `fingerprint`, and nothing else.
"""

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from instar.data.checks import checked_labels, checked_names
from instar.data.columns import contents
from instar.data.identity import IdIndex, fingerprint_of, in_few_bytes
from instar.data.views import Views, bound_to
from instar.errors import UsageError
from instar.identity import plain, sketch
from instar.losses import NO_LABEL
from instar.structures import (
    Form,
    Inputs,
    are_numbers,
    device_of,
    examples_in,
    form_in_words,
    is_plain,
    map_tensors,
    read_form,
    tensors_in,
    without_lengths,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from instar.data.sounds import Sounds

Numbers = Sequence[float] | Tensor


class Dataset(ABC):
    """Examples with ids, labels and views. A subclass returns the stored examples in `raw`.

    Args:
        ids: (n,) int64, all different, made from the examples' content.
        labels: (n,) int64, -1 for examples without a label.
        class_names: at least two, in the order of the labels.
        example_shape: shape of one example, without the batch dimension; a `structures.Form` where an example is a
            mapping or a tuple of tensors, or holds integers.
        scale: raw values are multiplied by this, after the views.
        mean: mean of each channel, subtracted after scaling.
        std: standard deviation of each channel, by which values are then divided.
        are_different: whether the ids are known to be: then they are put in order when one is looked up.

    Raises:
        DataError: no example, different numbers of ids and labels, labels outside the classes.
        UsageError: an id occurs twice, or invalid class names, mean or std.
    """

    in_memory: bool
    views: Views | None = None
    view_seed: int = 0
    num_views: int | None = None
    table: Any = None
    """how the rows of a table became examples (`TablePreparation`), where they are such rows"""
    files: Sequence[object] | None = None
    """the file of each stored row, or its place in one, where the ids are those of the content"""
    keys: "pa.ChunkedArray | None" = None
    """the key of each stored row as text, where a column holds these"""
    label_probs: Tensor | None = None
    """(stored rows, classes) where labels are distributions, 0 where a row has none: the hard term is computed
    with these; `labels` are their likeliest classes"""
    texts: "pa.Array | None" = None
    """the text of each stored row, where it has one: for teachers that read it themselves (`seen_by`)"""
    sounds: "Sounds | None" = None
    """the clip of each stored row, where it has one: for teachers that hear it themselves (`seen_by`)"""

    def __init__(
        self,
        ids: Tensor,
        labels: Tensor,
        *,
        class_names: Sequence[str],
        example_shape: Form,
        scale: float = 1.0,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        are_different: bool = False,
    ) -> None:
        self.class_names = checked_names(class_names)
        self.example_shape: Form = read_form(example_shape)
        self._is_plain = is_plain(self.example_shape)
        self._labels = checked_labels(labels, ids, self.class_names)
        self._scale = float(scale)
        self._set_normalisation(mean, std, ids.device)
        rows = torch.arange(len(ids), device=ids.device)
        self._index(ids.detach().clone(), rows, are_different=are_different)

    @abstractmethod
    def raw(self, rows: Tensor) -> Inputs:
        """The stored examples of some rows, before views and scaling: (batch, *example_shape)."""

    def raws(self, parts: Sequence[Tensor]) -> Iterator[Inputs]:
        """`raw` of some rows after others."""
        return map(self.raw, parts)

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The data set on another device."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hex digits that identify the (id, label) pairs, in any order, the class names and the shape."""
        probs = None if self.label_probs is None else self.label_targets(self.ids)
        form = without_lengths(self.example_shape)
        return fingerprint_of(self.ids, self.labels(self.ids), self.class_names, form, label_probs=probs)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run directory knows the data by: its examples, its views, and sketches of what it gives.

        So another mean, std or scale, other views or another way to decode the same files are other data.
        """
        about: dict[str, Any] = {"fingerprint": self.fingerprint, "values": sketch(tensors_in(self.examples()))}
        if self.views is not None:
            views = {"name": self.views.name, "view_seed": self.view_seed, "num_views": self.num_views}
            about["views"] = {**views, "values": sketch(tensors_in(self.examples(view=1)))}
        return about

    def some_ids(self) -> Tensor:
        """The ids of up to sixteen examples: the same ones in any order of the data."""
        ids = self.ids.sort().values
        return ids[:: -(-len(ids) // 16)]

    def examples(self, *, view: int = 0) -> Inputs:
        """Up to sixteen examples, those of `some_ids`, by which data and networks are recognised."""
        return self.gather(self.some_ids(), view)

    @property
    def normalisation(self) -> tuple[float, list[float] | None, list[float] | None]:
        """Scale, and mean and std of each channel."""
        mean, std = (None if one is None else one.flatten().tolist() for one in (self._mean, self._std))
        return self._scale, mean, std

    def gather(self, ids: Tensor, views: Tensor | int) -> Inputs:
        """Views of some examples, scaled and normalised.

        Args:
            ids: (batch,) int64.
            views: view number, one for all or (batch,) int64; view 0 is the unchanged example.

        Returns: (batch, *example_shape): numbers in float32, ids and masks as they are; a mapping or a tuple of
            such tensors where an example is one.

        Raises:
            UsageError: an id that is not in this data set.
        """
        return self.finish(self.raw(self.rows(ids)), ids, views)

    def finish(self, raw: Inputs, ids: Tensor, views: Tensor | int) -> Inputs:
        """The second half of `gather`, after `raw`: views, scale, mean and std."""
        if self.num_views is not None:
            views = views % self.num_views
        unchanged = isinstance(views, int) and views == 0
        if self.views is not None and not unchanged:
            device = device_of(raw)
            views = views.to(device) if isinstance(views, Tensor) else views
            raw = self.views.apply(raw, ids.to(device), views, self.view_seed)
        if not self._is_plain:
            return map_tensors(_finished, raw)
        values = raw.float()
        if self._scale != 1:
            values = values * self._scale
        if self._mean is not None:
            values = values - self._mean
        return values if self._std is None else values / self._std

    def contents(self, rows: Tensor) -> Iterator[Any]:
        """The bytes of each of some stored examples, by which it is known."""
        return contents(self.raw(rows))

    def labels(self, ids: Tensor) -> Tensor:
        """The labels of some examples: (batch,) int64, of sequences (batch, length); -1 where there is none.

        Raises:
            UsageError: an id that is not in this data set.
        """
        return self.labels_at(self.rows(ids))

    def labels_at(self, rows: Tensor) -> Tensor:
        """`labels` of stored rows: (batch,) int64."""
        return self._labels[rows]

    def num_rows(self, ids: Tensor) -> int:
        """How many rows of logits a network gives for some examples: one each, of sequences one for each position.

        Example:
            >>> from instar.data import as_dataset
            >>> data = as_dataset(({"input_ids": [[5, 3], [8]]}, [[0, 1], [1]]))
            >>> data.num_rows(data.ids)
            3
        """
        return len(ids)

    def label_targets(self, ids: Tensor) -> Tensor:
        """What the hard term of a loss compares with: `labels`, or distributions where the data has them.

        Returns: (batch,) int64, -1 for none; or (batch, classes), 0 for none.

        Raises:
            UsageError: an id that is not in this data set.
        """
        rows = self.rows(ids)
        return self.labels_at(rows) if self.label_probs is None else self.label_probs[rows]

    def with_label_probs(self, probs: Tensor | None) -> Self:
        """The data set with distributions for labels, whose likeliest classes its labels are.

        Args:
            probs: (stored rows, classes), 0 where a row has no label; None for none.

        Raises:
            UsageError: another shape.
        """
        if probs is not None and probs.shape != (self.num_stored, self.num_classes):
            raise UsageError(
                f"label_probs: expected {(self.num_stored, self.num_classes)}, found {tuple(probs.shape)}"
            )
        other = self._copy()
        other.label_probs = None if probs is None else probs.to(self._labels.device)
        return other

    @property
    def num_stored(self) -> int:
        """The number of stored rows; of a subset, that of the whole."""
        return len(self._labels)

    def rows(self, ids: Tensor) -> Tensor:
        """The rows in which examples are stored: (batch,) int64.

        Raises:
            UsageError: an id that is not in this data set.
        """
        is_all = ids is self.ids or (len(ids) == len(self.ids) and torch.equal(ids.to(self.ids.device), self.ids))
        found = self._own_rows if is_all else self._by_id.rows[self._by_id.index.find(ids)]
        return found.long()

    def names(self, ids: Tensor) -> list[str]:
        """Some examples as messages call them: their keys, the files that they come from, or their rows.

        Raises:
            UsageError: an id that is not in this data set.
        """
        rows = self.rows(ids).tolist()
        if self.keys is not None:
            return [str(self.keys[row]) for row in rows]
        return [f"row {row}" if self.files is None else str(self.files[row]) for row in rows]

    def subset(self, ids: Tensor) -> Self:
        """The data set of some of the examples, without a copy.

        Raises:
            UsageError: there is no id, an id occurs twice or is not in this data set.
        """
        if len(ids) == 0:
            raise UsageError("subset: there are no ids; a data set needs at least one example")
        part = self._copy()
        part._index(ids.to(self.ids.device).clone(), self.rows(ids))
        return part

    def union(self, other: Self) -> Self:
        """The union of two subsets of the same data set, without a copy.

        Raises:
            UsageError: they are not subsets of the same data set, or share an example.
        """
        if other._labels is not self._labels:
            raise UsageError("union: the two are not subsets of the same data set")
        whole = self._copy()
        whole._index(torch.cat((self.ids, other.ids)), torch.cat((self.rows(self.ids), other.rows(other.ids))))
        return whole

    def without_labels(self, ids: Tensor) -> Self:
        """The data set without the labels of some examples.

        Raises:
            UsageError: an id that is not in this data set.
        """
        other = self._copy()
        other._labels = self._labels.clone()
        other._labels[self.rows(ids)] = NO_LABEL
        if self.label_probs is not None:
            other.label_probs = self.label_probs.clone()
            other.label_probs[self.rows(ids)] = 0.0
        return other

    def relabelled(self, numbers: Tensor, class_names: Sequence[str]) -> Self:
        """The data set with other classes: label k becomes numbers[k].

        Args:
            numbers: (classes,) int64; -1 removes the label.
            class_names: names of the new classes.

        Raises:
            UsageError: the number of `numbers` is not that of the classes, or one is not a new class.

        Example:
            >>> from instar.data import as_dataset
            >>> data = as_dataset((torch.rand(3, 2), torch.tensor([0, 1, 2])))
            >>> data.relabelled(torch.tensor([1, 0, 1]), ["odd", "even"]).labels(data.ids).tolist()
            [1, 0, 1]
        """
        names = checked_names(class_names)
        if numbers.shape != (self.num_classes,) or not bool(
            ((numbers >= NO_LABEL) & (numbers < len(names))).all()
        ):
            raise UsageError(
                f"relabelled: expected {self.num_classes} numbers from -1 to {len(names) - 1}, found "
                f"{tuple(numbers.shape)} from {int(numbers.min())} to {int(numbers.max())}"
            )
        other = self._copy()
        to = torch.cat((numbers, numbers.new_full((1,), NO_LABEL))).to(
            self._labels.device
        )  # the last one maps -1 to -1
        other._labels, other.class_names = to[self._labels], names
        if (probs := self.label_probs) is not None:
            kept = numbers >= 0
            moved = probs.new_zeros(len(probs), len(names)).index_add_(1, numbers[kept], probs[:, kept])
            moved[other._labels == NO_LABEL] = 0.0
            # Of classes that were joined the sum may be the largest, though none of them was.
            other._labels = torch.where(other._labels == NO_LABEL, other._labels, moved.argmax(1))
            other.label_probs = moved / moved.sum(1, keepdim=True).clamp(min=torch.finfo(moved.dtype).tiny)
        return other

    def of_classes(self, classes: Sequence[int]) -> Self:
        """The examples of some classes, relabelled 0, 1, ... in the given order, without a copy.

        Args:
            classes: numbers of at least two classes.

        Raises:
            UsageError: a class is unknown or occurs twice, or none of the classes has an example.
        """
        if len(set(classes)) < len(classes) or not set(classes) <= set(range(self.num_classes)):
            raise UsageError(
                f"of_classes: {list(classes)} should be different numbers from 0 to {self.num_classes - 1}"
            )
        numbers = torch.full((self.num_classes,), NO_LABEL)
        numbers[list(classes)] = torch.arange(len(classes))
        whole = self.relabelled(numbers, [self.class_names[number] for number in classes])
        chosen = whole.labels(self.ids) != NO_LABEL
        if not bool(chosen.any()):
            names = ", ".join(self.class_names[number] for number in classes[:5])
            raise UsageError(f"of_classes: there is no example of {names}{', ...' * (len(classes) > 5)}")
        return whole.subset(self.ids[chosen])

    def with_views(self, views: Views | None, *, view_seed: int, num_views: int | None = None) -> Self:
        """The data set with these views; view 0 stays the unchanged example.

        Args:
            views: the augmentation; None for none.
            view_seed: shared by a teacher and all its students.
            num_views: view v is view v mod num_views, as in a store that holds so many views.

        Raises:
            UsageError: the views do not fit the shape of the examples, or num_views is below 1.
        """
        view_seed, num_views = plain(view_seed), plain(num_views)
        if num_views is not None and num_views < 1:
            raise UsageError(f"num_views is {num_views}, expected at least 1")
        if views is not None:
            views = bound_to(views, getattr(self, "vocabulary", None))  # and try them now, not in the first epoch
            views.apply(examples_in(self.example_shape, 1), torch.zeros(1, dtype=torch.int64), 1, view_seed)
        other = copy.copy(self)
        other.views, other.view_seed, other.num_views = views, view_seed, num_views
        return other

    def with_normalisation(self, mean: Numbers | None, std: Numbers | None) -> Self:
        """The data set with another mean and standard deviation of each channel, in place of its own.

        Args:
            mean: of values after scaling; None subtracts nothing.
            std: None divides by nothing.

        Raises:
            UsageError: not one number for each channel, or a standard deviation that is not above 0.

        Example:
            >>> from instar.data import as_dataset
            >>> data = as_dataset((torch.full((3, 1, 2, 2), 0.75), torch.tensor([0, 1, 1])))
            >>> data.with_normalisation([0.5], [0.25]).gather(data.ids[:1], 0).flatten().tolist()
            [1.0, 1.0, 1.0, 1.0]
        """
        other = copy.copy(self)
        other._set_normalisation(mean, std, self.labels(self.ids[:1]).device)
        return other

    def normalised_like(self, other: "Dataset") -> Self:
        """The data set with its channels normalised by the mean and std of other data.

        Raises:
            UsageError: the values of the other data, before normalisation, are not from 0 to 1 as those of images.
        """
        values = other.raw(other.rows(other.ids[:1000])).float() * other._scale
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise UsageError(
                f"images have values from 0 to 1, this data from {low:.3g} to {high:.3g}: they do not fit"
            )
        same = copy.copy(self)
        same._mean, same._std = other._mean, other._std
        return same

    def _copy(self) -> Self:
        """A copy with the same tensors, for other examples or labels: its fingerprint is computed again."""
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        return other

    def _index(self, ids: Tensor, rows: Tensor, *, are_different: bool = False) -> None:
        self.ids, self._own_rows = ids, in_few_bytes(rows)
        self._by_id = _ById(ids, self._own_rows)
        if not are_different:
            _ = self._by_id.index  # which raises where they are not

    def _set_normalisation(self, mean: Numbers | None, std: Numbers | None, device: torch.device) -> None:
        self._mean = self._per_channel("mean", mean, device)
        self._std = self._per_channel("std", std, device)
        if self._std is not None and not bool((self._std > 0).all()):
            raise UsageError(f"std {self._std.flatten().tolist()} should be above 0 in each channel")

    def _per_channel(self, name: str, numbers: Numbers | None, device: torch.device) -> Tensor | None:
        if numbers is None:
            return None
        if not self._is_plain:
            raise UsageError(
                f"{name}: only a single tensor of numbers is normalised, an example is "
                f"{form_in_words(self.example_shape)}: normalise its tensors before, and give no mean and std"
            )
        values = torch.as_tensor(numbers, dtype=torch.float32, device=device)
        if values.shape != self.example_shape[:1] or not bool(values.isfinite().all()):
            raise UsageError(
                f"{name} should be one finite number for each of the {self.example_shape[0]} channels, "
                f"found {values.tolist()}"
            )
        return values.view(-1, *(1,) * (len(self.example_shape) - 1))

    def _move(self, device: torch.device, *names: str) -> Self:
        """A copy with some tensors on another device."""
        moved = copy.copy(self)
        for name in names:
            value = getattr(self, name)
            setattr(moved, name, None if value is None else value.to(device))
        return moved


class _ById:
    """Where examples are stored, by id: put in order once, for copies of a data set too, when one is looked up."""

    def __init__(self, ids: Tensor, rows: Tensor) -> None:
        self._ids, self._own_rows = ids, rows

    @functools.cached_property
    def index(self) -> IdIndex:
        return IdIndex(self._ids, f"this data set of {len(self._ids)} examples", "take ids from its .ids")

    @functools.cached_property
    def rows(self) -> Tensor:
        """In the order of the index."""
        return self._own_rows[self.index.order]


def _finished(values: Tensor) -> Tensor:
    """One of several tensors: pixels from 0 to 1, other numbers in float32, ids and masks as they are."""
    if not are_numbers(values.dtype):
        return values
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
