"""Pictures as tensors: converted to colour or grey, and resized."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from instar.errors import UsageError

_AT_ONCE = 500  # pictures, for memory
_LUMA = (19595, 38470, 7471)  # of 65,536: red, green and blue in a grey value, as Pillow has them (ITU-R 601-2)


@dataclass(frozen=True)
class PictureForm:
    """The form that the pictures of a named data set are brought into; None leaves what is there."""

    image_size: int | None = None
    """height and width"""
    colour: str | None = None
    """`rgb` or `grey`"""
    memory_budget_bytes: int | None = None
    """more is refused"""

    def of(self, pictures: Tensor, *, white: int = 255) -> Tensor:
        """Pictures (n, channels, height, width) uint8, whose largest value is `white`, in this form.

        Raises:
            UsageError: they would take more memory than the budget.
        """
        if self.colour is not None:
            pictures = in_colour(pictures, self.colour)
        if self.image_size is None or pictures.shape[2:] == (self.image_size, self.image_size):
            return pictures
        num_bytes = len(pictures) * pictures.shape[1] * self.image_size**2
        if self.memory_budget_bytes is not None and num_bytes > self.memory_budget_bytes:
            raise UsageError(
                f"{len(pictures):,} pictures of {self.image_size} x {self.image_size} pixels take "
                f"{num_bytes / 2**30:.1f} GiB, the memory budget is {self.memory_budget_bytes / 2**30:.1f} GiB; "
                "choose a smaller image size, or save them as a folder, which is read from disk during training"
            )
        return resized(pictures, self.image_size, white=white)


AS_PUBLISHED = PictureForm()


def in_colour(pictures: Tensor, colour: str) -> Tensor:
    """Pictures (n, 1 or 3, height, width) uint8 with one channel (`grey`) or three equal ones (`rgb`).

    Example:
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> in_colour(red, "grey").tolist(), in_colour(in_colour(red, "grey"), "rgb").shape
        ([[[[76]]]], torch.Size([1, 3, 1, 1]))
    """
    if colour == "rgb":
        return pictures.expand(-1, 3, -1, -1).contiguous()
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = (share * channel.int() for share, channel in zip(_LUMA, pictures.unbind(1), strict=True))
    return ((red + green + blue + 0x8000) >> 16).to(torch.uint8)[:, None]


def resized(pictures: Tensor, size: int, *, white: int = 255) -> Tensor:
    """Pictures (n, channels, height, width) uint8 as squares of `size` pixels, by bicubic interpolation.

    Example:
        >>> resized(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 12).shape
        torch.Size([2, 3, 12, 12])
    """

    def part_of(part: Tensor) -> Tensor:
        values = interpolate(part.float(), size=(size, size), mode="bicubic", antialias=True)
        return values.round().clamp(0, white).to(torch.uint8)

    return torch.cat([part_of(part) for part in torch.split(pictures, _AT_ONCE)])
