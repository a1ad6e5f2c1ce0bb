"""Standardised logits: each example's logits of teacher and student at mean 0 and standard deviation 1."""

import math

import torch
from torch import Tensor

from instar.arguments import check_same_shape
from instar.errors import UsageError
from instar.losses import SoftTargets, at_least_float32
from instar.row_pieces import is_known_finite

_EPSILON = 1e-7


def standardised_loss(student_logits: Tensor, targets: SoftTargets) -> Tensor:
    """The cross-entropy with the soft targets after both sides were standardised.

    L = T^2 * mean over examples of H(softmax(s(v) / T), softmax(s(z) / T)),   s(z) = (z - mean z) / sd z

    The student need not match the size of the teacher's logits. These are taken from its probabilities: s is the
    same for v and for log p. A probability of 0, also that of a logit of -inf, is the smallest number above 0.

    Args:
        student_logits: z, (..., classes).
        targets: (..., classes) with their temperature T.

    Returns:
        A scalar in nats; its minimum is T^2 times the entropy of the teacher's standardised distribution.

    Raises:
        UsageError: the shapes differ, or there are two classes, of which standardised logits are always the same.

    Example:
        >>> targets = SoftTargets(torch.tensor([[0.7, 0.2, 0.1]]), 2.0)
        >>> student = targets.probs.log()
        >>> bool(standardised_loss(9 * student, targets) == standardised_loss(student, targets))
        True

    References:
        Sun, Ren, Li, Wang and Cao 2024, Logit Standardization in Knowledge Distillation (arXiv 2403.01427).
    """
    check_same_shape("standardised_loss: targets", targets.shape, student_logits.shape)
    if student_logits.shape[-1] < 3:
        raise UsageError("standardised_loss: expected three classes or more, found 2: use the loss kd")
    T = targets.temperature
    logits = at_least_float32(student_logits)
    probs = targets.probs.detach().to(logits.dtype)
    smallest = torch.finfo(probs.dtype).tiny
    p = torch.softmax(_standardised(probs.clamp(min=smallest).log()) / T, -1)
    loss = T**2 * -(p * torch.log_softmax(_standardised(logits) / T, -1)).sum(-1).mean()
    if is_known_finite(loss):
        return loss
    least = logits.detach().logsumexp(-1, keepdim=True) + math.log(smallest)
    logits = torch.where(logits.isneginf(), least, logits)
    return T**2 * -(p * torch.log_softmax(_standardised(logits) / T, -1)).sum(-1).mean()


def _standardised(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / (centred.std(-1, keepdim=True) + _EPSILON)
