"""Soft terms other than the paper's cross-entropy, by name: each compares logits with soft targets."""

from collections.abc import Callable

from torch import Tensor

from instar.errors import UsageError
from instar.losses import DistillationLoss, LogitTargets, SoftTargets, cross_entropy
from instar.naming import unknown_name
from instar.soft_losses.dist import correlation_loss
from instar.soft_losses.dkd import decoupled_loss
from instar.soft_losses.standardised import standardised_loss

SoftLoss = Callable[[Tensor, SoftTargets, Tensor], Tensor]
"""From a student's logits (examples, classes), soft targets and labels (-1: none) to a mean over the examples."""

KD = "kd"
"""The cross-entropy with the soft targets: `instar.distillation_loss`."""

_LOSSES: dict[str, SoftLoss] = {
    "dkd": decoupled_loss,
    "dist": lambda logits, targets, labels: correlation_loss(logits, targets),
    "standardised": lambda logits, targets, labels: standardised_loss(logits, targets),
}
SOFT_LOSSES = (KD, *_LOSSES)
"""The names."""


def named_soft_loss(name: str) -> SoftLoss | None:
    """A soft term by name; None for `kd`, which is a part of `distillation_loss`.

    Raises:
        UsageError: there is no such loss; the error suggests the nearest name.
    """
    if name == KD:
        return None
    if name not in _LOSSES:
        raise unknown_name("soft loss", name, SOFT_LOSSES)
    return _LOSSES[name]


def check_soft_loss(name: str, *, has_targets: bool, num_unlabelled: int, num_processes: int) -> None:
    """Refuse a fit that the soft loss cannot be used in, before its first step.

    Raises:
        UsageError: no soft targets, examples without a label where the loss is about the true class, or a batch
            that several processes share.
    """
    if name == KD:
        return
    if not has_targets:
        raise UsageError(f"soft_loss is {name!r}, but there are no soft targets; pass targets, or leave it out")
    if name == "dkd" and num_unlabelled:
        raise UsageError(
            f"soft_loss 'dkd' is about the true class, and {num_unlabelled} training examples have no label; "
            "use kd, dist or standardised"
        )
    if num_processes > 1:
        raise UsageError(f"soft_loss {name!r} is the loss of a whole batch; use kd, or one process for each fit")


def weighted_loss(
    soft_loss: SoftLoss,
    student_logits: Tensor,
    targets: SoftTargets | LogitTargets | None,
    labels: Tensor,
    *,
    soft_weight: float,
    hard_weight: float,
) -> DistillationLoss:
    """The loss and its terms with another soft term; the hard term is that of `distillation_loss`.

    Raises:
        UsageError: the targets are logits to be matched: none of these losses has that limit.
    """
    if not isinstance(targets, SoftTargets):
        raise UsageError("temperature inf matches logits: a soft loss other than kd needs a finite temperature")
    soft = soft_loss(student_logits, targets, labels) if soft_weight else student_logits.new_zeros(())
    hard = cross_entropy(student_logits, labels) if hard_weight else student_logits.new_zeros(())
    return DistillationLoss(soft_weight * soft + hard_weight * hard, soft, hard)


__all__ = [
    "KD",
    "SOFT_LOSSES",
    "SoftLoss",
    "check_soft_loss",
    "correlation_loss",
    "decoupled_loss",
    "named_soft_loss",
    "standardised_loss",
    "weighted_loss",
]
