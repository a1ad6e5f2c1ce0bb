"""Readers of file formats: each returns tensors, or raises a DataError that names the file."""

from typing import NamedTuple

from torch import Tensor


class LabelledImages(NamedTuple):
    """The examples of a file."""

    images: Tensor
    """(n, channels, height, width) uint8."""
    labels: Tensor
    """(n,) int64."""
    class_names: tuple[str, ...]
