"""The order of examples: pure functions of (seed, epoch)."""

import torch
from torch import Tensor

from instar.data.hashing import key_of
from instar.errors import UsageError


def shuffled(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
    """The ids in the random order of an epoch.

    The order depends on the set of ids, the seed and the epoch: not on the order that the ids come in, nor on
    any global state.

    Args:
        ids: (n,) int64.
        seed: of the run.
        epoch: number of the pass over the data.

    Returns: (n,) int64, on the device of `ids`.

    Example:
        >>> ids = torch.tensor([5, 3, 8, 1])
        >>> torch.equal(shuffled(ids, seed=0, epoch=1), shuffled(ids.flip(0), seed=0, epoch=1))
        True
    """
    generator = torch.Generator().manual_seed(key_of("order", seed, epoch))
    return ids.sort().values[torch.randperm(len(ids), generator=generator).to(ids.device)]


def id_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Ids cut into batches; the last one holds what is left.

    Args:
        order: (n,) int64.
        batch_size: at least 1.

    Raises:
        UsageError: a batch size below 1.

    Example:
        >>> [len(ids) for ids in id_batches(torch.arange(10), 4)]
        [4, 4, 2]
    """
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size} should be at least 1")
    return list(torch.split(order, batch_size))
