"""DIST: correlations of the probabilities, within an example and within a class, in place of exact agreement."""

import torch
from torch import Tensor

from instar.arguments import check_same_shape
from instar.losses import SoftTargets, at_least_float32


def correlation_loss(
    student_logits: Tensor, targets: SoftTargets, *, within_examples: float = 1.0, within_classes: float = 1.0
) -> Tensor:
    """One less the correlation of student and teacher over the classes, and over the examples of the batch.

    L = T^2 (b (1 - mean over examples of r(p_e, q_e)) + c (1 - mean over classes of r(p^k, q^k))),
    r Pearson's correlation; p_e is a row of the probabilities at T and p^k a column

    A linear change of the teacher's probabilities changes nothing: a student that cannot reach them may still keep
    their order.

    Args:
        student_logits: (..., classes).
        targets: (..., classes) with their temperature.
        within_examples: b, beta in the paper.
        within_classes: c, gamma in the paper; left out where there is one example.

    Returns:
        A scalar without unit, from 0 to 2 T^2 (b + c). It depends on which examples share a batch.

    Raises:
        UsageError: the shapes differ.

    Example:
        >>> targets = SoftTargets(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]), 1.0)
        >>> round(float(correlation_loss(targets.probs.log(), targets)), 6)
        0.0

    References:
        Huang, You, Wang, Qian and Xu 2022, Knowledge Distillation from A Stronger Teacher (arXiv 2205.10536).
    """
    check_same_shape("correlation_loss: targets", targets.shape, student_logits.shape)
    T = targets.temperature
    q = torch.softmax(at_least_float32(student_logits).flatten(0, -2) / T, -1)
    p = targets.probs.detach().to(q.dtype).flatten(0, -2)
    loss = within_examples * (1 - _correlation(p, q).mean())
    if len(q) > 1:
        loss = loss + within_classes * (1 - _correlation(p.T, q.T).mean())
    return T**2 * loss


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    """Of each row; 0 where one of the two is constant."""
    p, q = p - p.mean(-1, keepdim=True), q - q.mean(-1, keepdim=True)
    return torch.nn.functional.cosine_similarity(p, q, dim=-1, eps=1e-8)
