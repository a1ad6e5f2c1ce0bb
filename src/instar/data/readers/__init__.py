"""Readers of file formats: each gives tensors, or a DataError that names the file."""

from typing import NamedTuple

from torch import Tensor


class LabelledImages(NamedTuple):
    """What a file of examples holds."""

    images: Tensor
    """(n, channels, height, width) uint8."""
    labels: Tensor
    """(n,) int64."""
    class_names: tuple[str, ...]
