"""The distillation loss of a linear head over a vocabulary, fused with the head: the logits are never laid out."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from instar import row_pieces
from instar.arguments import check_head, check_mask, check_weights
from instar.errors import UsageError
from instar.losses import (
    NO_LABEL,
    AnyTargets,
    DistillationLoss,
    counted,
    label_row,
    labels_for,
    soft_rows,
    targets_for,
)
from instar.targets import HeadTargets

__all__ = ["HeadTargets", "linear_distillation_loss"]

_NAME = "linear_distillation_loss"

Watch = Callable[[slice, Tensor], object]

PIECE_BYTES = 2**28
"""Most memory of the three pieces of rows by classes that are laid out at a time."""

_USED_AGAIN = 23 * 2**20
"""Bytes of a piece. From 32 MiB on glibc gives memory back each time, and to get it again is a tenth of the time;
below it keeps what was freed, which at 31.5 MiB was a fifth more than needed."""


def linear_distillation_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: AnyTargets | None,
    labels: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    soft_weight: float = 1.0,
    hard_weight: float = 0.0,
    where: Tensor | None = None,
    num_soft: int | None = None,
    num_hard: int | None = None,
    rows_at_once: int | None = None,
    watch: Watch | None = None,
) -> DistillationLoss:
    """`distillation_loss(hidden @ weight.T + bias, targets, ...)` without ever laying out the logits.

    soft  = T^2 * mean over examples of H(p_T, q_T),   q_T = softmax((hidden @ weight.T + bias) / T)
    hard  = mean over labelled examples of H(label, q_1)
    total = soft_weight * soft + hard_weight * hard

    The weights, the means, the mask and T^2 are those of `distillation_loss`. The forward pass computes the logits
    of a few rows at a time, and their gradient. Beside the gradients of hidden, weight and bias this needs three
    pieces of rows_at_once x classes. Only `total` has a gradient: soft and hard are figures.

    Args:
        hidden: (..., width), the last hidden states of the student.
        weight: (classes, width), of the head.
        targets: `HeadTargets`, `SparseTargets`, `SoftTargets` or `LogitTargets` of the same examples and classes;
            None where `soft_weight` is 0.
        labels: (...), integers; -1 means no label: the example counts in the soft term only.
        bias: (classes,), of the head.
        soft_weight, hard_weight: weights of the terms, finite, 0 or more, not both 0.
        where: (...), bool; False masks an example in both terms.
        num_soft, num_hard: divisors, as in `distillation_loss`.
        rows_at_once: rows of a piece; by default an eighth of the width, from 64 to 256, and fewer where three
            pieces would take more than 256 MiB.
        watch: called in the forward pass with the rows of each piece and their logits, which it may neither change
            nor keep: for scores that need them.

    Returns:
        total, soft and hard: scalars in nats, at least float32. Products have the precision of `hidden`, sums are
        float32.

    Raises:
        UsageError: shapes that do not fit together, a term without its targets or labels, a class or a weight out
            of range, a second derivative, or inside `torch.func`.

    Example:
        >>> hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
        >>> teacher = HeadTargets(torch.randn(6, 8), torch.randn(50, 8), temperature=2.0)
        >>> loss = linear_distillation_loss(hidden, weight, teacher, torch.arange(6), hard_weight=0.1)
        >>> loss.total.backward()
        >>> weight.grad.shape
        torch.Size([50, 4])

    References:
        Hinton, Vinyals and Dean 2015, section 2 (the loss).
    """
    check_head("linear_distillation_loss", hidden, weight, bias)
    shape = torch.Size((*hidden.shape[:-1], len(weight)))
    check_weights(_NAME, soft_weight, hard_weight)
    check_mask(_NAME, shape[:-1], where)
    mask = None if where is None else where.flatten()
    soft = soft_rows(targets_for(_NAME, shape, targets), mask) if soft_weight else None
    row = _label_row(labels, shape, mask) if hard_weight else None
    flat = hidden.reshape(-1, hidden.shape[-1])
    terms = row_pieces.Terms(soft, row, mask, *counted(len(flat), row, mask, num_soft, num_hard))
    rows = _rows_at_once(*weight.shape) if rows_at_once is None else rows_at_once
    if rows < 1:
        raise UsageError(f"{_NAME}: rows_at_once is {rows}, expected at least 1")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise UsageError(f"{_NAME}: torch.func cannot go through it; use distillation_loss on the logits there")
    apply: Any = _FusedHead.apply
    return DistillationLoss(*apply(flat, weight, bias, terms, soft_weight, hard_weight, rows, watch))


class _FusedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        terms: row_pieces.Terms,
        soft_weight: float,
        hard_weight: float,
        rows_at_once: int,
        watch: Watch | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.how = (terms, soft_weight, hard_weight, rows_at_once)
        soft, hard, ctx.gradients = _compute(hidden, weight, bias, ctx.how, ctx.needs_input_grad[:3], watch)
        total = soft * soft_weight + hard * hard_weight
        ctx.mark_non_differentiable(soft, hard)
        return total, soft, hard

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UsageError(f"{_NAME}: there are no second derivatives; leave create_graph out")
        found = ctx.gradients
        if found is None:  # the graph is gone through again, and the first time has given the tensors away
            hidden, weight, bias = ctx.saved_tensors
            _, _, found = _compute(hidden, weight, bias, ctx.how, ctx.needs_input_grad[:3])
        ctx.gradients, scale = None, gradients[0]
        found = [one if one is None or bool(scale == 1) else one.mul_(scale) for one in found]
        return (*found, None, None, None, None, None)


def _compute(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    how: tuple[row_pieces.Terms, float, float, int],
    needed: tuple[bool, ...],
    watch: Watch | None = None,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Both terms, and the gradients of the total in hidden, weight and bias where they are needed."""
    terms, soft_weight, hard_weight, rows_at_once = how
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    head, offset = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    soft, hard = (torch.zeros((), dtype=torch.float64, device=hidden.device) for _ in range(2))
    soft_share, hard_share = (soft + soft_weight) / terms.num_soft, (hard + hard_weight) / terms.num_hard
    grads = _Gradients.zeros(hidden, weight, bias, needed, dtype)
    for rows in row_pieces.pieces(len(hidden), rows_at_once):
        states = _unmasked(hidden[rows], terms.where, rows)
        logits = _unmasked(functional.linear(states, head, offset).to(dtype), terms.where, rows)
        if watch is not None:
            watch(rows, logits.detach())
        found: list[Tensor] = []
        if terms.soft is not None and any(needed):
            value, gradient = terms.soft.both(logits, rows)
            found.append(gradient.mul_(soft_share))
            soft += value
        elif terms.soft is not None:
            soft += terms.soft.value(logits, rows)
        if terms.labels is not None:
            log_probs = torch.log_softmax(logits, -1)
            hard += row_pieces.hard_value(log_probs, terms.labels[rows])
            gradient = row_pieces.hard_gradient_(log_probs.exp_(), terms.labels[rows])
            found.append(gradient.mul_(hard_share))
        if any(needed):
            grads.add_(rows, states, head, found[0] if len(found) == 1 else found[0].add_(found[1]))
    sums = (soft / terms.num_soft).to(dtype), (hard / terms.num_hard).to(dtype)
    return *sums, grads.like(hidden, weight, bias)


def _unmasked(values: Tensor, where: Tensor | None, rows: slice) -> Tensor:
    return values if where is None else values.masked_fill(~where[rows, None], 0.0)


class _Gradients(NamedTuple):
    """Of hidden, weight and bias, where they are wanted; those of the head are summed in at least float32."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(
        cls, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: tuple[bool, ...], dtype: torch.dtype
    ) -> Self:
        values = (torch.empty_like(hidden), weight, bias)
        made = (
            torch.zeros_like(value, dtype=value.dtype if value is values[0] else dtype)
            if value is not None and want
            else None
            for value, want in zip(values, wanted, strict=True)
        )
        return cls(*made)

    def add_(self, rows: slice, hidden: Tensor, weight: Tensor, logits: Tensor) -> None:
        """Add those of a piece, given that of its logits (rows, classes)."""
        if self.bias is not None:
            self.bias.add_(logits.sum(0))
        factor = logits.to(weight.dtype)
        if self.hidden is not None:
            self.hidden[rows] = factor @ weight
        if self.weight is not None and self.weight.dtype == hidden.dtype:
            self.weight.addmm_(factor.T, hidden)
        elif self.weight is not None:
            self.weight.add_(factor.T @ hidden)

    def like(self, *inputs: Tensor | None) -> list[Tensor | None]:
        """In the precision of what they are gradients of."""
        pairs = zip(self, inputs, strict=True)
        return [None if found is None or one is None else found.to(one.dtype) for found, one in pairs]


def _label_row(labels: Tensor | None, shape: torch.Size, mask: Tensor | None) -> Tensor:
    row = label_row(labels_for(_NAME, shape[:-1], labels), mask)
    low, high = (int(row.min()), int(row.max())) if len(row) else (NO_LABEL, NO_LABEL)
    if low < NO_LABEL or high >= shape[-1]:
        raise UsageError(f"{_NAME}: labels: expected from -1 (none) to {shape[-1] - 1}, found {low} to {high}")
    return row


def _rows_at_once(num_classes: int, width: int) -> int:
    """More for a wider head, whose gradient is read and written once for each piece."""
    rows = max(min(min(max(width // 8, 64), 256), PIECE_BYTES // (3 * 4 * num_classes)), 1)
    fewer = _USED_AGAIN // (4 * num_classes)
    return fewer if 0.7 * rows < fewer < rows else rows
