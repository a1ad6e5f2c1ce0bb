"""What kinds of views share: their random numbers, and the check of what they are applied to."""

import torch
from torch import Tensor

from instar.data.hashing import DRAW_BITS, draws, key_of
from instar.errors import UsageError
from instar.structures import Inputs


class Draws:
    """The random numbers of one kind of view; each kind uses its own indices of draws."""

    def __init__(self, ids: Tensor, views: Tensor | int, view_seed: int, *, first: int) -> None:
        self._ids, self._views, self._first = ids, views, first
        self._key = key_of("views", view_seed)

    @property
    def changed(self) -> Tensor:
        """(batch,) bool: False for view 0."""
        views = torch.as_tensor(self._views, device=self._ids.device)
        return (views != 0).expand(self._ids.shape)

    def whole(self, num_draws: int, *, below: int) -> Tensor:
        """(batch, num_draws) integers, uniform in [0, below)."""
        indices = range(self._first, self._first + num_draws)
        return (draws(self._key, self._ids, self._views, indices) * below) >> DRAW_BITS


def check_images(name: str, inputs: Inputs, *, larger_than: int = 0) -> None:
    """Refuse what is no batch of images of more than so many pixels.

    Raises:
        UsageError: names the views.
    """
    if not isinstance(inputs, Tensor):
        raise UsageError(f"views {name!r} need images (channels, height, width), found several tensors an example")
    shape = tuple(inputs.shape[1:])
    if len(shape) != 3:
        raise UsageError(f"views {name!r} need images (channels, height, width), found examples of shape {shape}")
    if min(shape[1:]) <= larger_than:
        raise UsageError(
            f"views {name!r} need images of more than {larger_than} pixels, found {shape[1]}x{shape[2]}"
        )
