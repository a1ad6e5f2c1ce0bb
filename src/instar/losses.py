"""Cross-entropies and the distillation loss: pure functions that look like the papers' equations.

All functions take any leading shape, with the classes last, on any device, and return losses in nats. Half
precision is computed in float32; float64 is kept. Targets are constants: no gradient flows to the teacher.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from instar import row_pieces
from instar.arguments import (
    are_distributions,
    check_classes_last,
    check_distributions,
    check_labels,
    check_mask,
    check_same_shape,
    check_weights,
    require_tensor,
)
from instar.errors import UsageError
from instar.sparse_targets import SparseTargets, check_classes
from instar.targets import (
    NO_LABEL,
    AnyTargets,
    HeadTargets,
    LogitTargets,
    SoftTargets,
    Targets,
    TargetsOfLogits,
    at_least_float32,
    check_targets,
    ensemble_soft_targets,
    likeliest_classes,
    mix_in_labels,
    rows_of,
    soft_targets,
    targets_of_members,
)

__all__ = [
    "NO_LABEL",
    "AnyTargets",
    "DistillationLoss",
    "HeadTargets",
    "LogitTargets",
    "SoftTargets",
    "Targets",
    "at_least_float32",
    "counted",
    "cross_entropy",
    "distillation_loss",
    "ensemble_soft_targets",
    "label_row",
    "labels_for",
    "likeliest_classes",
    "logit_matching_loss",
    "mix_in_labels",
    "soft_rows",
    "soft_targets",
    "targets_for",
    "targets_of_members",
]


class DistillationLoss(NamedTuple):
    """The loss and its terms, `total = soft_weight * soft + hard_weight * hard`: scalars, in nats."""

    total: Tensor
    soft: Tensor
    hard: Tensor


def cross_entropy(logits: Tensor, labels: Tensor, *, where: Tensor | None = None) -> Tensor:
    """The cross-entropy with the labels: the mean over the examples that have a label.

    L = -1/n sum_examples log q_label,  q at temperature 1, n = examples with a label
    L = -1/n sum_examples sum_i p_i log q_i  where a label is a distribution p

    Args:
        logits: (..., classes).
        labels: (...), integers, -1 means no label; or (..., classes), probabilities, all 0 means none.
        where: (...), bool; False masks an example.

    Returns:
        A scalar in nats; 0 with a zero gradient where there is no example left.

    Raises:
        UsageError: labels or mask of another shape or type.

    Example:
        >>> cross_entropy(torch.zeros(2, 10), torch.tensor([3, -1]))
        tensor(2.3026)
    """
    check_classes_last("cross_entropy: logits", logits)
    check_mask("cross_entropy", logits.shape[:-1], where)
    return _hard_term(_rows(logits, where), _hard_rows("cross_entropy", logits.shape, labels, where), None)


def distillation_loss(
    student_logits: Tensor,
    targets: AnyTargets | None,
    labels: Tensor | None = None,
    *,
    soft_weight: float = 1.0,
    hard_weight: float = 0.0,
    where: Tensor | None = None,
    num_soft: int | None = None,
    num_hard: int | None = None,
) -> DistillationLoss:
    """The weighted sum of the cross-entropies with the soft targets and with the labels.

    soft  = T^2 * mean over examples of H(p_T, q_T),   H(p, q) = -sum_i p_i log q_i  over the classes with p_i > 0
    hard  = mean over labelled examples of H(label, q_1)
    total = soft_weight * soft + hard_weight * hard

    The student uses the temperature of the targets. The factor T^2 is always present: it keeps the size of the
    soft term's gradient the same when the temperature changes. A term with weight 0 is not computed and is 0.

    Args:
        student_logits: (..., classes).
        targets: (..., classes) with their temperature, sparse or as hidden states with a head too, or logits, the
            limit of a high temperature; None where `soft_weight` is 0.
        labels: (...), integers; -1 means no label: the example counts in the soft term only. Or (..., classes),
            distributions, with which H(label, q_1) is computed as they are; all 0 means none.
        soft_weight: weight of the soft term, finite, 0 or more.
        hard_weight: weight of the hard term, finite, 0 or more; with soft targets, best well below 1.
        where: (...), bool; False masks an example (a padded frame or token) in both terms, even if its logits or
            probabilities are NaN.
        num_soft: divisor of the soft term; by default the number of examples. Where several processes share a
            batch, pass the number of examples in the whole batch: their losses and gradients then add up to those
            of the whole batch (before an averaging all-reduce, multiply them by the number of processes).
        num_hard: divisor of the hard term; by default the number of examples with a label.

    Returns:
        total, soft and hard: scalars in nats, at least float32; soft and hard without their weights.

    Raises:
        UsageError: a weight that is negative, infinite or NaN, or two weights of 0; a term without its targets or
            labels; shapes that do not match. (For a label beyond the classes torch raises an IndexError: checking
            here would take a pass over the data in each step.)

    Example:
        >>> teacher_logits = torch.tensor([[6.0, 2.0, -2.0], [0.0, 4.0, 0.0]])
        >>> student_logits = torch.zeros(2, 3)
        >>> loss = distillation_loss(
        ...     student_logits, soft_targets(teacher_logits, 4.0), torch.tensor([0, -1]), hard_weight=0.1
        ... )
        >>> [round(term.item(), 3) for term in loss]
        [17.688, 17.578, 1.099]

    References:
        Hinton, Vinyals and Dean 2015, section 2 (both objectives, the factor T^2).
    """
    check_classes_last("distillation_loss: student_logits", student_logits)
    check_weights("distillation_loss", soft_weight, hard_weight)
    check_mask("distillation_loss", student_logits.shape[:-1], where)
    shape = student_logits.shape
    soft_from = targets_for("distillation_loss", shape, targets) if soft_weight else None
    hard_from = _hard_rows("distillation_loss", shape, labels, where) if hard_weight else None
    if row_pieces.pays(student_logits) or isinstance(soft_from, SparseTargets | HeadTargets):
        are_rows = are_distributions(hard_from)  # of which there are none over a vocabulary
        numbers = None if are_rows else hard_from
        soft, hard = _terms_in_pieces(student_logits, soft_from, numbers, where, num_soft, num_hard)
        if are_rows and hard_from is not None:
            hard = _hard_term(_rows(student_logits, where), hard_from, num_hard)
    else:
        logits = _rows(student_logits, where)
        soft = hard = logits.new_zeros(())
        if soft_from is not None:
            soft = _soft_term(logits, soft_from, where, num_soft)
        if hard_from is not None:
            hard = _hard_term(logits, hard_from, num_hard)
    weighted = [_times(weight, term) for weight, term in ((soft_weight, soft), (hard_weight, hard)) if weight]
    return DistillationLoss(reduce(torch.add, weighted), soft, hard)


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The distillation loss in the limit of a high temperature: squared distance of the centred logits.

    L = mean over examples of 1/(2N) sum_i (z_i - v_i)^2,  z and v each shifted to zero mean over the N classes

    Its gradient for one example is (z_i - v_i) / N, the limit of the gradient of T^2 times the soft cross-entropy.
    Adding a constant to all logits of an example changes nothing, as it changes no probability.

    Args:
        student_logits: z, (..., classes).
        teacher_logits: v, (..., classes).

    Returns:
        A scalar, at least float32; 0 for an empty batch.

    Raises:
        UsageError: the shapes differ.

    Example:
        >>> logit_matching_loss(torch.tensor([[1.0, -1.0]]), torch.tensor([[5.0, 5.0]]))
        tensor(0.5000)

    References:
        Hinton, Vinyals and Dean 2015, section 2.1, equations 2 to 4.
    """
    check_classes_last("logit_matching_loss: student_logits", student_logits)
    require_tensor("logit_matching_loss: teacher_logits", teacher_logits)
    check_same_shape("logit_matching_loss: teacher_logits", teacher_logits.shape, student_logits.shape)
    student = at_least_float32(student_logits)
    return _squared_distance(student, teacher_logits.detach().to(student.dtype)) / max(student[..., 0].numel(), 1)


def _terms_in_pieces(
    student_logits: Tensor,
    targets: AnyTargets | None,
    labels: Tensor | None,
    where: Tensor | None,
    num_soft: int | None,
    num_hard: int | None,
) -> tuple[Tensor, Tensor]:
    """Both terms, a few rows at a time."""
    logits = student_logits.reshape(-1, student_logits.shape[-1])
    where = None if where is None else where.flatten()
    soft = None if targets is None else soft_rows(targets, where)
    terms = row_pieces.Terms(soft, labels, where, *counted(len(logits), labels, where, num_soft, num_hard))
    return row_pieces.sums_in_pieces(logits, terms)


def soft_rows(targets: AnyTargets, where: Tensor | None) -> row_pieces.Soft:
    """The soft term of targets by rows; masked rows, (examples,), have no mass in it."""
    if isinstance(targets, SparseTargets):
        flat = targets.flat()
        return row_pieces.SparseTerm(flat if where is None else flat.masked(where))
    if isinstance(targets, HeadTargets):
        sources = (targets.hidden, targets.weight, *(() if targets.bias is None else (targets.bias,)))
        return row_pieces.DenseTerm(_masked(targets.rows(), where), targets.temperature, sources)
    if isinstance(targets, LogitTargets):
        return row_pieces.MatchingTerm(_masked(rows_of(targets.logits), where), (targets.logits,))
    if isinstance(targets, TargetsOfLogits):
        return row_pieces.DenseTerm(_masked(targets.rows(), where), targets.temperature, (targets.members,))
    return row_pieces.DenseTerm(_masked(rows_of(targets.probs), where), targets.temperature, (targets.probs,))


def _masked(rows_of: Callable[[slice], Tensor], where: Tensor | None) -> Callable[[slice], Tensor]:
    if where is None:
        return rows_of
    return lambda rows: rows_of(rows).masked_fill(~where[rows, None], 0.0)


def counted(
    num_rows: int, labels: Tensor | None, where: Tensor | None, num_soft: int | None, num_hard: int | None
) -> tuple[Tensor | int, Tensor | int]:
    """What the two sums are divided by, at least 1; labels are -1 where masked."""
    soft: Tensor | int = num_rows if where is None else where.sum()
    hard: Tensor | int = 1 if labels is None else (labels >= 0).sum()
    chosen = (soft if num_soft is None else num_soft, hard if num_hard is None else num_hard)
    first, second = (one.clamp(min=1) if isinstance(one, Tensor) else max(one, 1) for one in chosen)
    return first, second


def _soft_term(
    logits: Tensor, targets: SoftTargets | LogitTargets, where: Tensor | None, num: int | None
) -> Tensor:
    """T^2 * H(p_T, q_T), or its limit, summed over the examples, divided by their number."""
    if isinstance(targets, LogitTargets):
        summed = _squared_distance(logits, _rows(targets.logits.detach(), where).to(logits.dtype))
    else:
        probs = _rows(targets.probs.detach(), where).to(logits.dtype)
        T = targets.temperature
        # Written out: torch's cross-entropy with probabilities takes 10 % longer on a batch of 128.
        summed = row_pieces.sum_where_likely(torch.log_softmax(logits / T, -1) * probs, probs) * (-T * T)
    if num is None and where is not None:
        return summed / where.sum().clamp(min=1)
    return summed / max(len(logits) if num is None else num, 1)


def _squared_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """1/(2N) sum_i (z_i - v_i)^2 of the centred logits, summed over the examples."""
    difference = student_logits - teacher_logits
    centred = difference - difference.mean(-1, keepdim=True)
    return centred.square().sum() / (2 * centred.shape[-1])


def _hard_term(logits: Tensor, labels: Tensor, num: int | None) -> Tensor:
    """H(label, q_1), summed over the examples with a label, divided by their number."""
    log_probs = torch.log_softmax(logits, -1)
    if are_distributions(labels):
        labelled = (labels.sum(-1) > 0).sum().clamp(min=1) if num is None else max(num, 1)
        return -row_pieces.sum_where_likely(log_probs * labels.to(log_probs.dtype), labels) / labelled
    # The kernel that torch's cross-entropy calls also counts the labels; counting them again costs a third.
    reduction_sum = 2
    summed, counted = torch.ops.aten.nll_loss_forward(log_probs, labels, None, reduction_sum, NO_LABEL)
    hard: Tensor = summed / (counted.clamp(min=1) if num is None else max(num, 1))
    return hard


def _rows(values: Tensor, where: Tensor | None) -> Tensor:
    """(..., classes) as (examples, classes); masked examples become 0, so that they add no NaN and no gradient."""
    rows = at_least_float32(values).flatten(0, -2) if values.dim() > 1 else at_least_float32(values)[None]
    return rows if where is None else rows.masked_fill(~where.reshape(-1, 1), 0.0)


def label_row(labels: Tensor, where: Tensor | None) -> Tensor:
    """(examples,) int64, -1 where there is no label or a mask hides it."""
    row = labels.flatten().long()
    return row if where is None else row.masked_fill(~where.flatten(), NO_LABEL)


def _hard_rows(caller: str, shape: torch.Size, labels: Tensor | None, where: Tensor | None) -> Tensor:
    """Labels as (examples,) int64, or distributions as (examples, classes); none where a mask hides them."""
    if labels is None or not are_distributions(labels):
        return label_row(labels_for(caller, shape[:-1], labels), where)
    check_distributions(f"{caller}: labels", shape, labels)
    rows = labels.detach().reshape(-1, shape[-1])
    return rows if where is None else rows.masked_fill(~where.reshape(-1, 1), 0.0)


def _times(weight: float, term: Tensor) -> Tensor:
    return term if weight == 1 else weight * term


def targets_for(caller: str, shape: torch.Size, targets: AnyTargets | None) -> AnyTargets:
    """The targets of a soft term, which must be those of the student's examples and classes."""
    if targets is None:
        raise UsageError(f"{caller}: soft_weight above 0 needs soft targets, found None; pass targets")
    if isinstance(targets, SparseTargets):
        check_classes(caller, targets, shape)
        return targets
    if isinstance(targets, HeadTargets):
        if targets.shape != shape:
            raise UsageError(
                f"{caller}: targets: expected hidden states and a head that give {tuple(shape)}, the student's "
                f"shape, found {tuple(targets.shape)}; teacher and student must see the same examples and classes"
            )
        return targets
    check_targets(caller, targets)
    values = targets.logits if isinstance(targets, LogitTargets) else targets
    check_same_shape(f"{caller}: targets", values.shape, shape)
    return targets


def labels_for(caller: str, leading: torch.Size, labels: Tensor | None) -> Tensor:
    """The labels of a hard term."""
    if labels is None:
        raise UsageError(f"{caller}: hard_weight above 0 needs labels, found None; pass labels")
    check_labels(caller, leading, labels)
    return labels
