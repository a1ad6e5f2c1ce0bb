"""Soft targets of which only a few classes are known: the top k, the mass of the others, and draws of these."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from instar.errors import UsageError

READINGS = ("tail", "drawn", "even")


@dataclass(frozen=True, eq=False, slots=True)
class SparseTargets:
    """The probabilities of a teacher's top k classes at a temperature, and the total mass r of all others.

    What the student is told of the others is the `reading`; N classes, the top k are K:

    tail:   H = -sum_K p_i log q_i - r log sum_others q_j         the others are one class
    drawn:  H = -sum_K p_i log q_i - r/n sum_draws log q_d        n classes drawn from the others
    even:   H = -sum_K p_i log q_i - r/(N-k) sum_others log q_j   each other class has the same mass

    The teacher itself is a minimum of `tail`, which leaves the shape of the rest to the student. `drawn` is
    unbiased, with the noise of the draws. `even` is biased and meant for few classes: at T = 2 and 131,072 of them
    a student that fits it perfectly still lacks 0.8 nats.

    Args:
        classes: (..., k) integers, all different in a row.
        probs: (..., k), the teacher's probabilities of these classes at the temperature.
        rest: (...), the total probability of all other classes at the temperature.
        temperature: T, finite, above 0.
        drawn: (..., n) integers, classes outside the top k drawn with the teacher's probabilities at T, with
            replacement.
        reading: "tail", "drawn" or "even"; by default "drawn" where there are draws, else "tail".

    Raises:
        UsageError: shapes that do not fit together, an unknown reading, or "drawn" without draws.

    Example:
        >>> teacher = torch.tensor([[6.0, 2.0, 1.0, 0.0, -1.0]])
        >>> targets = SparseTargets.of_logits(teacher, 2.0, top_k=2)
        >>> targets.classes, round(float(targets.probs.sum() + targets.rest), 4)
        (tensor([[0, 1]]), 1.0)
    """

    classes: Tensor
    probs: Tensor
    rest: Tensor
    temperature: float
    drawn: Tensor | None = None
    reading: str = ""

    def __post_init__(self) -> None:
        has_draws = self.drawn is not None and self.drawn.shape[-1] > 0
        if not self.reading:
            object.__setattr__(self, "reading", "drawn" if has_draws else "tail")
        if self.classes.shape != self.probs.shape or self.classes.is_floating_point() or not self.classes.dim():
            raise UsageError(
                "SparseTargets: expected integer classes and probs of one shape (..., k), "
                f"found {self.classes.dtype} of shape {tuple(self.classes.shape)} and {tuple(self.probs.shape)}"
            )
        if self.rest.shape != self.classes.shape[:-1]:
            raise UsageError(
                f"SparseTargets: expected rest of shape {tuple(self.classes.shape[:-1])}, "
                f"found {tuple(self.rest.shape)}"
            )
        if not 0 < self.temperature < float("inf"):
            raise UsageError(
                f"SparseTargets: temperature must be a finite number above 0, not {self.temperature!r}"
            )
        if self.reading not in READINGS:
            raise UsageError(f"SparseTargets: reading is one of {', '.join(READINGS)}, not {self.reading!r}")
        if self.reading == "drawn" and not has_draws:
            raise UsageError(
                "SparseTargets: reading 'drawn' needs draws of the other classes; pass drawn, or use 'tail'"
            )
        if self.drawn is not None and self.drawn.shape[:-1] != self.rest.shape:
            raise UsageError(
                f"SparseTargets: expected drawn of shape {(*self.rest.shape, 'n')}, "
                f"found {tuple(self.drawn.shape)}"
            )

    @classmethod
    def of_logits(
        cls,
        logits: Tensor,
        temperature: float,
        *,
        top_k: int,
        num_draws: int = 0,
        reading: str = "",
        generator: torch.Generator | None = None,
    ) -> "SparseTargets":
        """The top k of a teacher's logits (..., classes), with draws of the others where they are wanted.

        Raises:
            UsageError: more classes than there are, or as `SparseTargets`.
        """
        if not 0 < top_k < logits.shape[-1]:
            raise UsageError(
                f"SparseTargets: top_k is {top_k}, expected from 1 to {logits.shape[-1] - 1}, the classes less one"
            )
        everything = torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
        probs, classes = everything.topk(top_k, dim=-1)
        others = everything.scatter(-1, classes, 0.0)
        drawn = None
        if num_draws:
            flat = others.reshape(-1, others.shape[-1])
            flat = torch.where(flat.sum(-1, keepdim=True) > 0, flat, 1.0)  # without mass any draw has no weight
            found = torch.multinomial(flat, num_draws, replacement=True, generator=generator)
            drawn = found.reshape(*others.shape[:-1], num_draws)
        return cls(classes, probs, others.sum(-1), temperature, drawn, reading)

    def __getitem__(self, index: slice | Tensor | int) -> "SparseTargets":
        """The targets of some examples, indexed along the first dimension."""
        drawn = None if self.drawn is None else self.drawn[index]
        return replace(
            self, classes=self.classes[index], probs=self.probs[index], rest=self.rest[index], drawn=drawn
        )

    def to(self, device: torch.device | str) -> "SparseTargets":
        """The targets on another device."""
        drawn = None if self.drawn is None else self.drawn.to(device)
        classes, probs, rest = (values.to(device) for values in (self.classes, self.probs, self.rest))
        return replace(self, classes=classes, probs=probs, rest=rest, drawn=drawn)

    def flat(self) -> "SparseTargets":
        """With one leading dimension, (examples, ...)."""
        drawn = None if self.drawn is None else self.drawn.reshape(-1, self.drawn.shape[-1])
        classes, probs = (values.reshape(-1, values.shape[-1]) for values in (self.classes, self.probs))
        rest = self.rest.flatten()
        return replace(self, classes=classes, probs=probs, rest=rest, drawn=drawn)

    def laid_out(self, num_classes: int) -> Tensor:
        """The probabilities of all classes, (..., N), where those outside the top k share their mass evenly.

        Example:
            >>> top = SparseTargets(torch.tensor([[2]]), torch.tensor([[0.7]]), torch.tensor([0.3]), 1.0)
            >>> top.laid_out(4)
            tensor([[0.1000, 0.1000, 0.7000, 0.1000]])
        """
        each = self.rest / max(num_classes - self.classes.shape[-1], 1)
        return each[..., None].expand(*each.shape, num_classes).scatter(-1, self.classes.long(), self.probs)

    def cross_entropies(self, log_probs: Tensor) -> Tensor:
        """H(p, q) of each row, (...), of the student's log-probabilities (..., N) at the temperature."""
        classes, rest = self.classes.long(), self.rest.to(log_probs.dtype)
        top = log_probs.gather(-1, classes)
        known = _times(self.probs.to(log_probs.dtype), top).sum(-1)
        if self.reading == "even":
            num_others = max(log_probs.shape[-1] - classes.shape[-1], 1)
            others = log_probs.sum(-1) - top.sum(-1)
            if bool(top.isneginf().any()):
                others = log_probs.scatter(-1, classes, 0.0).sum(-1)
            return -known - _times(rest / num_others, others)
        if self.reading == "drawn":
            assert self.drawn is not None
            return -known - _times(rest, log_probs.gather(-1, self.drawn.long()).mean(-1))
        # The sum of the others, and not 1 less the top k, which would cancel; without others there is no rest.
        others = log_probs.scatter(-1, classes, -math.inf).logsumexp(-1)
        return -known - _times(rest, others)

    def gradient_(self, log_probs: Tensor) -> Tensor:
        """The gradient of `cross_entropies` in the logits over T, (rows, N), in place of log q."""
        return self.both_(log_probs)[1]

    def both_(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """`cross_entropies` of each row, (rows,), and their gradient in the logits over T, in place of log q.

        tail: q_j m - p_j on K, q_j m - r q_j / sum_others q elsewhere;  m = sum_K p + r is 1 up to rounding
        """
        classes, rest, known = self.classes.long(), self.rest.to(log_probs.dtype), self.probs.to(log_probs.dtype)
        mass = known.sum(-1) + rest
        if self.reading == "tail":
            return self._tail_both_(log_probs, classes, rest, known, mass)
        values = self.cross_entropies(log_probs)
        probs = log_probs.exp_().mul_(mass[:, None])
        if self.reading == "drawn":
            assert self.drawn is not None
            share = (rest / self.drawn.shape[-1])[:, None].expand(self.drawn.shape)
            probs.scatter_add_(-1, self.drawn.long(), -share)
            return values, probs.scatter_add_(-1, classes, -known)
        each = rest / max(probs.shape[-1] - classes.shape[-1], 1)
        probs.sub_(each[:, None])
        return values, probs.scatter_add_(-1, classes, each[:, None] - known)

    @staticmethod
    def _tail_both_(
        log_probs: Tensor, classes: Tensor, rest: Tensor, known: Tensor, mass: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Relative to the likeliest of the others: a student may give them less than float32 holds."""
        finfo = torch.finfo(log_probs.dtype)
        top = log_probs.gather(-1, classes)
        others = log_probs.scatter_(-1, classes, -math.inf)
        largest = others.amax(-1, keepdim=True).clamp_(min=finfo.min)  # without others -inf
        others = others.sub_(largest).exp_()
        total = others.sum(-1, keepdim=True).clamp_(min=finfo.tiny)
        outside = (largest + total.log()).squeeze(-1)
        values = -_times(known, top).sum(-1) - _times(rest, outside)
        gradient = others.mul_(largest.exp() * mass[:, None] - rest[:, None] / total)
        return values, gradient.scatter_(-1, classes, top.exp() * mass[:, None] - known)

    def masked(self, where: Tensor) -> "SparseTargets":
        """With no mass in the rows where the mask is False."""
        probs, rest = self.probs.masked_fill(~where[:, None], 0.0), self.rest.masked_fill(~where, 0.0)
        return replace(self, probs=probs, rest=rest)


def _times(probs: Tensor, log_probs: Tensor) -> Tensor:
    """p log q, which is 0 where p is 0: there the student may find a class impossible."""
    return (probs * log_probs).masked_fill(probs == 0, 0.0)


def check_classes(caller: str, targets: SparseTargets, shape: Any) -> None:
    """Refuse targets of other examples, or of classes that the student lacks.

    Raises:
        UsageError: names expected and found.
    """
    *leading, num_classes = shape
    if tuple(targets.rest.shape) != tuple(leading):
        raise UsageError(
            f"{caller}: targets: expected the student's leading shape {tuple(leading)}, "
            f"found {tuple(targets.rest.shape)}; teacher and student must see the same examples"
        )
    for name, classes in (("classes", targets.classes), ("drawn", targets.drawn)):
        if classes is None or not classes.numel():
            continue
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= num_classes:
            raise UsageError(
                f"{caller}: targets.{name}: expected from 0 to {num_classes - 1}, the student's classes, "
                f"found {low} to {high}"
            )
    if targets.classes.shape[-1] > num_classes:
        raise UsageError(
            f"{caller}: targets have {targets.classes.shape[-1]} classes a row, the student {num_classes}"
        )
