"""Views: augmentation as a pure function of (view_seed, example id, view number).

View 0 is the unchanged example, bit for bit. A teacher and a student that use the same view see the same pixels,
whatever batch the example is in, and a resumed run sees the same views as an uninterrupted one.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from instar.arguments import require_text
from instar.data.drawing import Draws, check_images
from instar.data.sound_views import SOUND_KINDS
from instar.data.vocabulary import Vocabulary
from instar.data.word_views import WORD_KINDS, WordViews
from instar.errors import UsageError
from instar.naming import unknown_name

_KNOTS = 5  # on each side of the grid of an elastic deformation


class Views(Protocol):
    """An augmentation, which computes view number v of an example."""

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        ...

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The views of some examples.

        Args:
            inputs: (batch, channels, height, width), of any type, on the raw scale, in which 0 is background.
                Views of your own may take the mapping or the tuple of tensors that an example is.
            ids: (batch,) int64.
            views: view number, one for all or (batch,) int64.
            view_seed: shared by a teacher and all its students.

        Returns: (batch, channels, height, width), of the same type or float32.

        Raises:
            UsageError: the inputs are not images, or are too small.
        """
        ...


@dataclass(frozen=True)
class Jitter:
    """A shift by whole pixels, uniform in [-pixels, pixels] on each axis, filled with background 0.

    Example:
        >>> parse_views("jitter:2")
        Jitter(pixels=2)

    References: Hinton, Vinyals, Dean 2015, section 3 ("jittered by up to two pixels in any direction").
    """

    pixels: int

    def __post_init__(self) -> None:
        _check_pixels("jitter", self.pixels)

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"jitter:{self.pixels}"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The shifted examples; see `Views.apply`."""
        return _shift(inputs, self, Draws(ids, views, view_seed, first=0), mode="constant")


@dataclass(frozen=True)
class ShiftCrop:
    """A random crop after padding by reflection, the usual recipe for CIFAR.

    Example:
        >>> parse_views("crop:4")
        ShiftCrop(pixels=4)
    """

    pixels: int

    def __post_init__(self) -> None:
        _check_pixels("crop", self.pixels)

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"crop:{self.pixels}"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The cropped examples; see `Views.apply`."""
        return _shift(inputs, self, Draws(ids, views, view_seed, first=2), mode="reflect")


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right in half of the views.

    Example:
        >>> parse_views("flip")
        Flip()
    """

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return "flip"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The examples, half of them mirrored; see `Views.apply`."""
        check_images(self.name, inputs)
        chance = Draws(ids, views, view_seed, first=4)
        flipped = chance.changed & (chance.whole(1, below=2)[:, 0] == 1)
        return torch.where(flipped[:, None, None, None], inputs.flip(-1), inputs)


@dataclass(frozen=True)
class Affine:
    """A small affine map about the centre, bilinear, with background 0 outside.

    x_source = R(angle) · diag(scale_x, scale_y) · [[1, shear], [0, 1]] · x + shift

    Each of the six numbers is uniform: the angle in ±degrees, each scale in 1 ± scale, the shear in ±shear, each
    shift in ±shift pixels.

    Example:
        >>> parse_views("affine:12,0.15,0.15,2").name
        'affine:12,0.15,0.15,2'
    """

    degrees: float
    scale: float
    shear: float
    shift: float

    def __post_init__(self) -> None:
        limits = {"degrees": 180.0, "scale": 0.9, "shear": 1.0, "shift": 1000.0}
        for field, limit in limits.items():
            value = getattr(self, field)
            if not 0 <= value <= limit:
                raise UsageError(f"affine: {field} {value} should be from 0 to {limit:g}")
        if not any(getattr(self, field) for field in limits):
            raise UsageError("affine: all four numbers are 0, which changes nothing; leave the view out")

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        numbers = (self.degrees, self.scale, self.shear, self.shift)
        return "affine:" + ",".join(repr(float(number)).removesuffix(".0") for number in numbers)

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The mapped examples, float32; see `Views.apply`."""
        check_images(self.name, inputs)
        images = inputs.float()
        chance = Draws(ids, views, view_seed, first=5)
        grid = self._sources(chance, *images.shape[-2:])
        mapped = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return torch.where(chance.changed[:, None, None, None], mapped, images)

    def _sources(self, chance: "Draws", height: int, width: int) -> Tensor:
        """The source of each pixel: (batch, height, width, 2) in grid_sample's coordinates.

        Computed by elementwise products and sums, not by `affine_grid`, whose batched matrix product may round
        differently in a batch of another size.
        """
        bits = chance.whole(6, below=2**24).unbind(1)
        cosine, sine = _rotations(self.degrees).to(bits[0].device)[bits[0] >> 12].unbind(1)
        scale_x, scale_y, shear, shift_x, shift_y = (b.float() * 2.0**-23 - 1 for b in bits[1:])
        scale_x, scale_y, shear = 1 + self.scale * scale_x, 1 + self.scale * scale_y, self.shear * shear
        a, c = cosine * scale_x, sine * scale_x
        b, d = a * shear - sine * scale_y, c * shear + cosine * scale_y
        y, x = (torch.arange(n, device=a.device) - (n - 1) / 2 for n in (height, width))
        y, x = y[None, :, None], x[None, None, :]
        a, b, c, d, shift_x, shift_y = (
            t[:, None, None] for t in (a, b, c, d, self.shift * shift_x, self.shift * shift_y)
        )
        source_x, source_y = (a * x + b * y) + shift_x, (c * x + d * y) + shift_y
        return torch.stack((source_x * (2 / width), source_y * (2 / height)), dim=-1)


@dataclass(frozen=True)
class Elastic:
    """A smooth random deformation, bilinear, with background 0 outside.

    x_source = x + sum_ij w_i(y) w_j(x) d_ij,  d_ij uniform in ±pixels at the knots of a 5 x 5 grid

    The weights w fall from 1 to 0 like a cosine from one knot to the next, so that they add up to 1 everywhere.

    Example:
        >>> parse_views("elastic:2")
        Elastic(pixels=2.0)

    References: Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks".
    """

    pixels: float

    def __post_init__(self) -> None:
        if not 0 < self.pixels <= 100:
            raise UsageError(f"elastic: {self.pixels} pixels should be above 0 and at most 100")

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"elastic:{self.pixels:g}"

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The deformed examples, float32; see `Views.apply`."""
        check_images(self.name, inputs, larger_than=1)
        images = inputs.float()
        chance = Draws(ids, views, view_seed, first=11)
        knots = chance.whole(2 * _KNOTS**2, below=2**24).view(-1, 2, _KNOTS, _KNOTS).float() * 2.0**-23 - 1
        height, width = images.shape[-2:]
        # Sums of products, not a matrix product, whose rounding depends on the size of the batch.
        rows = _weighted(knots * self.pixels, _knot_weights(height).to(images.device))
        shifts = _weighted(rows.transpose(2, 3), _knot_weights(width).to(images.device)).transpose(2, 3)
        y, x = (torch.arange(n, device=images.device) - (n - 1) / 2 for n in (height, width))
        sources = (
            (x[None, None, :] + shifts[:, 0]) * (2 / width),
            (y[None, :, None] + shifts[:, 1]) * (2 / height),
        )
        grid = torch.stack(sources, dim=-1)
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return torch.where(chance.changed[:, None, None, None], moved, images)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """sum_k weights[n, k] values[..., k, :], (..., n, :)."""
    total = values.new_zeros(())
    for knot in range(_KNOTS):
        total = total + weights[:, knot, None] * values[..., knot, None, :]
    return total


@functools.cache
def _knot_weights(size: int) -> Tensor:
    """(size, knots): the weight of each knot at each pixel; the rows add up to 1."""
    table = []
    for pixel in range(size):
        place = pixel * (_KNOTS - 1) / (size - 1)
        table.append([0.5 + 0.5 * math.cos(math.pi * min(abs(place - knot), 1.0)) for knot in range(_KNOTS)])
    return torch.tensor(table)


@dataclass(frozen=True)
class Chain:
    """Several views, one after another.

    Example:
        >>> parse_views("crop:4+flip")
        Chain(parts=(ShiftCrop(pixels=4), Flip()))
    """

    parts: tuple[Views, ...]

    def __post_init__(self) -> None:
        kinds = [type(part).__name__ for part in self.parts]
        if len(set(kinds)) < len(kinds):
            # Two views of one kind would draw the same random numbers.
            raise UsageError(f"views {self.name!r} have one kind twice; use each kind at most once")

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return "+".join(part.name for part in self.parts)

    def apply(self, inputs: Tensor, ids: Tensor, views: Tensor | int, view_seed: int) -> Tensor:
        """The examples after every part; see `Views.apply`."""
        for part in self.parts:
            inputs = part.apply(inputs, ids, views, view_seed)
        return inputs


def parse_views(text: str) -> Views | None:
    """The views that a text describes: `none`, `jitter:2`, `crop:4`, `flip`, `affine:12,0.15,0.15,2`, `elastic:2`,
    `crop:4+flip`; for sounds `time-shift:10`, `specaugment:10,8`; for texts `drop:0.1`, `mask:0.15`, `swap:0.1`.

    Args:
        text: kinds of views joined by `+`, each with its numbers after a colon.

    Returns: the views, or None for `none`.

    Raises:
        UsageError: an unknown kind, or invalid numbers.

    Example:
        >>> parse_views("none") is None, parse_views("crop:4+flip").name
        (True, 'crop:4+flip')
    """
    require_text("views", text, "crop:4+flip")
    if text == "none":
        return None
    parts = tuple(_parse_part(part) for part in text.split("+"))
    return parts[0] if len(parts) == 1 else Chain(parts)


def bound_to(views: Views, vocabulary: Vocabulary | None) -> Views:
    """The same views, where they are of words for the words of some data."""
    if isinstance(views, Chain):
        return Chain(tuple(bound_to(part, vocabulary) for part in views.parts))
    return views.bound_to(vocabulary) if isinstance(views, WordViews) else views


_KINDS: dict[str, tuple[Callable[..., Views], Callable[[str], float], str]] = {
    "jitter": (Jitter, int, "jitter:PIXELS"),
    "crop": (ShiftCrop, int, "crop:PIXELS"),
    "flip": (Flip, float, "flip"),
    "affine": (Affine, float, "affine:DEGREES,SCALE,SHEAR,SHIFT"),
    "elastic": (Elastic, float, "elastic:PIXELS"),
    **WORD_KINDS,
    **SOUND_KINDS,
}


def _parse_part(text: str) -> Views:
    kind, _, numbers = text.partition(":")
    if kind not in _KINDS:
        raise unknown_name("view", kind, _KINDS)
    make, number, form = _KINDS[kind]
    try:
        return make(*(number(n) for n in numbers.split(",") if numbers))
    except UsageError:
        raise
    except (TypeError, ValueError):
        raise UsageError(f"view {text!r} should be {form}") from None


def _shift(inputs: Tensor, views: Jitter | ShiftCrop, chance: Draws, *, mode: str) -> Tensor:
    """A window of each padded example.

    A row of a window is contiguous in the padded examples, so whole rows are copied and not single pixels: three
    to six times as fast as indexing into all windows.
    """
    check_images(views.name, inputs, larger_than=views.pixels)
    if len(inputs) == 0:  # the share of a process may be empty
        return inputs
    p, (batch, channels, height, width) = views.pixels, inputs.shape
    corners = torch.where(chance.changed[:, None], chance.whole(2, below=2 * p + 1), p)
    padded = F.pad(inputs, (p, p, p, p), mode=mode).contiguous()
    padded_width, plane = width + 2 * p, (height + 2 * p) * (width + 2 * p)
    runs = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    planes = torch.arange(batch * channels, device=inputs.device).view(batch, channels) * plane
    first = planes + (corners[:, 0] * padded_width + corners[:, 1])[:, None]
    starts = first[:, :, None] + torch.arange(height, device=inputs.device) * padded_width
    return runs.index_select(0, starts.flatten()).view(inputs.shape)


@functools.cache
def _rotations(degrees: float) -> Tensor:
    """(4096, 2): cosine and sine of evenly spaced angles in ±degrees.

    A table, since the last bit of a processor's sine may depend on the position in the batch.
    """
    angles = [math.radians(degrees * ((step + 0.5) / 2048 - 1)) for step in range(4096)]
    rotations = [(math.cos(angle), math.sin(angle)) for angle in angles]
    return torch.tensor(rotations, dtype=torch.float32)


def _check_pixels(name: str, pixels: int) -> None:
    if isinstance(pixels, bool) or not isinstance(pixels, int) or not 1 <= pixels <= 1000:
        raise UsageError(f"{name}: {pixels!r} pixels should be an integer from 1 to 1000")
