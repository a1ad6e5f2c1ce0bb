"""A counter-based hash: random bits as a pure function of (key, id, counter), the same on every device.

It uses integer arithmetic only (SplitMix64, modulo 2^64), so that the bits depend neither on the device, nor on
the batch that an id is in, nor on the number of threads.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    return (value + 2**63) % 2**64 - 2**63


_STEP = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: SplitMix64's increment
_MULTIPLIERS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)
DRAW_BITS = 31  # so that a draw times a count below 2^32 stays within int64


def key_of(purpose: str, *numbers: int) -> int:
    """An int64 from a purpose and integers of any size: equal seeds give independent keys for different purposes.

    Example:
        >>> key_of("split", 0) == key_of("split", 0), key_of("split", 0) == key_of("views", 0)
        (True, False)
    """
    text = ":".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def keyed_hash(key: int | Tensor, ids: Tensor, counters: Tensor | int = 0) -> Tensor:
    """64 well mixed bits for each id; for a fixed key and counter, a bijection of the ids.

    Args:
        key: from `key_of`; or (batch,) int64, one for each id.
        ids: (batch,) int64.
        counters: one for all ids, or (batch,) int64.

    Returns: (batch,) int64.
    """
    if isinstance(counters, int) and isinstance(key, int):
        return _mix(ids + _signed(key + counters * _STEP))
    return _mix(ids + key + counters * _STEP)


def draws(key: int, ids: Tensor, counters: Tensor | int, indices: Sequence[int]) -> Tensor:
    """Independent uniform integers in [0, 2^31), one for each id and each index.

    Args:
        key: from `key_of`.
        ids: (batch,) int64.
        counters: one for all ids, or (batch,) int64.
        indices: numbers of the draws.

    Returns: (batch, len(indices)) int64.
    """
    steps = torch.tensor([_signed(index * _STEP) for index in indices], device=ids.device)
    return _shift_right(_mix(keyed_hash(key, ids, counters)[:, None] + steps), 64 - DRAW_BITS)


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    bits = (bits ^ _shift_right(bits, 30)) * _MULTIPLIERS[0]
    bits = (bits ^ _shift_right(bits, 27)) * _MULTIPLIERS[1]
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """A logical shift: torch's `>>` copies the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
