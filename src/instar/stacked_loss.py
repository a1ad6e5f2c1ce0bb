"""The distillation loss of K networks at once: `losses.distillation_loss` of each, and no second one beside it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from instar.errors import UsageError
from instar.losses import DistillationLoss, LogitTargets, SoftTargets, distillation_loss

# With vmap a step of ten mlp:30x2 takes a tenth longer than with the loss written out, with ten calls a third.
_soft = vmap(lambda logits, probs: distillation_loss(logits, SoftTargets(probs, 1.0)).soft)
_matching = vmap(lambda logits, others: distillation_loss(logits, LogitTargets(others)).soft)
_hard = vmap(lambda logits, labels: distillation_loss(logits, None, labels, soft_weight=0.0, hard_weight=1.0).hard)


def stacked_distillation_loss(
    logits: Tensor,
    targets: Sequence[SoftTargets | LogitTargets],
    labels: Tensor,
    *,
    soft_weight: float,
    hard_weight: float,
) -> DistillationLoss:
    """The distillation loss of each of K networks on its own batch, at the temperature of its own targets.

    total_k = soft_weight T_k^2 H(p_k, q_k) + hard_weight H(label_k, q_k)

    Args:
        logits: (K, batch, classes).
        targets: K of them, (batch, classes) each: all soft targets, or all logits to match; none where soft_weight
            is 0.
        labels: (K, batch); -1 means none.
        soft_weight, hard_weight: of all.

    Returns:
        The three terms, (K,) each.

    Raises:
        UsageError: soft targets are mixed with logits to match.

    Example:
        >>> targets = [SoftTargets(torch.tensor([[0.5, 0.5]]), temperature) for temperature in (1.0, 4.0)]
        >>> labels = torch.tensor([[0], [-1]])
        >>> weights = {"soft_weight": 1.0, "hard_weight": 1.0}
        >>> loss = stacked_distillation_loss(torch.zeros(2, 1, 2), targets, labels, **weights)
        >>> loss.soft, loss.hard
        (tensor([ 0.6931, 11.0904]), tensor([0.6931, 0.0000]))

    References:
        Hinton, Vinyals and Dean 2015, section 2.
    """
    none = logits.new_zeros(len(logits))
    soft = _soft_terms(logits, targets) if soft_weight else none
    hard = _hard(logits, labels) if hard_weight else none
    return DistillationLoss(soft_weight * soft + hard_weight * hard, soft, hard)


def _soft_terms(logits: Tensor, targets: Sequence[SoftTargets | LogitTargets]) -> Tensor:
    to_match = [own.logits for own in targets if isinstance(own, LogitTargets)]
    soft = [own for own in targets if isinstance(own, SoftTargets)]
    if to_match and soft:
        raise UsageError("a stack: soft targets beside logits to match (temperature inf): make them two stacks")
    if to_match:
        return _matching(logits, torch.stack(to_match))
    T = torch.tensor([own.temperature for own in soft], dtype=logits.dtype, device=logits.device).view(-1, 1, 1)
    return _soft(
        logits / T, T * T * torch.stack([own.probs for own in soft])
    )  # H is linear in p, so T^2 can go there
