"""Sequences in a fit and an evaluation: each position that exists is a row, as an example is one elsewhere."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from instar.data.columns import MASK_NAME
from instar.errors import UsageError
from instar.networks import check_shape
from instar.structures import Inputs, tensors_in


def is_sequence(labels: Tensor) -> bool:
    """Whether labels are those of positions, (batch, length)."""
    return labels.dim() == 2


def positions(inputs: Inputs, labels: Tensor) -> Tensor | None:
    """(batch, length) bool, the positions that are no padding; None where an example has one label.

    Example:
        >>> positions({"attention_mask": torch.tensor([[1, 1, 0]])}, torch.tensor([[4, -1, -1]]))
        tensor([[ True,  True, False]])
    """
    return there(inputs) if is_sequence(labels) else None


def there(inputs: Inputs) -> Tensor:
    """(batch, length) bool, where sequences are no padding: by their mask, or all of them."""
    mask: Tensor | None = inputs.get(MASK_NAME) if isinstance(inputs, Mapping) else None
    return torch.ones(tensors_in(inputs)[0].shape[:2], dtype=torch.bool) if mask is None else mask.bool()


def at(values: Any, where: Tensor | None) -> Any:
    """The rows of some positions: (batch, length, ...) as (rows, ...); all where there are no positions."""
    return values if where is None or values is None else values[where]


def rows_of_logits(logits: Tensor, where: Tensor | None, num_examples: int, num_classes: int | None) -> Tensor:
    """(rows, classes) of what a network gives: a row for each example, or for each position.

    Raises:
        UsageError: it has another shape.
    """
    if where is None:
        return check_shape(logits, num_examples, num_classes)
    fits = logits.dim() == 3 and logits.shape[:2] == where.shape and num_classes in (None, logits.shape[-1])
    if not fits:
        expected = (*where.shape, "classes" if num_classes is None else num_classes)
        raise UsageError(
            f"the network gives {tuple(logits.shape)} for sequences of {where.shape[1]} tokens, expected logits "
            f"at each, {expected}"
        )
    return logits[where]
