"""Checks of class names, labels and inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL


def checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """The class names as a tuple, after checking that they are at least two different texts."""
    names = tuple(class_names)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"class_names should be a list of texts, found {class_names!r}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"class_names should be at least two different names, found {list(names)}")
    return names


def checked_labels(labels: Tensor, ids: Tensor, class_names: Sequence[str]) -> Tensor:
    """The labels as int64, after checking that each id has a label that is a class or -1."""
    if labels.dim() != 1:
        raise UsageError(f"labels should have shape (examples,), found {tuple(labels.shape)}")
    if ids.dtype != torch.int64 or ids.shape != labels.shape:
        raise UsageError(
            f"ids should be int64, one for each of {len(labels)}, found {ids.dtype} {tuple(ids.shape)}"
        )
    if len(ids) == 0:
        raise DataError("the data set is empty; it needs at least one example")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UsageError(f"labels should be integers, found {labels.dtype}")
    labels = labels.detach().to(torch.int64)
    outside = (labels < NO_LABEL) | (labels >= len(class_names))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"{int(outside.sum())} of {len(labels)} labels are outside the {len(class_names)} classes, the first "
            f"{int(labels[row])} in row {row}; labels go from 0 to {len(class_names) - 1}, -1 is none"
        )
    return labels


def checked_inputs(inputs: Tensor) -> Tensor:
    """The inputs as contiguous uint8 or float32, after checking that all are finite."""
    if inputs.dim() < 2 or not (inputs.dtype == torch.uint8 or inputs.is_floating_point()):
        raise UsageError(
            f"inputs should be uint8 or floating point of shape (examples, ...), "
            f"found {inputs.dtype} {tuple(inputs.shape)}"
        )
    if inputs.numel() == 0:
        raise DataError(f"the data set is empty: inputs of shape {tuple(inputs.shape)}")
    if inputs.dtype == torch.uint8:
        return inputs.detach().contiguous()
    inputs = inputs.detach().float().contiguous()
    broken = ~inputs.isfinite().flatten(1).all(dim=1)
    if bool(broken.any()):
        raise DataError(
            f"{int(broken.sum())} of {len(inputs)} examples hold NaN or infinity, the first in row "
            f"{int(broken.nonzero()[0])}; repair or remove them"
        )
    return inputs
