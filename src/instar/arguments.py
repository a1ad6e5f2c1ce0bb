"""Refuses arguments of another kind: an array for a tensor, a path for a name, values of another shape."""

import math

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.naming import described

_ABOUT_1 = 1e-2  # how far the sum of a distribution in half precision may be from 1


def require_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor.

    Raises:
        UsageError: says how to make one.
    """
    if not isinstance(value, Tensor):
        raise UsageError(f"{name}: expected a tensor, found {type(value).__name__}; torch.as_tensor makes one")


def require_network(name: str, value: object) -> None:
    """Refuse what is no network.

    Raises:
        UsageError: says where the network is, if that can be told.
    """
    if isinstance(value, nn.Module):
        return
    cures = [
        (isinstance(value, type), "make one, with its sizes in parentheses"),
        (isinstance(getattr(value, "network", None), nn.Module), "take its .network"),
        (isinstance(value, str), "instar.build_network builds one of its name"),
    ]
    cure = next((f"; {words}" for fits, words in cures if fits), "")
    raise UsageError(f"{name}: expected a torch.nn.Module, found {described(value)}{cure}")


def require_text(name: str, value: object, example: str) -> None:
    """Refuse what is no text.

    Raises:
        UsageError: with an example of the text.
    """
    if not isinstance(value, str):
        raise UsageError(f"{name}: expected a text like {example!r}, found {described(value)}")


def check_weights(caller: str, soft_weight: float, hard_weight: float) -> None:
    """Refuse weights that are no finite numbers of 0 or more, or both 0."""
    for name, weight in (("soft_weight", soft_weight), ("hard_weight", hard_weight)):
        if not 0 <= weight < math.inf:
            raise UsageError(f"{caller}: {name} must be a finite number, 0 or more, not {weight!r}")
    if not soft_weight and not hard_weight:
        raise UsageError(f"{caller}: soft_weight and hard_weight are both 0; one must be above 0")


def check_temperature(caller: str, temperature: float) -> None:
    """Refuse what is no finite number above 0."""
    if not 0 < temperature < math.inf:
        raise UsageError(f"{caller}: temperature must be a finite number above 0, not {temperature!r}")


def check_classes_last(name: str, values: Tensor) -> None:
    """Refuse what is no floating-point tensor (..., classes)."""
    require_tensor(name, values)
    if values.dim() == 0 or values.shape[-1] == 0 or not values.is_floating_point():
        raise UsageError(
            f"{name}: expected floating-point values of shape (..., classes), "
            f"found {values.dtype} of shape {_shape(values)}"
        )


def check_members(caller: str, member_logits: Tensor, mean: str) -> None:
    """Refuse what is no floating-point tensor (members, ..., classes), or an unknown mean."""
    check_classes_last(f"{caller}: member_logits", member_logits)
    if member_logits.dim() < 2 or member_logits.shape[0] == 0:
        raise UsageError(
            f"{caller}: expected member_logits of shape (members, ..., classes), one member or more, "
            f"found {_shape(member_logits)}; stack the members' logits along a new first dimension"
        )
    if mean not in ("arithmetic", "geometric"):
        raise UsageError(f"{caller}: mean is 'arithmetic' or 'geometric', not {mean!r}")


def check_same_shape(name: str, found: torch.Size, expected: torch.Size) -> None:
    """Refuse another shape than the student's."""
    if found != expected:
        raise UsageError(
            f"{name}: expected the student's shape {tuple(expected)}, found {tuple(found)}; "
            "teacher and student must see the same examples and classes"
        )


def check_labels(caller: str, leading: torch.Size, labels: Tensor) -> None:
    """Refuse labels of another shape than the examples, or of another type."""
    require_tensor(f"{caller}: labels", labels)
    if labels.shape != leading or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UsageError(
            f"{caller}: expected integer labels of shape {tuple(leading)} (-1 means none), "
            f"found {labels.dtype} of shape {_shape(labels)}"
        )


def are_distributions(labels: object) -> bool:
    """Whether labels are a distribution over the classes for each example."""
    return isinstance(labels, Tensor) and labels.is_floating_point()


def check_distributions(caller: str, shape: torch.Size, labels: Tensor) -> None:
    """Refuse distributions over other examples or classes, and logits."""
    if labels.shape != shape:
        raise UsageError(
            f"{caller}: expected integer labels of shape {tuple(shape[:-1])} (-1 means none), or probabilities of "
            f"shape {tuple(shape)}, found {labels.dtype} of shape {_shape(labels)}"
        )
    sums = labels.detach().sum(-1)
    if not bool((((sums - 1).abs() < _ABOUT_1) | (sums == 0)).all() and (labels >= 0).all()):
        raise UsageError(
            f"{caller}: expected probabilities that sum to 1, or to 0 for none; found others: logits?"
        )


def check_mask(caller: str, leading: torch.Size, where: Tensor | None) -> None:
    """Refuse a mask of another shape than the examples, or of another type."""
    if where is not None and (where.shape != leading or where.dtype != torch.bool):
        raise UsageError(
            f"{caller}: expected a bool mask `where` of shape {tuple(leading)}, "
            f"found {where.dtype} of shape {_shape(where)}"
        )


def _shape(values: Tensor) -> str:
    return str(tuple(values.shape))


def check_head(caller: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse hidden states and a linear head that do not fit together."""
    fits = hidden.dim() > 0 and weight.dim() == 2 and hidden.shape[-1] == weight.shape[1]
    if not fits or not len(weight) or not hidden.is_floating_point() or not weight.is_floating_point():
        raise UsageError(
            f"{caller}: expected floating-point hidden (..., width) and weight (classes, width), "
            f"found {hidden.dtype} {tuple(hidden.shape)} and {weight.dtype} {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UsageError(
            f"{caller}: expected a bias of shape {tuple(weight.shape[:1])}, found {tuple(bias.shape)}"
        )
