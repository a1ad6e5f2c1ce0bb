"""Soft targets, cross-entropies and the distillation loss: pure functions that look like the papers' equations.

All functions take any leading shape, with the classes last, on any device, and return losses in nats. Half
precision is computed in float32; float64 is kept. Targets are constants: no gradient flows to the teacher.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instar import row_pieces
from instar.arguments import require_tensor
from instar.errors import UsageError
from instar.sparse_targets import SparseTargets, check_classes

NO_LABEL = -1


def at_least_float32(values: Tensor) -> Tensor:
    """The values, with half precision converted to float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@dataclass(frozen=True, eq=False, slots=True)
class SoftTargets:
    """A teacher's class probabilities, and the temperature at which they were computed.

    Args:
        probs: (..., classes), each row a distribution; this is not checked, since targets are made in every step.
        temperature: finite, above 0, without unit.

    Raises:
        UsageError: `probs` is not a floating-point tensor (..., classes), or the temperature is out of range.

    Example:
        >>> targets = SoftTargets(torch.tensor([[0.5, 0.5], [0.9, 0.1]]), temperature=4.0)
        >>> targets[1:].probs.shape, targets[1:].temperature
        (torch.Size([1, 2]), 4.0)
    """

    probs: Tensor
    temperature: float

    def __post_init__(self) -> None:
        _check_classes_last("SoftTargets: probs", self.probs)
        _check_temperature("SoftTargets", self.temperature)

    def __getitem__(self, index: slice | Tensor | int) -> "SoftTargets":
        """The targets of some examples, indexed along the first dimension."""
        return SoftTargets(self.probs[index], self.temperature)

    def to(self, device_or_dtype: torch.device | torch.dtype | str) -> "SoftTargets":
        """The targets on another device or in another precision."""
        return SoftTargets(self.probs.to(device_or_dtype), self.temperature)

    @property
    def shape(self) -> torch.Size:
        """That of `probs`, also where they are not laid out yet."""
        return self.probs.shape


class _TargetsOfLogits(SoftTargets):
    """Soft targets over a vocabulary: the loss computes the probabilities of a few rows at a time."""

    __slots__ = ("_laid_out", "_version", "members")
    members: Tensor
    """(members, ..., classes); the targets are the mean of their distributions"""
    _version: int | None
    _laid_out: Tensor | None

    @classmethod
    def of(cls, members: Tensor, temperature: float) -> "_TargetsOfLogits":
        """The targets of logits."""
        targets = cls.__new__(cls)
        version = None if members.is_inference() else members._version
        values = {"members": members, "temperature": temperature, "_version": version, "_laid_out": None}
        for name, value in values.items():
            object.__setattr__(targets, name, value)
        return targets

    def __reduce__(self) -> Any:
        return SoftTargets, (self.probs, self.temperature)

    @property
    def probs(self) -> Tensor:
        laid_out = self._laid_out
        if laid_out is None:
            laid_out = self._mean(self._unchanged())
            object.__setattr__(self, "_laid_out", laid_out)
        return laid_out

    @probs.setter
    def probs(self, values: Tensor) -> None:  # of a copy with other values, which has no logits
        object.__setattr__(self, "members", values[None])
        object.__setattr__(self, "_laid_out", values)

    @property
    def shape(self) -> torch.Size:
        return self.members.shape[1:]

    def __getitem__(self, index: Any) -> SoftTargets:
        if not isinstance(index, (slice, Tensor, int)):  # several dimensions
            return SoftTargets(self.probs[index], self.temperature)
        return _TargetsOfLogits.of(self._unchanged()[:, index], self.temperature)

    def rows(self) -> Callable[[slice], Tensor]:
        """Some rows of the probabilities, (examples, classes), without a gradient."""
        if self._laid_out is not None:
            return _rows_of(self._laid_out)
        members = self._unchanged().detach().reshape(len(self.members), -1, self.shape[-1])
        return lambda rows: self._mean(members[:, rows])

    def _mean(self, members: Tensor) -> Tensor:
        total = torch.softmax(at_least_float32(members[0]) / self.temperature, -1)
        for member in members[1:]:
            total = total + torch.softmax(at_least_float32(member) / self.temperature, -1)
        return total if len(members) == 1 else total / len(members)

    def _unchanged(self) -> Tensor:
        if self._version is not None and self.members._version != self._version:
            raise UsageError(
                "soft targets: the teacher's logits were changed in place after the targets were made; "
                "make the targets anew, or from a copy of the logits"
            )
        return self.members


def _rows_of(values: Tensor) -> Callable[[slice], Tensor]:
    flat = values.detach().reshape(-1, values.shape[-1])
    return lambda rows: flat[rows]


@dataclass(frozen=True, eq=False, slots=True)
class LogitTargets:
    """A teacher's logits as targets: the limit of soft targets at an infinite temperature.

    Args:
        logits: (..., classes); adding a constant to a row changes nothing.

    Example:
        >>> LogitTargets(torch.zeros(4, 10))[1:].logits.shape
        torch.Size([3, 10])

    References:
        Hinton, Vinyals and Dean 2015, section 2.1.
    """

    logits: Tensor

    def __post_init__(self) -> None:
        _check_classes_last("LogitTargets: logits", self.logits)

    def __getitem__(self, index: slice | Tensor | int) -> "LogitTargets":
        """The targets of some examples, indexed along the first dimension."""
        return LogitTargets(self.logits[index])


AnyTargets = SoftTargets | LogitTargets | SparseTargets
"""What a batch of a teacher's targets may be."""

Targets = Callable[[Tensor, Tensor | int], SoftTargets | LogitTargets]
"""A function from (ids, views) to soft targets: a teacher, an ensemble or a store."""


class DistillationLoss(NamedTuple):
    """The loss and its terms, `total = soft_weight * soft + hard_weight * hard`: scalars, in nats."""

    total: Tensor
    soft: Tensor
    hard: Tensor


def soft_targets(logits: Tensor, temperature: float) -> SoftTargets:
    """The class probabilities of logits at a temperature.

    q_i = exp(z_i / T) / sum_j exp(z_j / T)

    Args:
        logits: (..., classes).
        temperature: T, finite, above 0; 1 is the ordinary softmax, higher is softer.

    Returns:
        The probabilities, (..., classes), with their temperature; float32, or float64 for float64 logits.

    Raises:
        UsageError: the temperature is out of range, or the logits are not a floating-point tensor (..., classes).

    Example:
        >>> soft_targets(torch.tensor([4.0, 2.0, 0.0]), temperature=2.0).probs
        tensor([0.6652, 0.2447, 0.0900])

    References:
        Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2, equation 1.
    """
    _check_classes_last("soft_targets: logits", logits)
    _check_temperature("soft_targets", temperature)
    if row_pieces.pays(logits):
        return _TargetsOfLogits.of(logits[None], temperature)
    return SoftTargets(torch.softmax(at_least_float32(logits) / temperature, -1), temperature)


def ensemble_soft_targets(
    member_logits: Tensor, temperature: float, *, mean: str = "arithmetic", weights: Sequence[float] | None = None
) -> SoftTargets:
    """The soft targets of an ensemble: the mean of its members' distributions at a temperature.

    arithmetic:  q_i = 1/M sum_m q_i^m
    geometric:   q_i = (prod_m q_i^m)^(1/M) / sum_j (prod_m q_j^m)^(1/M),  the softmax of the mean logits

    With weights w_m of the members, w_m / sum_m w_m takes the place of 1/M.

    Args:
        member_logits: (members, ..., classes).
        temperature: T, finite, above 0.
        mean: "arithmetic" (one member is enough to give a class mass) or "geometric" (each member has a veto).
        weights: of the members, not negative; by default all alike.

    Returns:
        The probabilities, (..., classes), with their temperature.

    Raises:
        UsageError: there is no member dimension or no member, the mean is unknown, the temperature is out of
            range, or there is not one weight for each member.

    Example:
        >>> two_members = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
        >>> ensemble_soft_targets(two_members, 1.0, mean="geometric").probs
        tensor([0.5000, 0.5000])

    References:
        Hinton, Vinyals and Dean 2015, section 1 (the means), section 4 (an ensemble into one network).
    """
    _check_members("ensemble_soft_targets", member_logits, mean)
    if mean == "geometric":
        return soft_targets(_mean(at_least_float32(member_logits), weights), temperature)
    if weights is None and row_pieces.pays(member_logits[0]):
        _check_temperature("ensemble_soft_targets", temperature)
        return _TargetsOfLogits.of(member_logits, temperature)
    members = soft_targets(member_logits, temperature)
    return SoftTargets(_mean(members.probs, weights), temperature)


def _mean(members: Tensor, weights: Sequence[float] | None) -> Tensor:
    """The mean over the members, with their weights where there are any."""
    if weights is None:
        return members.mean(0)
    shares = torch.as_tensor(weights, dtype=members.dtype, device=members.device)
    if (
        shares.shape != members.shape[:1]
        or not bool((shares >= 0).all())
        or not 0 < float(shares.sum()) < math.inf
    ):
        raise UsageError(
            f"weights of an ensemble are {list(weights)}, expected {len(members)} numbers that are not negative, "
            "and not all 0"
        )
    weighted: Tensor = torch.tensordot(shares / shares.sum(), members, dims=1)
    return weighted


def targets_of_members(
    member_logits: Tensor, temperature: float, *, mean: str = "arithmetic", weights: Sequence[float] | None = None
) -> SoftTargets | LogitTargets:
    """`ensemble_soft_targets`, or the mean logits at an infinite temperature, which is the limit of both means.

    Args:
        member_logits: (members, ..., classes).
        temperature: T, above 0; `math.inf` is logit matching.
        mean: "arithmetic" or "geometric".
        weights: of the members.

    Raises:
        UsageError: as `ensemble_soft_targets`.

    Example:
        >>> type(targets_of_members(torch.zeros(1, 4, 10), math.inf)).__name__
        'LogitTargets'
    """
    if temperature == math.inf:
        _check_members("targets_of_members", member_logits, mean)
        return LogitTargets(_mean(at_least_float32(member_logits), weights))
    return ensemble_soft_targets(member_logits, temperature, mean=mean, weights=weights)


def mix_in_labels(targets: SoftTargets, labels: Tensor, label_weight: float) -> SoftTargets:
    """Mix the labels into soft targets, the paper's other way to use labels.

    p'_i = (1 - w) p_i + w [i = label];  without a label p' = p

    Args:
        targets: (..., classes).
        labels: (...), integers; -1 means no label.
        label_weight: w, in [0, 1].

    Returns:
        The mixed probabilities, (..., classes), with the same temperature.

    Raises:
        UsageError: a weight out of range, or labels of another shape or type. (For a label beyond the classes
            torch raises, as in `distillation_loss`.)

    Example:
        >>> mix_in_labels(SoftTargets(torch.tensor([[0.5, 0.5]]), 2.0), torch.tensor([0]), 0.2).probs
        tensor([[0.6000, 0.4000]])

    References:
        Hinton, Vinyals and Dean 2015, section 2 ("one way to do this is to use the correct labels to modify the
        soft targets").
    """
    if not 0 <= label_weight <= 1:
        raise UsageError(f"mix_in_labels: label_weight is {label_weight!r}, expected from 0 to 1")
    _check_targets("mix_in_labels", targets)
    check_labels("mix_in_labels", targets.probs.shape[:-1], labels)
    rows = labels.long().unsqueeze(-1)
    probs = at_least_float32(targets.probs)
    weight = (rows != NO_LABEL).to(probs.dtype) * label_weight
    places = rows.masked_fill(rows == NO_LABEL, 0)  # any class, since the weight is 0
    return SoftTargets((probs * (1 - weight)).scatter_add(-1, places, weight), targets.temperature)


def cross_entropy(logits: Tensor, labels: Tensor, *, where: Tensor | None = None) -> Tensor:
    """The cross-entropy with the labels: the mean over the examples that have a label.

    L = -1/n sum_examples log q_label,  q at temperature 1, n = examples with a label

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.
        where: (...), bool; False masks an example.

    Returns:
        A scalar in nats; 0 with a zero gradient where there is no example left.

    Raises:
        UsageError: labels or mask of another shape or type.

    Example:
        >>> cross_entropy(torch.zeros(2, 10), torch.tensor([3, -1]))
        tensor(2.3026)
    """
    _check_classes_last("cross_entropy: logits", logits)
    check_labels("cross_entropy", logits.shape[:-1], labels)
    check_mask("cross_entropy", logits.shape[:-1], where)
    return _hard_term(_rows(logits, where), label_row(labels, where), None)


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

    soft  = T^2 * mean over examples of H(p_T, q_T),   H(p, q) = -sum_i p_i log q_i
    hard  = mean over labelled examples of H(label, q_1)
    total = soft_weight * soft + hard_weight * hard

    The student uses the temperature of the targets. The factor T^2 is always present: it keeps the size of the
    soft term's gradient the same when the temperature changes. A term with weight 0 is not computed and is 0.

    Args:
        student_logits: (..., classes).
        targets: (..., classes) with their temperature, or logits, the limit of a high temperature; None where
            `soft_weight` is 0.
        labels: (...), integers; -1 means no label: the example counts in the soft term only.
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
    _check_classes_last("distillation_loss: student_logits", student_logits)
    check_weights("distillation_loss", soft_weight, hard_weight)
    check_mask("distillation_loss", student_logits.shape[:-1], where)
    shape = student_logits.shape
    soft_from = targets_for("distillation_loss", shape, targets) if soft_weight else None
    hard_from = label_row(labels_for("distillation_loss", shape[:-1], labels), where) if hard_weight else None
    if row_pieces.pays(student_logits) or isinstance(soft_from, SparseTargets):
        soft, hard = _terms_in_pieces(student_logits, soft_from, hard_from, where, num_soft, num_hard)
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
    _check_classes_last("logit_matching_loss: student_logits", student_logits)
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
    if isinstance(targets, LogitTargets):
        return row_pieces.MatchingTerm(_masked(_rows_of(targets.logits), where), (targets.logits,))
    if isinstance(targets, _TargetsOfLogits):
        return row_pieces.DenseTerm(_masked(targets.rows(), where), targets.temperature, (targets.members,))
    return row_pieces.DenseTerm(_masked(_rows_of(targets.probs), where), targets.temperature, (targets.probs,))


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
        summed = (torch.log_softmax(logits / T, -1) * probs).sum() * (-T * T)
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


def _times(weight: float, term: Tensor) -> Tensor:
    return term if weight == 1 else weight * term


def _shape(values: Tensor) -> str:
    return str(tuple(values.shape))


def targets_for(caller: str, shape: torch.Size, targets: AnyTargets | None) -> AnyTargets:
    """The targets of a soft term, which must be those of the student's examples and classes."""
    if targets is None:
        raise UsageError(f"{caller}: soft_weight above 0 needs soft targets, found None; pass targets")
    if isinstance(targets, SparseTargets):
        check_classes(caller, targets, shape)
        return targets
    _check_targets(caller, targets)
    values = targets.logits if isinstance(targets, LogitTargets) else targets
    check_same_shape(f"{caller}: targets", values.shape, shape)
    return targets


def _check_targets(caller: str, targets: object) -> None:
    if not isinstance(targets, SoftTargets | LogitTargets):
        raise UsageError(
            f"{caller}: expected targets with their temperature, found {type(targets).__name__}; make them with "
            "instar.soft_targets(teacher_logits, temperature)"
        )


def labels_for(caller: str, leading: torch.Size, labels: Tensor | None) -> Tensor:
    """The labels of a hard term."""
    if labels is None:
        raise UsageError(f"{caller}: hard_weight above 0 needs labels, found None; pass labels")
    check_labels(caller, leading, labels)
    return labels


def _check_temperature(caller: str, temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise UsageError(f"{caller}: temperature must be a finite number above 0, not {temperature!r}")


def check_weights(caller: str, soft_weight: float, hard_weight: float) -> None:
    """Refuse weights that are no finite numbers of 0 or more, or both 0."""
    for name, weight in (("soft_weight", soft_weight), ("hard_weight", hard_weight)):
        if not 0 <= weight < math.inf:
            raise UsageError(f"{caller}: {name} must be a finite number, 0 or more, not {weight!r}")
    if not soft_weight and not hard_weight:
        raise UsageError(f"{caller}: soft_weight and hard_weight are both 0; one must be above 0")


def _check_classes_last(name: str, values: Tensor) -> None:
    require_tensor(name, values)
    if values.dim() == 0 or values.shape[-1] == 0 or not values.is_floating_point():
        raise UsageError(
            f"{name}: expected floating-point values of shape (..., classes), "
            f"found {values.dtype} of shape {_shape(values)}"
        )


def _check_members(caller: str, member_logits: Tensor, mean: str) -> None:
    _check_classes_last(f"{caller}: member_logits", member_logits)
    if member_logits.dim() < 2 or member_logits.shape[0] == 0:
        raise UsageError(
            f"{caller}: expected member_logits of shape (members, ..., classes), one member or more, "
            f"found {_shape(member_logits)}; stack the members' logits along a new first dimension"
        )
    if mean not in ("arithmetic", "geometric"):
        raise UsageError(f"{caller}: mean is 'arithmetic' or 'geometric', not {mean!r}")


def check_same_shape(name: str, found: torch.Size, expected: torch.Size) -> None:
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


def check_mask(caller: str, leading: torch.Size, where: Tensor | None) -> None:
    """Refuse a mask of another shape than the examples, or of another type."""
    if where is not None and (where.shape != leading or where.dtype != torch.bool):
        raise UsageError(
            f"{caller}: expected a bool mask `where` of shape {tuple(leading)}, "
            f"found {where.dtype} of shape {_shape(where)}"
        )
