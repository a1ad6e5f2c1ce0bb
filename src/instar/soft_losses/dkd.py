"""Decoupled knowledge distillation: the true class and the others as two terms with weights of their own."""

import torch
from torch import Tensor

from instar.arguments import check_same_shape
from instar.errors import UsageError
from instar.losses import NO_LABEL, SoftTargets, at_least_float32


def decoupled_loss(
    student_logits: Tensor,
    targets: SoftTargets,
    labels: Tensor,
    *,
    target_weight: float = 1.0,
    other_weight: float = 8.0,
) -> Tensor:
    """The divergences of the true class against all others, and among the others, each with its weight.

    L = T^2 * mean over examples of a KL(b(p), b(q)) + b KL(p', q'),   b(p) = (p_label, 1 - p_label),
    p'_i = p_i / (1 - p_label) over the classes other than the label

    With a = 1 and b = 1 - p_label it is the ordinary KL(p, q), in which a sure teacher says little of the others.

    Args:
        student_logits: (..., classes).
        targets: (..., classes) with their temperature.
        labels: (...), integers; each example needs one.
        target_weight: a, alpha in the paper.
        other_weight: b, beta in the paper, which takes 1 to 10 by the pair of networks.

    Returns:
        A scalar in nats, 0 where the student agrees with the targets.

    Raises:
        UsageError: the shapes differ, or an example has no label.

    Example:
        >>> targets = SoftTargets(torch.tensor([[0.7, 0.2, 0.1]]), 1.0)
        >>> float(decoupled_loss(targets.probs.log(), targets, torch.tensor([0])).abs()) < 1e-6
        True

    References:
        Zhao, Cui, Song, Qiu and Liang 2022, Decoupled Knowledge Distillation (arXiv 2203.08679), section 3.
    """
    check_same_shape("decoupled_loss: targets", targets.shape, student_logits.shape)
    if bool((labels == NO_LABEL).any()):
        raise UsageError(
            f"decoupled_loss: {int((labels == NO_LABEL).sum())} of {labels.numel()} examples have no label, and "
            "the loss is about the true class: use the loss kd, or label the transfer set"
        )
    T = targets.temperature
    logits = at_least_float32(student_logits).flatten(0, -2) / T
    probs = targets.probs.detach().to(logits.dtype).flatten(0, -2)
    places = labels.flatten().long()[:, None]
    others = torch.ones_like(probs, dtype=torch.bool).scatter_(-1, places, False)

    everything = logits.logsumexp(-1)
    # Not -inf: where all others are impossible too, the gradient would be NaN.
    masked = logits.masked_fill(~others, torch.finfo(logits.dtype).min)
    log_others = masked.logsumexp(-1)
    log_target = logits.gather(-1, places)[:, 0] - everything
    p_target = probs.gather(-1, places)[:, 0]
    p_others = (probs * others).sum(-1)
    two = (
        _xlogx(p_target)
        + _xlogx(p_others)
        - _times(p_target, log_target)
        - _times(p_others, log_others - everything)
    )

    within = (probs * others) / p_others.clamp(min=torch.finfo(probs.dtype).tiny)[:, None]
    rest = (_xlogx(within) - _times(within, masked - log_others[:, None])).sum(-1)
    return T**2 * (target_weight * two + other_weight * rest).mean()


def _times(probs: Tensor, log_probs: Tensor) -> Tensor:
    """p log q, which is 0 where p is 0: at the label, and for a class that the student finds impossible."""
    return probs * log_probs.masked_fill(probs == 0, 0.0)


def _xlogx(values: Tensor) -> Tensor:
    return torch.xlogy(values, values)
