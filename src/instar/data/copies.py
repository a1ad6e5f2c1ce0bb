"""Examples that are byte-identical in two parts of the data."""

import itertools
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.identity import content_ids, shared_rows
from instar.errors import DataWarning
from instar.structures import without_lengths

_AT_ONCE = 500  # examples, for memory


def warn_of_copies(name: str, parts: Mapping[str, Dataset]) -> None:
    """Warn of examples that judge and were learned from: the same bytes in two parts that the user gave.

    Args:
        name: of the data.
        parts: by name; those that are learned from first.
    """
    for (first, one), (second, other) in itertools.combinations(parts.items(), 2):
        ids, same = copies_of(one, other)
        if len(ids):
            (copy,), (original,) = other.names(ids[:1]), one.names(same[:1])
            all_of_them = f" (instar data check {name} lists them)" * (":" in name)
            warnings.warn(
                f"{name}: {len(ids)} of {len(other)} {second} examples are byte-identical to {first} examples, so "
                f"their scores flatter: {copy} ({second}) is {original} ({first}){', ...' * (len(ids) > 1)}; "
                f"remove them from one of the two{all_of_them}",
                DataWarning,
                stacklevel=3,
            )


def copies_of(other: Dataset, data: Dataset) -> tuple[Tensor, Tensor]:
    """The ids of the examples of `data` that are in other data too, and their ids there.

    Example:
        >>> from instar.data import as_dataset
        >>> inputs, labels = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
        >>> one, other = as_dataset((inputs[:3], labels[:3])), as_dataset((inputs[2:], labels[2:]))
        >>> ids, same = copies_of(one, other)
        >>> torch.equal(ids, other.ids[:1]), torch.equal(same, one.ids[2:])
        (True, True)
    """
    if without_lengths(data.example_shape) != without_lengths(other.example_shape):
        return data.ids[:0], other.ids[:0]
    rows, other_rows = shared_rows(contents_of(data), contents_of(other))
    return data.ids.cpu()[rows], other.ids.cpu()[other_rows]


def contents_of(data: Dataset) -> Tensor:
    """`content_ids` of the examples, (n,) int64: those of a data set in memory whatever ids a user gave it."""
    if data.files is not None or not data.in_memory:
        return data.ids
    rows = (row for part in torch.split(data.ids, _AT_ONCE) for row in data.contents(data.rows(part)))
    return content_ids(rows, data.labels(data.ids).cpu().view(len(data), -1)[:, 0])  # of a sequence its first
