"""What a network needs of its input: the size of pictures, and their normalisation.

A network states it in three attributes: `input_size` (pixels, or height and width), `input_interpolation` (how
they are resized: `bilinear` by default, `bicubic`, `nearest`) and `input_normalisation` (mean, std: each one
number or one for each channel, for pixels from 0 to 1). Teacher and student may state different things and still
see the same view of an example.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from instar.errors import UsageError
from instar.networks.logits import input_type
from instar.networks.modes import evaluation_mode, is_compiled, uncompiled, without_compiler
from instar.structures import Form, is_plain

_INTERPOLATIONS = {"lanczos": "bicubic", "hamming": "bilinear", "box": "area", "nearest": "nearest-exact"}
"""What comes nearest in torch to Pillow's filters that it lacks."""

Numbers = float | Sequence[float]
Normalisation = Mapping[str, Sequence[float]]
"""`mean` and `std` of each channel that were applied to inputs; empty for none."""


def serve_own_needs_(network: nn.Module, given: Normalisation | None = None) -> None:
    """Give a network its inputs as its attributes `input_size`, `input_normalisation`, ... state.

    Args:
        network: changed in place by hooks: its layers and its state are the same.
        given: the normalisation that the inputs have already, which is undone.

    Raises:
        UsageError: an attribute that is not a size, an interpolation, or a pair of mean and standard deviation
            above 0.

    Example:
        >>> network = nn.Sequential(nn.Flatten())
        >>> network.input_normalisation = 0.5, 0.25
        >>> serve_own_needs_(network)
        >>> network(torch.ones(1, 1, 1, 1)).item()
        2.0
    """
    network = uncompiled(network)
    size = getattr(network, "input_size", None)
    if size is not None:
        sides = (size, size) if isinstance(size, int) else size
        if not isinstance(sides, tuple) or len(sides) != 2 or not all(_is_count(side) for side in sides):
            raise UsageError(f"input_size of {type(network).__name__} is {size!r}, expected a number of pixels")
        network.register_forward_pre_hook(functools.partial(_resize, sides, _interpolation(network)))
    stated = getattr(network, "input_normalisation", None)
    if stated is not None:
        try:
            mean, std = (torch.as_tensor(numbers, dtype=torch.float32).flatten() for numbers in stated)
            is_possible = bool(mean.isfinite().all()) and bool((std > 0).all())
        except (TypeError, ValueError):
            is_possible = False
        if not is_possible:
            raise UsageError(
                f"input_normalisation of {type(network).__name__} is {stated!r}, expected (mean, std), each a "
                "number or one for each channel, std above 0"
            )
        change_normalisation_(network, given or {}, {"mean": mean.tolist(), "std": std.tolist()})


def change_normalisation_(network: nn.Module, given: Normalisation, wanted: Normalisation) -> None:
    """Let a network see inputs with one normalisation as if they had another, in place.

    From x' = (x - m) / s it sees (x - mean) / std = (x' - (mean - m) / s) / (std / s).

    Args:
        network: changed by a hook.
        given: of the inputs that it is called on.
        wanted: of the inputs that it needs.
    """
    m, s = _tensor(given, "mean", 0.0), _tensor(given, "std", 1.0)
    mean, std = _tensor(wanted, "mean", 0.0), _tensor(wanted, "std", 1.0)
    shift, scale = (mean - m) / s, std / s
    if bool((shift != 0).any()) or bool((scale != 1).any()):
        hook = functools.partial(_normalise, shift, scale)
        uncompiled(network).register_forward_pre_hook(hook, prepend=True)


def check_channels(network: nn.Module, input_shape: Form, name: str) -> None:
    """Refuse grey pictures for a network of colour pictures, and the reverse.

    Raises:
        UsageError: the network fails on them, and its first convolution takes the other number of channels.
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if (
        first is None
        or not is_plain(input_shape)
        or len(input_shape) != 3
        or {first.in_channels, input_shape[0]} != {1, 3}
    ):
        return
    try:
        with evaluation_mode(network), without_compiler(is_compiled(network)), torch.no_grad():
            network(torch.zeros(2, *input_shape, dtype=input_type(network)))
    except RuntimeError as error:
        kinds = {1: "grey", 3: "colour"}
        raise UsageError(
            f"{name} takes {kinds[first.in_channels]} pictures, those of the data are {kinds[input_shape[0]]}: "
            f"read them with --colour {'grey' if first.in_channels == 1 else 'rgb'} (data.colour)"
        ) from error


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _interpolation(network: nn.Module) -> str:
    """The way in which a network wants its pictures resized, by torch's name."""
    found = getattr(network, "input_interpolation", "bilinear")
    mode = _INTERPOLATIONS.get(found, found)
    if mode not in ("bilinear", "bicubic", *_INTERPOLATIONS.values()):
        raise UsageError(
            f"input_interpolation of {type(network).__name__} is {found!r}, expected bilinear, bicubic or nearest"
        )
    return str(mode)


def _tensor(normalisation: Normalisation, key: str, default: float) -> Tensor:
    return torch.as_tensor(normalisation.get(key, [default]), dtype=torch.float32)


def _resize(size: tuple[int, int], mode: str, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs, *others = args
    if inputs.shape[-2:] != size:
        inputs = interpolate(inputs, size=size, mode=mode, antialias=mode in ("bilinear", "bicubic"))
    return inputs, *others


def _normalise(shift: Tensor, scale: Tensor, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs, *others = args
    channels = (-1, *(1,) * (inputs.dim() - 2))  # pictures have two dimensions more than features
    return (inputs - shift.to(inputs).view(channels)) / scale.to(inputs).view(channels), *others
