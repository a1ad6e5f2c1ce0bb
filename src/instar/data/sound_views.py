"""Views of sounds, as pictures of their filterbanks (1, filters, frames) in which 0 is the mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from instar.data.drawing import Draws, check_images
from instar.errors import UsageError


@dataclass(frozen=True)
class TimeShift:
    """A shift in time by whole frames, uniform in [-frames, frames], with 0 where nothing is left.

    Example:
        >>> from instar.data import parse_views
        >>> parse_views("time-shift:10")
        TimeShift(frames=10)
    """

    frames: int

    def __post_init__(self) -> None:
        _check("time-shift", self.frames, least=1)

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"time-shift:{self.frames}"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The shifted examples; see `Views.apply`."""
        check_images(self.name, inputs)
        chance = Draws(ids, views, view_seed, first=70)
        shifts = torch.where(chance.changed, chance.whole(1, below=2 * self.frames + 1)[:, 0] - self.frames, 0)
        length = inputs.shape[-1]
        sources = torch.arange(length, device=inputs.device) + shifts[:, None]
        is_there = ((sources >= 0) & (sources < length))[:, None, None, :]
        found = inputs.gather(3, sources.clamp(0, length - 1)[:, None, None, :].expand(inputs.shape))
        return torch.where(is_there, found, inputs.new_zeros(()))


@dataclass(frozen=True)
class SpecAugment:
    """A stretch of frames and a band of filters set to 0, each of a width uniform in [0, frames] and [0, filters].

    Example:
        >>> from instar.data import parse_views
        >>> parse_views("specaugment:10,8")
        SpecAugment(frames=10, filters=8)

    References: Park, Chan, Zhang et al. 2019, "SpecAugment", one mask of each kind, without time warping.
    """

    frames: int
    filters: int

    def __post_init__(self) -> None:
        _check("specaugment", self.frames)
        _check("specaugment", self.filters, least=0 if self.frames else 1)

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"specaugment:{self.frames},{self.filters}"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The masked examples; see `Views.apply`."""
        check_images(self.name, inputs, larger_than=max(self.frames, self.filters))
        hidden = self._mask(inputs, Draws(ids, views, view_seed, first=71), self.filters, 2)
        hidden = hidden | self._mask(inputs, Draws(ids, views, view_seed, first=73), self.frames, 3)
        return inputs.masked_fill(hidden, 0)

    def _mask(self, inputs: Tensor, chance: Draws, widest: int, axis: int) -> Tensor:
        """Which places of an axis are hidden, so that it spreads over the others."""
        size = inputs.shape[axis]
        bits = chance.whole(2, below=2**20)
        width = torch.where(chance.changed, bits[:, 0] * (widest + 1) >> 20, 0)
        start = bits[:, 1] * (size - width + 1) >> 20
        places = torch.arange(size, device=inputs.device)
        hidden = (places >= start[:, None]) & (places < (start + width)[:, None])
        return hidden[:, None, :, None] if axis == 2 else hidden[:, None, None, :]


SOUND_KINDS: dict[str, tuple[Callable[..., Any], Callable[[str], float], str]] = {
    "time-shift": (TimeShift, int, "time-shift:FRAMES"),
    "specaugment": (SpecAugment, int, "specaugment:FRAMES,FILTERS"),
}
"""For `parse_views`: how they are made, the type of their numbers, their form."""


def _check(name: str, number: int, *, least: int = 0) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= 10_000:
        raise UsageError(f"{name}: {number!r} should be a whole number from {least} to 10000")
