"""Attention transfer: whether student and teacher look at the same places of a picture."""

from torch import Tensor
from torch.nn import functional

from instar.errors import UsageError
from instar.losses import at_least_float32


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of attention maps of norm 1.

    L = mean over examples of |a(s) / |a(s)| - a(t) / |a(t)||^2,   a the squares summed over the channels

    Args:
        student: s, (examples, channels, height, width).
        teacher: t, (examples, other channels, height, width); gets no gradient.

    Returns:
        A scalar without unit, from 0 to 2.

    Raises:
        UsageError: there is no height and width, or they differ.

    Example:
        >>> import torch
        >>> maps = torch.rand(2, 3, 4, 4)
        >>> round(float(attention_loss(2 * maps, maps.repeat(1, 2, 1, 1))), 6)
        0.0

    References:
        Zagoruyko and Komodakis 2017 (arXiv 1612.03928), equation 2 with p = 2; the square of the distance.
    """
    shapes = [(*one.shape[:1], *one.shape[2:]) for one in (student, teacher)]
    if student.dim() != 4 or shapes[0] != shapes[1]:
        raise UsageError(
            "attention_loss: expected maps (examples, channels, height, width) of one height and width, found "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    student, teacher = (
        functional.normalize(at_least_float32(one).square().sum(1).flatten(1), dim=1)
        for one in (student, teacher.detach())
    )
    return (student - teacher).square().sum(1).mean()
