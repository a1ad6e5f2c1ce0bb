"""What a library offers under a name: a way to build the network, its weights, and what it says of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

PRETRAINED = "pretrained"
"""After the @ of a name: the weights that the library itself offers."""


@dataclass(frozen=True)
class Needs:
    """What a network needs of its pictures; None where it does not say."""

    size: tuple[int, int] | None = None
    """height and width in pixels"""
    mean: Sequence[float] | None = None
    """of each channel, for pixels from 0 to 1"""
    std: Sequence[float] | None = None
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Offer:
    """A network of a library."""

    build: Callable[[int], nn.Module]
    """from the number of classes, freshly initialised from the global random state"""
    needs: Needs
    weights: Callable[[], Mapping[str, Tensor]] | None = None
    """its own, with its own head; None where it has none"""
    class_names: tuple[str, ...] = ()
    """of its own head; empty where they are not known"""
    is_of_sounds: bool = False
    """whether it takes what a feature extractor makes of sounds"""
    where: str = ""
    """where its own weights are from, in words, for errors"""


@dataclass(frozen=True)
class Wanted:
    """What a network is to be built for."""

    channels: int
    """of pictures; 0 for texts and features"""
    pixels: int | None = None
    """the size of the pictures, where the name says one"""
    pretrained: bool = False
    """whether the network has, or is to get, weights that were trained on its size of pictures"""
    described: Mapping[str, str] | None = None
    """the files that describe a network of a folder, by name, where they are kept elsewhere"""
    num_ids: int | None = None
    """of texts: how many ids there are"""
    features: bool = False
    """whether the examples are what a feature extractor makes of sounds"""
    is_next: bool = False
    """whether it is to predict the next id at each, not a class"""
    is_tagged: bool = False
    """whether it is to give a class at each id"""
    length: int | None = None
    """of the sequences that it is to take, where they have one"""


def fitted(numbers: Sequence[float], channels: int) -> list[float]:
    """Numbers of each channel; for another number of channels, their mean.

    Example:
        >>> fitted([0.25, 0.5, 0.75], 1)
        [0.5]
    """
    return list(numbers) if len(numbers) == channels else [sum(numbers) / len(numbers)] * channels
