"""Checks of class names, labels and inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.naming import described

ABOUT_1 = 1e-3
"""How far the sum of a distribution may be from 1."""


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


def distributions(what: str, probs: Tensor) -> tuple[Tensor, Tensor | None]:
    """The likeliest classes, -1 for none, and distributions in single precision; None where all are one-hot.

    Args:
        what: the name of the tensor.
        probs: (n, classes), or integers that are one-hot; a row of zeros is no label. Where several classes are
            likeliest, the first is.

    Raises:
        DataError: a row that does not sum to 1, or with a number below 0, or a single column.

    Example:
        >>> distributions("labels", torch.tensor([[0.25, 0.75], [0.0, 0.0]]))
        (tensor([ 1, -1]), tensor([[0.2500, 0.7500],
                [0.0000, 0.0000]]))
    """
    if probs.shape[1] == 1:
        raise DataError(f"{what} have the shape {(*probs.shape,)}, expected {(len(probs),)}: give {what}[:, 0]")
    sums = probs.sum(1)
    wrong = ~((probs >= 0).all(1) & ((sums == 0) | ((sums - 1).abs() <= ABOUT_1)))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        expected = "probabilities that sum to 1, or zeros for no label"
        if not probs.is_floating_point():
            expected = "a single 1, or none for no label (of sequences give a list of labels for each)"
        raise DataError(f"{what}: row {row} is {probs[row].tolist()[:5]}, expected {expected}")
    numbers = torch.where(sums > 0, probs.to(sums.dtype).argmax(1), NO_LABEL)
    is_soft = bool(((probs > 0) & (probs < 1)).any())
    return numbers, probs.detach().float() if is_soft else None


def as_tensor(what: str, values: Any) -> Tensor:
    """A tensor, an array, a number or a list of numbers, as a tensor; what is not copied shares its memory.

    Raises:
        UsageError: it holds no numbers.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError:  # a list of lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        found = f"an array of {array.dtype}" if isinstance(values, np.ndarray) else described(values)
        raise UsageError(f"{what}: expected a tensor, an array or a list of numbers, found {found}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch computes with few of these
        array = array.astype(np.int64)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy()).reshape(np.shape(values))


def checked_tensor(what: str, inputs: Tensor, owners: Tensor | None = None) -> Tensor:
    """The inputs as contiguous uint8, float32, bool, int32 or int64, after checking that all are finite.

    Args:
        what: the name of the tensor.
        inputs: (n, ...).
        owners: (n,), the example of each row; by default each row is one.
    """
    least = 2 if what == "inputs" and owners is None else 1
    if inputs.dim() < least or inputs.is_complex() or inputs.is_quantized:
        raise UsageError(
            f"{what} should be numbers of shape (examples, ...), found {inputs.dtype} {tuple(inputs.shape)}"
        )
    if inputs.numel() == 0:
        raise DataError(f"the data set is empty: {what} of shape {tuple(inputs.shape)}")
    if not inputs.is_floating_point():
        kept = inputs.dtype in (torch.uint8, torch.bool, torch.int32, torch.int64)
        return (inputs if kept else inputs.to(torch.int64)).detach().contiguous()
    inputs = inputs.detach().float().contiguous()
    if bool(inputs.sum().isfinite()):  # then all are, and nothing of their size was made; else their sum overflows
        return inputs
    broken = ~inputs.isfinite().view(len(inputs), -1).all(dim=1)
    if bool(broken.any()):
        rows = broken.nonzero()[:, 0] if owners is None else torch.unique(owners[broken])
        num = len(inputs) if owners is None else int(owners[-1]) + 1
        of = "" if what == "inputs" else f" of {what}"
        raise DataError(
            f"{len(rows)} of {num} examples{of} hold NaN or infinity, the first in row {int(rows[0])}; repair or "
            "remove them"
        )
    return inputs
