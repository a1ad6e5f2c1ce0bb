"""Examples that are byte-identical in two parts of the data."""

import itertools
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.identity import shared_contents
from instar.errors import DataWarning

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
            all_of_them = f" (instar data check {name} lists them)" * name.startswith(("folder:", "python:"))
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
    ids, same = shared_contents(data.ids, other.ids)
    if not len(ids) or data.example_shape != other.example_shape:
        return ids[:0], same[:0]
    pairs = zip(torch.split(ids, _AT_ONCE), torch.split(same, _AT_ONCE), strict=True)
    equal = [data.raw(data.rows(mine)) == other.raw(other.rows(theirs)) for mine, theirs in pairs]
    is_copy = torch.cat([one.flatten(1).all(1).cpu() for one in equal])  # a user's own ids may be equal otherwise
    return ids[is_copy], same[is_copy]
