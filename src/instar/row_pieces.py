"""The terms of the distillation loss over a vocabulary, a few rows at a time.

`distillation_loss` computes its two sums on whole tensors, of which five are as large as the logits. Here a piece
of rows stays in the processor's cache, and the backward pass computes it again: only the gradient is laid out. The
equations are those of `instar.losses`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.sparse_targets import SparseTargets

WIDE = 2**20
"""From this many logits on, pieces take less time than whole tensors."""

PIECE = 2**18
"""Logits in a piece: 1 MiB, which stays in the cache."""


@dataclass(frozen=True)
class DenseTerm:
    """The soft term of targets that are known, or computed, for all classes.

    Args:
        teacher: some rows of its probabilities at T.
        temperature: T.
        sources: what the rows are computed from; a change in place before the backward pass is an error.
    """

    teacher: Callable[[slice], Tensor]
    temperature: float
    sources: tuple[Tensor, ...] = ()

    def value(self, logits: Tensor, rows: slice) -> Tensor:
        """T^2 sum H(p, q_T)."""
        log_probs, probs = torch.log_softmax(logits / self.temperature, -1), self._probs(logits, rows)
        return self._value(log_probs.mul_(probs), probs)

    def gradient(self, logits: Tensor, rows: slice) -> Tensor:
        """T (q_T - p)."""
        return self._gradient_(torch.softmax(logits / self.temperature, -1), self._probs(logits, rows))

    def both(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Value and gradient."""
        log_probs, probs = torch.log_softmax(logits / self.temperature, -1), self._probs(logits, rows)
        value = self._value(log_probs * probs, probs)
        return value, self._gradient_(log_probs.exp_(), probs)

    def _probs(self, logits: Tensor, rows: slice) -> Tensor:
        return self.teacher(rows).to(logits.dtype)

    def _value(self, products: Tensor, probs: Tensor) -> Tensor:
        return sum_where_likely(products, probs, _sum_of_rows) * -(self.temperature**2)

    def _gradient_(self, probs: Tensor, teacher: Tensor) -> Tensor:
        mass = teacher.sum(-1, keepdim=True)  # 1 up to rounding, and 0 in a masked row
        return probs.mul_(mass).sub_(teacher).mul_(self.temperature)


@dataclass(frozen=True)
class MatchingTerm:
    """The limit of the soft term at an infinite temperature: 1/(2N) sum (z - v)^2 of the centred logits."""

    teacher: Callable[[slice], Tensor]
    """some rows of its logits"""
    sources: tuple[Tensor, ...] = ()

    def value(self, logits: Tensor, rows: slice) -> Tensor:
        """Summed over the rows."""
        return self._centred(logits, rows).square_().sum(dtype=torch.float64) / (2 * logits.shape[-1])

    def gradient(self, logits: Tensor, rows: slice) -> Tensor:
        """(z - v) / N."""
        return self._centred(logits, rows).div_(logits.shape[-1])

    def both(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Value and gradient."""
        return self.value(logits, rows), self.gradient(logits, rows)

    def _centred(self, logits: Tensor, rows: slice) -> Tensor:
        difference = logits - self.teacher(rows).to(logits.dtype)
        return difference.sub_(difference.mean(-1, keepdim=True))


@dataclass(frozen=True)
class SparseTerm:
    """The soft term of targets that are known for a few classes."""

    targets: SparseTargets
    """(examples, ...)"""

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors of the targets."""
        targets = self.targets
        return targets.classes, targets.probs, targets.rest, *(() if targets.drawn is None else (targets.drawn,))

    def value(self, logits: Tensor, rows: slice) -> Tensor:
        """T^2 sum H(p, q_T)."""
        T = self.targets.temperature
        return (
            self.targets[rows].cross_entropies(torch.log_softmax(logits / T, -1)).sum(dtype=torch.float64) * T**2
        )

    def gradient(self, logits: Tensor, rows: slice) -> Tensor:
        """T times the gradient in the logits over T."""
        T = self.targets.temperature
        return self.targets[rows].gradient_(torch.log_softmax(logits / T, -1)).mul_(T)

    def both(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Value and gradient."""
        T, targets = self.targets.temperature, self.targets[rows]
        values, gradient = targets.both_(torch.log_softmax(logits / T, -1))
        return values.sum(dtype=torch.float64) * T**2, gradient.mul_(T)


Soft = DenseTerm | MatchingTerm | SparseTerm


class Terms(NamedTuple):
    """What is computed for each row, and what the sums are divided by."""

    soft: Soft | None
    """None: no soft term"""
    labels: Tensor | None
    """(examples,), -1 without a label or where masked; None: no hard term"""
    where: Tensor | None
    """(examples,), False for masked rows"""
    num_soft: Tensor | int
    num_hard: Tensor | int


def pays(logits: Tensor) -> bool:
    """Whether to compute the loss of these logits in pieces: they are wide, and torch transforms no function."""
    return logits.numel() >= WIDE and not _is_transformed()


def _is_transformed() -> bool:
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def sum_where_likely(products: Tensor, probs: Tensor, summed: Callable[[Tensor], Tensor] = Tensor.sum) -> Tensor:
    """sum_i p_i log q_i over the classes with p_i > 0, of all rows.

    A class that is impossible to the student, with a logit of -inf, adds nothing where it has no probability: the
    product of the two is NaN.

    Args:
        products: p_i log q_i, (..., classes).
        probs: p_i, (..., classes).
        summed: how to sum the products.
    """
    total = summed(products)
    return total if is_known_finite(total) else summed(products.masked_fill(probs == 0, 0.0))


def is_known_finite(value: Tensor) -> bool:
    """Whether a scalar is finite; False too where a look at it waits for a device, or stops a transform of torch.

    It saves what a mask costs, as much time as the rest of the loss, where no logit is infinite.
    """
    can_look = type(value) is Tensor and value.device.type == "cpu" and not _is_transformed()
    return can_look and math.isfinite(value.item())


def _sum_of_rows(products: Tensor) -> Tensor:
    # A row is summed in float32 by torch's pairwise sum; a matrix-vector product would lose two digits.
    return products.sum(-1).sum(dtype=torch.float64)


def pieces(num_rows: int, rows_at_once: int) -> Iterator[slice]:
    """Slices of rows."""
    return (slice(start, min(start + rows_at_once, num_rows)) for start in range(0, num_rows, rows_at_once))


def sums_in_pieces(logits: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """The soft and the hard term, each summed over the rows and divided by its number.

    Args:
        logits: (examples, classes), in any precision; the sums are float32 (float64 for float64).
        terms: what to compute.

    Returns:
        Two scalars, each with a first derivative; 0 for a term that is not computed.
    """
    if terms.labels is not None and len(terms.labels):
        low, high = int(terms.labels.min()), int(terms.labels.max())
        if low < -1 or high >= logits.shape[1]:
            raise IndexError(f"label {low if low < -1 else high} is out of bounds of {logits.shape[1]} classes")
    apply: Any = _SumsInPieces.apply
    soft, hard = apply(logits, terms)
    return soft, hard


class _SumsInPieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
        given = (terms.labels, terms.where, *(terms.soft.sources if terms.soft is not None else ()))
        # The backward pass computes from these again: torch refuses it where one was changed in place.
        ctx.save_for_backward(logits, *given)
        ctx.terms = terms
        soft, hard = (torch.zeros((), dtype=torch.float64, device=logits.device) for _ in range(2))
        for rows, piece in _pieces_of(logits, terms.where):
            if terms.soft is not None:
                soft += terms.soft.value(piece, rows)
            if terms.labels is not None:
                hard += hard_value(torch.log_softmax(piece, -1), terms.labels[rows])
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return (soft / terms.num_soft).to(dtype), (hard / terms.num_hard).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise UsageError(
                f"distillation_loss: from {WIDE:,} logits on there are no second derivatives; "
                "leave create_graph out, or compute the loss of fewer examples at a time"
            )
        logits = ctx.saved_tensors[0]
        terms: Terms = ctx.terms
        soft, hard = gradients[0] / terms.num_soft, gradients[1] / terms.num_hard
        gradient = torch.empty_like(logits)
        for rows, piece in _pieces_of(logits, terms.where):
            found = torch.zeros_like(piece) if terms.soft is None else terms.soft.gradient(piece, rows).mul_(soft)
            if terms.labels is not None:
                found.add_(hard_gradient_(torch.softmax(piece, -1), terms.labels[rows]).mul_(hard))
            gradient[rows] = found if terms.where is None else found.masked_fill_(~terms.where[rows, None], 0.0)
        return gradient, None


def _pieces_of(logits: Tensor, where: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their logits, at least float32; masked ones are 0, so that they add no NaN."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    for rows in pieces(len(logits), max(PIECE // logits.shape[1], 1)):
        piece = logits[rows].to(dtype)
        yield rows, piece if where is None else piece.masked_fill(~where[rows, None], 0.0)


def hard_value(log_probs: Tensor, labels: Tensor) -> Tensor:
    """-sum log q_label over the rows with a label, in float64."""
    picked = log_probs.gather(-1, labels.clamp(min=0)[:, None])[:, 0]
    return -picked.masked_fill(labels < 0, 0.0).sum(dtype=torch.float64)


def hard_gradient_(probs: Tensor, labels: Tensor) -> Tensor:
    """q - label of each row, in place; 0 in rows without a label."""
    labelled = (labels >= 0)[:, None]
    probs.mul_(labelled)
    return probs.scatter_add_(-1, labels.clamp(min=0)[:, None], -labelled.to(probs.dtype))
