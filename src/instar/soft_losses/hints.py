"""Hints: how far the features of a student's layer are from those of its teacher's."""

import torch
from torch import Tensor

from instar.arguments import check_same_shape
from instar.losses import at_least_float32


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of features, over the mean square of the teacher's.

    L = mean (s - t)^2 / mean t^2

    Args:
        student: s, features of the same shape as the teacher's: after the projector, and averaged to one size.
        teacher: t; gets no gradient.

    Returns:
        A scalar without unit: 0 where they agree, 1 where the student's are all 0.

    Raises:
        UsageError: the shapes differ.

    Example:
        >>> float(feature_loss(torch.zeros(2, 3), torch.ones(2, 3)))
        1.0

    References:
        Romero et al. 2015, FitNets (arXiv 1412.6550), equation 3; divided by mean t^2, so that it has no unit.
    """
    check_same_shape("feature_loss: teacher", teacher.shape, student.shape)
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    scale = teacher.square().mean().clamp(min=torch.finfo(teacher.dtype).tiny)
    return (student - teacher).square().mean() / scale
