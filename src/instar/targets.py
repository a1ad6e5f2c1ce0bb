"""What a teacher says of a batch: soft targets with their temperature, those of an ensemble, or logits.

All functions take any leading shape, with the classes last, on any device. Half precision is computed in float32;
float64 is kept.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from instar import row_pieces
from instar.arguments import (
    are_distributions,
    check_classes_last,
    check_distributions,
    check_head,
    check_labels,
    check_members,
    check_temperature,
)
from instar.errors import UsageError
from instar.sparse_targets import SparseTargets

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
        check_classes_last("SoftTargets: probs", self.probs)
        check_temperature("SoftTargets", self.temperature)

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


class TargetsOfLogits(SoftTargets):
    """Soft targets over a vocabulary: the loss computes the probabilities of a few rows at a time."""

    __slots__ = ("_laid_out", "_version", "members")
    members: Tensor
    """(members, ..., classes); the targets are the mean of their distributions"""
    _version: int | None
    _laid_out: Tensor | None

    @classmethod
    def of(cls, members: Tensor, temperature: float) -> "TargetsOfLogits":
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
        return TargetsOfLogits.of(self._unchanged()[:, index], self.temperature)

    def rows(self) -> Callable[[slice], Tensor]:
        """Some rows of the probabilities, (examples, classes), without a gradient."""
        if self._laid_out is not None:
            return rows_of(self._laid_out)
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


def rows_of(values: Tensor) -> Callable[[slice], Tensor]:
    """Some rows of values as (examples, classes), without a gradient."""
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
        check_classes_last("LogitTargets: logits", self.logits)

    def __getitem__(self, index: slice | Tensor | int) -> "LogitTargets":
        """The targets of some examples, indexed along the first dimension."""
        return LogitTargets(self.logits[index])


@dataclass(frozen=True, eq=False, slots=True)
class HeadTargets:
    """Soft targets that are never laid out: a teacher's last hidden states with its linear head, at a temperature.

    p = softmax((hidden @ weight.T + bias) / T)

    Args:
        hidden: (..., width of the teacher).
        weight: (classes, width of the teacher).
        temperature: T, finite, above 0.
        bias: (classes,).

    Raises:
        UsageError: shapes that do not fit together, or a temperature out of range.
    """

    hidden: Tensor
    weight: Tensor
    temperature: float
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        check_head("HeadTargets", self.hidden, self.weight, self.bias)
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"HeadTargets: temperature must be a finite number above 0, not {self.temperature!r}")

    def __getitem__(self, index: slice | Tensor | int) -> "HeadTargets":
        """The targets of some examples, indexed along the first dimension."""
        return HeadTargets(self.hidden[index], self.weight, self.temperature, self.bias)

    @property
    def shape(self) -> torch.Size:
        """That of the probabilities, (..., classes)."""
        return torch.Size((*self.hidden.shape[:-1], len(self.weight)))

    def rows(self) -> Callable[[slice], Tensor]:
        """Some rows of the probabilities, (examples, classes), without a gradient."""
        hidden, weight = rows_of(self.hidden), self.weight.detach()
        bias = None if self.bias is None else self.bias.detach()

        def probs(rows: slice) -> Tensor:
            logits = at_least_float32(functional.linear(hidden(rows), weight, bias))
            return torch.softmax(logits.div_(self.temperature), -1)

        return probs


AnyTargets = SoftTargets | LogitTargets | SparseTargets | HeadTargets
"""What a batch of a teacher's targets may be."""

Targets = Callable[[Tensor, Tensor | int], AnyTargets]
"""A function from (ids, views) to soft targets, a teacher, an ensemble or a store; of sequences (batch, length,
...)."""


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
    check_classes_last("soft_targets: logits", logits)
    check_temperature("soft_targets", temperature)
    if row_pieces.pays(logits):
        return TargetsOfLogits.of(logits[None], temperature)
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
    check_members("ensemble_soft_targets", member_logits, mean)
    if mean == "geometric":
        return soft_targets(_mean(at_least_float32(member_logits), weights), temperature)
    if weights is None and row_pieces.pays(member_logits[0]):
        check_temperature("ensemble_soft_targets", temperature)
        return TargetsOfLogits.of(member_logits, temperature)
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
        check_members("targets_of_members", member_logits, mean)
        return LogitTargets(_mean(at_least_float32(member_logits), weights))
    return ensemble_soft_targets(member_logits, temperature, mean=mean, weights=weights)


def mix_in_labels(targets: SoftTargets, labels: Tensor, label_weight: float) -> SoftTargets:
    """Mix the labels into soft targets, the paper's other way to use labels.

    p'_i = (1 - w) p_i + w [i = label];  without a label p' = p

    Args:
        targets: (..., classes).
        labels: (...), integers, -1 means no label; or (..., classes), distributions, all 0 means none.
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
    check_targets("mix_in_labels", targets)
    probs = at_least_float32(targets.probs)
    if are_distributions(labels):
        check_distributions("mix_in_labels: labels", probs.shape, labels)
        labels = labels.to(probs.dtype)
        weight = (labels.sum(-1, keepdim=True) > 0).to(probs.dtype) * label_weight
        return SoftTargets(probs * (1 - weight) + labels * weight, targets.temperature)
    check_labels("mix_in_labels", probs.shape[:-1], labels)
    rows = labels.long().unsqueeze(-1)
    weight = (rows != NO_LABEL).to(probs.dtype) * label_weight
    places = rows.masked_fill(rows == NO_LABEL, 0)  # any class, since the weight is 0
    return SoftTargets((probs * (1 - weight)).scatter_add(-1, places, weight), targets.temperature)


def likeliest_classes(targets: AnyTargets) -> Tensor:
    """The class that a teacher finds likeliest, (...).

    Example:
        >>> teacher = torch.tensor([[6.0, 2.0, 9.0, 0.0]])
        >>> likeliest_classes(SparseTargets.of_logits(teacher, 2.0, top_k=2)).tolist()
        [2]
    """
    if isinstance(targets, SparseTargets):
        largest = targets.probs.argmax(-1, keepdim=True)
        return targets.classes.gather(-1, largest).squeeze(-1).long()
    if isinstance(targets, HeadTargets):
        return functional.linear(targets.hidden, targets.weight, targets.bias).argmax(-1)
    return (targets.logits if isinstance(targets, LogitTargets) else targets.probs).argmax(-1)


def check_targets(caller: str, targets: object) -> None:
    """Refuse what are no targets."""
    if not isinstance(targets, SoftTargets | LogitTargets):
        raise UsageError(
            f"{caller}: expected targets with their temperature, found {type(targets).__name__}; make them with "
            "instar.soft_targets(teacher_logits, temperature)"
        )
