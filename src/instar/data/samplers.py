"""Samplers: the order of the examples as a pure function of (seed, epoch)."""

import functools
from typing import Protocol

import torch
from torch import Tensor

from instar.data.hashing import key_of
from instar.data.identity import IdIndex, in_order
from instar.data.memory import InMemoryDataset
from instar.errors import UsageError

_SORTED_TOGETHER = 64  # batches: enough to be of like length, few enough to differ between epochs


class Sampler(Protocol):
    """A function from the ids of a data set, a seed and an epoch to the ids of that epoch, in order."""

    def __call__(self, ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        """(n,) int64 -> (m,) int64; an id may occur several times or not at all."""


def shuffled(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
    """The ids in the random order of an epoch.

    The order depends on the set of ids, the seed and the epoch, but not on the order of `ids` or on global state.

    Args:
        ids: (n,) int64.
        seed: seed of the fit.
        epoch: number of the epoch.

    Returns: (n,) int64, on the device of `ids`.

    Example:
        >>> ids = torch.tensor([5, 3, 8, 1])
        >>> torch.equal(shuffled(ids, seed=0, epoch=1), shuffled(ids.flip(0), seed=0, epoch=1))
        True
    """
    generator = torch.Generator().manual_seed(key_of("order", seed, epoch))
    return in_order(ids, lambda number: torch.randperm(number, generator=generator))


def id_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Ids in batches; the last batch may be smaller.

    Args:
        order: (n,) int64.
        batch_size: at least 1.

    Raises:
        UsageError: the batch size is below 1.

    Example:
        >>> [len(ids) for ids in id_batches(torch.arange(10), 4)]
        [4, 4, 2]
    """
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size} should be at least 1")
    return list(torch.split(order, batch_size))


def half_special(special_ids: Tensor) -> Sampler:
    """A sampler whose batches are half special examples and half a random sample of the other examples.

    Special and other examples alternate, so a batch of even size has equally many of both. An epoch shows every
    special example once, and equally many others: a new random sample in each epoch, with repetitions where there
    are fewer.

    Args:
        special_ids: (n,) int64; ids that are not among the sampler's ids are ignored.

    Returns: a sampler, a pure function of (ids, seed, epoch).

    Raises:
        UsageError: at the call of the sampler, where no id is special or all are.

    Example:
        >>> sampler = half_special(torch.tensor([1, 2]))
        >>> order = sampler(torch.arange(9), seed=0, epoch=3)
        >>> sorted(order[0::2].tolist()), len(order), bool((order[1::2] != 1).all())
        ([1, 2], 4, True)

    References:
        Hinton, Vinyals and Dean 2015, section 5.2.
    """
    return functools.partial(_half_special, special_ids=special_ids)


def _half_special(ids: Tensor, *, seed: int, epoch: int, special_ids: Tensor) -> Tensor:
    is_special = torch.isin(ids, special_ids.to(ids.device))
    special = shuffled(ids[is_special], seed=seed, epoch=epoch)
    rest = shuffled(ids[~is_special], seed=seed, epoch=epoch)
    if not len(special) or not len(rest):
        raise UsageError(f"half_special: {len(special)} special examples and {len(rest)} others; both are needed")
    turns = -(-len(special) // len(rest))
    return torch.stack((special, rest.repeat(turns)[: len(special)]), 1).flatten()


def like_length(data: InMemoryDataset, *, batch_size: int) -> Sampler:
    """A sampler whose batches hold examples of like length, so that little of them is padding.

    The shuffled order of an epoch is sorted by length within each 64 batches, and the batches are shuffled again.

    Args:
        data: examples that vary in length; subsets of it are sampled too.
        batch_size: that of the fit.

    Returns: a sampler, a pure function of (ids, seed, epoch).

    Raises:
        UsageError: the examples do not vary in length, or the batch size is below 1.

    Example:
        >>> from instar.data import as_dataset
        >>> words = as_dataset(({"input_ids": [[1], [2, 2, 2], [3], [4, 4, 4]]}, [0, 1, 0, 1]))
        >>> order = like_length(words, batch_size=2)(words.ids, seed=0, epoch=0)
        >>> sorted(words.gather(ids, 0)["input_ids"].shape[1] for ids in id_batches(order, 2))
        [1, 3]
    """
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size} should be at least 1")
    return functools.partial(_like_length, among=data.ids, lengths=data.lengths, batch_size=batch_size)


def _like_length(ids: Tensor, *, seed: int, epoch: int, among: Tensor, lengths: Tensor, batch_size: int) -> Tensor:
    order = shuffled(ids, seed=seed, epoch=epoch).to(among.device)
    index = IdIndex(among, "the data of this sampler", "make it from all the data")
    by_id = lengths[index.order]
    parts = torch.split(order, _SORTED_TOGETHER * batch_size)
    order = torch.cat([part[by_id[index.find(part)].argsort(stable=True)] for part in parts])
    num_whole = len(order) // batch_size
    whole = order[: num_whole * batch_size].view(num_whole, batch_size)
    generator = torch.Generator().manual_seed(key_of("batches", seed, epoch))
    turns = torch.randperm(num_whole, generator=generator).to(order.device)
    return torch.cat((whole[turns].flatten(), order[num_whole * batch_size :])).to(ids.device)
