"""Losses other than the paper's cross-entropy: soft terms by name, which compare logits with soft targets.

Two more compare intermediate layers: `feature_loss` and `attention_loss`.
"""

import re
from collections.abc import Callable
from functools import partial

from torch import Tensor

from instar.errors import UsageError
from instar.losses import AnyTargets, DistillationLoss, HeadTargets, SoftTargets, cross_entropy
from instar.naming import unknown_name
from instar.soft_losses.attention import attention_loss
from instar.soft_losses.dist import correlation_loss
from instar.soft_losses.dkd import decoupled_loss
from instar.soft_losses.hints import feature_loss
from instar.soft_losses.standardised import standardised_loss
from instar.sparse_targets import SparseTargets

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

    Args:
        name: of the loss; `dkd:2` is `dkd` with the weight 2 of the other classes.

    Raises:
        UsageError: there is no such loss (the error suggests the nearest name), or it has no such weight.
    """
    kind, separator, weight = name.partition(":")
    if kind not in SOFT_LOSSES:
        raise unknown_name("soft loss", kind, SOFT_LOSSES)
    if not separator:
        return _LOSSES.get(kind)
    if kind != "dkd" or not re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", weight):
        raise UsageError(f"soft_loss {name!r}: expected a name, or dkd:WEIGHT, for instance dkd:2")
    return partial(decoupled_loss, other_weight=float(weight))


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
    if name.partition(":")[0] == "dkd" and num_unlabelled:
        raise UsageError(
            f"soft_loss 'dkd' is about the true class, and {num_unlabelled} training examples have no label; "
            "use kd, dist or standardised"
        )
    if num_processes > 1:
        raise UsageError(f"soft_loss {name!r} is the loss of a whole batch; use kd, or one process for each fit")


def weighted_loss(
    soft_loss: SoftLoss,
    student_logits: Tensor,
    targets: AnyTargets | None,
    labels: Tensor,
    *,
    soft_weight: float,
    hard_weight: float,
    label_probs: Tensor | None = None,
) -> DistillationLoss:
    """The loss and its terms with another soft term; the hard term is that of `distillation_loss`.

    Args:
        soft_loss, student_logits, targets, labels, soft_weight, hard_weight: as for `distillation_loss`.
        label_probs: (..., classes), for the hard term in place of the labels.

    Raises:
        UsageError: the targets are logits to be matched: none of these losses has that limit; or they are not
            laid out over all classes.
    """
    if isinstance(targets, SparseTargets | HeadTargets):
        raise UsageError(
            f"the soft targets are {type(targets).__name__}, which only the loss 'kd' takes; the others need all "
            "probabilities: store all logits"
        )
    if not isinstance(targets, SoftTargets):
        raise UsageError("temperature inf matches logits: a soft loss other than kd needs a finite temperature")
    soft = soft_loss(student_logits, targets, labels) if soft_weight else student_logits.new_zeros(())
    known = labels if label_probs is None else label_probs
    hard = cross_entropy(student_logits, known) if hard_weight else student_logits.new_zeros(())
    return DistillationLoss(soft_weight * soft + hard_weight * hard, soft, hard)


__all__ = [
    "KD",
    "SOFT_LOSSES",
    "SoftLoss",
    "attention_loss",
    "check_soft_loss",
    "correlation_loss",
    "decoupled_loss",
    "feature_loss",
    "named_soft_loss",
    "standardised_loss",
    "weighted_loss",
]
