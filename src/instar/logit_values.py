"""What rows of logits may hold. Probabilities, NaN and rows of zeros in their place are refused by name."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from instar.errors import DataWarning, TrainingError, UsageError

_FEW, _FEW_SHARE = 2, 0.01  # rows of zeros that nobody asks about: a blank picture, for a network without biases
_TOLERANCE = 1e-2  # of the sum of a row of probabilities: in half precision, or rounded to two or three digits
SMALLEST_PROBABILITY = 1e-6
"""What a probability of 0 counts as: a forest of 500 trees cannot tell 0 from less than 1/500."""


def are_distributions(rows: Tensor) -> Tensor:
    """Which rows are distributions: (examples,), bool. Not negative, and with a sum of 1 up to rounding.

    Args:
        rows: (examples, classes).

    Example:
        >>> are_distributions(torch.tensor([[0.9, 0.1], [3.0, -2.0], [0.0, 0.0]]))
        tensor([ True, False, False])
    """
    return (rows.amin(-1) >= 0) & ((rows.sum(-1, dtype=torch.float64) - 1).abs() <= _TOLERANCE)


def refuse_probabilities(what: str, rows: Tensor) -> None:
    """Refuse probabilities in the place of logits: of ten classes, the softmax makes 0.23 of 0.98.

    Two different rows of logits that both add up to 1 are no accident. A single row says nothing, rows of zeros
    neither.

    Args:
        what: where the rows come from, for the message.
        rows: (examples, classes).

    Raises:
        UsageError: the rows are probabilities.
    """
    if rows.dim() != 2 or not bool((rows >= 0).all()):
        return
    filled = rows[rows.any(-1)]
    if len(filled) and bool(are_distributions(filled).all()) and bool((filled != filled[0]).any()):
        raise UsageError(
            f"{what}: found probabilities (no number is negative, each row adds up to 1), expected logits; leave "
            "out the softmax, or take the logarithm: probs.clamp(min=1e-30).log()"
        )


def check_teacher_logits(what: str, rows: Tensor, *, temperature: float = 1.0) -> None:
    """Refuse logits that make no soft targets.

    Args:
        what: where the rows come from, for the message.
        rows: (examples, classes); -infinity is a probability of 0.
        temperature: of the soft targets; `math.inf` matches the logits, which then have to be finite.

    Raises:
        UsageError: the rows are probabilities.
        TrainingError: a row holds NaN or infinity, or many rows are all zeros and no other has a negative number.
    """
    refuse_probabilities(what, rows)
    finite = rows.isfinite()
    right = finite if temperature == math.inf else (rows < math.inf) & finite.any(-1, keepdim=True)
    if not bool(right.all()):
        raise TrainingError(
            f"{what}: NaN or infinity in {_count(~right.all(-1))}; leave these examples out, or repair what gives "
            "them (the logarithm of 0 is -infinity: take probs.clamp(min=1e-30).log())"
        )
    empty = ~rows.any(-1)
    if _are_many(empty) and not bool((rows < 0).any()):  # votes of a tree that knows nothing of these examples
        raise TrainingError(
            f"{what}: nothing but zeros in {_count(empty)}; leave these examples out, or repair what gives them"
        )


def warn_of_zeros(what: str, rows: Tensor) -> None:
    """Warn of logits of which many rows are all zeros while others are not, as in an array that was not filled.

    Args:
        what: where the rows come from, for the message.
        rows: (examples, classes).
    """
    empty = ~rows.any(-1)
    if _are_many(empty):
        cure = "leave these examples out, or a student is taught that all classes are equally likely there"
        warnings.warn(f"{what}: nothing but zeros in {_count(empty)}; {cure}", DataWarning, stacklevel=3)


def check_probabilities(what: str, rows: Tensor, *, may_be_empty: bool = False) -> None:
    """Refuse what is no distribution in the place of soft targets.

    Args:
        what: where the rows come from, for the message.
        rows: (examples, classes).
        may_be_empty: whether rows of zeros are possible among others.

    Raises:
        UsageError: a row is negative somewhere, or does not add up to 1.
        TrainingError: a row holds NaN, or some rows are all zeros while others are not.
    """
    if bool(rows.isnan().any()):
        raise TrainingError(f"{what}: NaN in {_count(rows.isnan().any(-1))}; repair what gives them")
    wrong = ~are_distributions(rows)
    if may_be_empty:
        wrong &= rows.any(-1)
    if bool(wrong.any()) and bool(rows.any()):  # the loss is 0 where all are zeros: the first step says so
        first = rows[wrong][0]
        raise UsageError(
            f"{what}: no probabilities in {_count(wrong)}, which adds up to {float(first.sum()):.3g} with "
            f"{float(first.min()):.3g} as its smallest number; make them with instar.soft_targets(logits, "
            "temperature), or leave these examples out"
        )


def logits_of_probabilities(what: str, probs: Tensor, *, made_at: float = 1.0) -> Tensor:
    """Logits whose softmax at `made_at` is the given probabilities.

    z_i = T log p_i,  from which softmax(z / T) = p, and softmax(z) are the probabilities at temperature 1

    A probability of 0 counts as 1e-6, or as the smallest one of its row where that is less.

    Args:
        what: where the rows come from, for the message.
        probs: (examples, classes); a row of zeros, of an example that nobody answered, gives logits of 0: all
            classes are equally likely.
        made_at: T, the temperature of the probabilities.

    Returns:
        (examples, classes), float32.

    Raises:
        UsageError: the temperature is not finite and above 0, or as `check_probabilities`.
        TrainingError: a row holds NaN.

    Example:
        >>> logits = logits_of_probabilities("these", torch.tensor([[0.8, 0.2], [1.0, 0.0], [0.0, 0.0]]))
        >>> [[round(number, 3) for number in row] for row in logits.softmax(-1).tolist()]
        [[0.8, 0.2], [1.0, 0.0], [0.5, 0.5]]

    References:
        Hinton, Vinyals and Dean 2015, equation 1, solved for the logits (up to a constant for each row).
    """
    if not 0 < made_at < math.inf:
        raise UsageError(f"{what}: made at temperature {made_at:g}, expected finite and above 0")
    are_right = bool(are_distributions(probs).all())
    if not are_right:  # NaN, a sum, or rows of zeros alone
        check_probabilities(what, probs, may_be_empty=True)
    probs = probs.double()
    present = probs > 0
    smallest: Any = SMALLEST_PROBABILITY
    if bool((present & (probs < smallest)).any()):
        smallest = probs.where(present, smallest).amin(-1, keepdim=True).clamp(max=smallest)
    logits = probs.clamp(min=smallest).log_().mul_(made_at)
    return (logits if are_right else logits * present.any(-1, keepdim=True)).float()


def _are_many(empty: Tensor) -> bool:
    return int(empty.sum()) > max(_FEW, _FEW_SHARE * len(empty)) and not bool(empty.all())


def _count(chosen: Tensor) -> str:
    places = chosen.nonzero().flatten()
    return f"{len(places)} of {len(chosen)} rows, the first is row {int(places[0])}"
