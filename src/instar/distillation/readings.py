"""What the readings of the classes outside a teacher's top k leave out, measured in rows known in full."""

from dataclasses import dataclass

import torch
from torch import Tensor

from instar.sparse_targets import SparseTargets

STUDENTS = {"half trained": (0.85, 1.0), "well trained": (1.0, 0.3)}
"""Stand-ins for a student, z = a v + s noise of the teacher's logits v: (a, s)."""


@dataclass(frozen=True)
class ReadingError:
    """What one reading leaves out at a temperature, over rows whose logits are known in full.

    Args:
        reading: "tail", "drawn" or "even".
        temperature: of the targets.
        student: whose gradient it is, a stand-in by its name in `STUDENTS`.
        bias: of the gradient in the logits, relative to that with all classes; more rows do not average it away.
        noise: of the draws in the gradient of one row, relative likewise; it falls with the root of the rows.
        floor_nats: KL divergence of the teacher to the nearest student that fits the targets perfectly.
        rows: the number of rows.
    """

    reading: str
    temperature: float
    student: str
    bias: float
    noise: float
    floor_nats: float
    rows: int


def left_out(logits: Tensor, targets: SparseTargets) -> list[ReadingError]:
    """Measure a reading against all logits, in float64.

    With the gradient g = q - p with all classes, g' that of the targets, and E its mean over draws:

    bias  = rms |E g' - g| / rms |g|,   noise = rms |g' - E g'| / rms |g|     (rms over the rows)
    floor = mean KL(p, p'),  p' = the minimum of the targets that is nearest to p

    Args:
        logits: (rows, classes), of the teacher.
        targets: (rows, ...), what is stored of them.

    Returns:
        One for each stand-in of `STUDENTS`.

    Example:
        >>> teacher = torch.tensor([[6.0, 2.0, 1.0, 0.0, -1.0]])
        >>> found = left_out(teacher, SparseTargets.of_logits(teacher, 2.0, top_k=2, reading="even"))
        >>> [(one.student, round(one.bias, 2), round(one.floor_nats, 3)) for one in found]
        [('half trained', 0.25, 0.01), ('well trained', 0.46, 0.01)]
    """
    generator = torch.Generator().manual_seed(0)
    sums = {student: torch.zeros(3, dtype=torch.float64) for student in STUDENTS}
    floor = 0.0
    for row, teacher in enumerate(logits):
        known, teacher = targets[row : row + 1], teacher[None].double()
        log_p = torch.log_softmax(teacher / known.temperature, -1)
        expected = _expected(known, log_p)
        nearest = _even(known, log_p) if known.reading == "even" else expected
        nearest = nearest / nearest.sum()  # 1 up to rounding
        floor += max(float((log_p.exp() * (log_p - nearest.log())).nan_to_num(0.0).sum()), 0.0)
        noise = torch.randn(teacher.shape, dtype=torch.float64, generator=generator)
        for student, (share, spread) in STUDENTS.items():
            log_q = torch.log_softmax((share * teacher + spread * noise) / known.temperature, -1)
            full, found = log_q.exp() - log_p.exp(), known.gradient_(log_q.clone())
            mean = found if known.reading != "drawn" else log_q.exp() * expected.sum() - expected
            off = (mean - full).square().sum(), (found - mean).square().sum(), full.square().sum()
            sums[student] += torch.stack(off)
    return [
        ReadingError(
            targets.reading,
            targets.temperature,
            student,
            bias=float((bias / whole).sqrt()),
            noise=float((noisy / whole).sqrt()),
            floor_nats=floor / len(logits),
            rows=len(logits),
        )
        for student, (bias, noisy, whole) in sums.items()
    ]


def _expected(targets: SparseTargets, log_p: Tensor) -> Tensor:
    """The stored top k, and of the others the stored mass in the teacher's shape."""
    classes, known = targets.classes.long(), targets.probs.double()
    others = log_p.exp().scatter(-1, classes, 0.0)
    shares = others / others.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return (shares * targets.rest.double()[:, None]).scatter(-1, classes, known)


def _even(targets: SparseTargets, log_p: Tensor) -> Tensor:
    classes, known = targets.classes.long(), targets.probs.double()
    each = targets.rest.double()[:, None] / max(log_p.shape[-1] - classes.shape[-1], 1)
    return each.expand(log_p.shape).scatter(-1, classes, known)
