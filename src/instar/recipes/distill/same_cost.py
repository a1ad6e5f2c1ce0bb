"""Whether to distil at all: how long a student on labels alone may train for what teacher and student cost.

The cost is that of training, in multiplications times examples; the search for learning rates, which both have, is
left out.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from instar.data import Splits
from instar.deploy import cost_of
from instar.errors import UsageError
from instar.naming import listed
from instar.recipes.loading import outline
from instar.recipes.rows import excludes_zero, interval
from instar.recipes.settings import FitSettings

GROWTH = 4
"""Each number of epochs that is tried is so many times the one before."""

_TRAINING = 3  # a backward pass counts as two forward passes

Row = dict[str, Any]


class Allowance(NamedTuple):
    """What teacher and student cost, and the epochs of labels alone that this buys."""

    teacher: float
    """multiplications: training, and its answers on the transfer set"""
    student: float
    """multiplications"""
    epochs: int
    """at most"""


def allowance(
    teachers: Sequence[FitSettings],
    student: FitSettings,
    splits: Splits,
    *,
    num_transfer: int,
    num_control: int,
    asked_each_epoch: bool,
) -> Allowance:
    """The epochs on labels alone that cost as much as training the teachers and distilling the student.

    epochs = (sum over teachers of 3 m_t n_t e_t + m_t a + 3 m_s n e) / (3 m_s n_c),  m the multiplications of a
    forward pass, e the epochs, n the examples; a the answers, n or n e; n_c the examples with labels

    Args:
        teachers: those that were trained in this run.
        student: its settings, with the epochs of the distilled one.
        splits: the data.
        num_transfer: examples that the distilled student learns from.
        num_control: examples that the student alone learns from.
        asked_each_epoch: whether the teachers answer in each epoch, as with views; else once.

    Raises:
        UsageError: the multiplications of a network are not known.
    """
    ours = _multiplications(student, splits)
    answers = num_transfer * (student.epochs if asked_each_epoch else 1)
    theirs = 0.0
    for one in teachers:
        theirs += _multiplications(one, splits) * (_TRAINING * len(splits.train) * one.epochs + answers)
    distilled = float(_TRAINING * ours * num_transfer * student.epochs)
    epochs = int((theirs + distilled) / (_TRAINING * ours * num_control))
    return Allowance(theirs, distilled, max(epochs, student.epochs))


def _multiplications(settings: FitSettings, splits: Splits) -> int:
    cost = cost_of(outline(settings, splits), splits.train.example_shape, repeats=1)
    if not cost.multiplications:
        raise UsageError(f"same_cost: the multiplications of {settings.network} are not known; leave it out")
    return cost.multiplications


def lengths(first: int, most: int) -> list[int]:
    """The numbers of epochs that are tried, one after another.

    Example:
        >>> lengths(60, 5000), lengths(60, 60)
        ([60, 240, 960, 3840, 5000], [60])
    """
    growing = itertools.takewhile(
        lambda epochs: epochs < most, (first * GROWTH**step for step in itertools.count())
    )
    return [*growing, most]


def verdict(about: Row, alone: Row, difference: Row) -> str:
    """Whether distilling paid, in a sentence.

    Args:
        about: `allowed_epochs`, and `tried_epochs` with those that were used, `epochs`.
        alone: the row of the student on labels alone at the same cost.
        difference: the distilled student minus it.
    """
    tried = [f"{epochs:,}" for epochs in about["tried_epochs"]]
    among = f"of {listed(tried)} validation chose {about['epochs']:,}" if len(tried) > 1 else ""
    allowed = f"up to {about['allowed_epochs']:,} epochs" + (f"; {among}" if among else "")
    count = f"{abs(difference['mean']):.1f} {'fewer' if difference['mean'] < 0 else 'more'}"
    sure, pays = "one seed, no interval", "undecided whether distilling pays"
    if difference["low"] is not None:
        sure = f"95 % interval {interval(difference, sign=True)}, {difference['n']} paired seeds"
    if excludes_zero(difference):
        pays = (
            "distilling pays" if difference["mean"] < 0 else "longer training on labels is better than distilling"
        )
    return (
        f"On labels alone for the cost of teacher and student together ({allowed}) {alone['network']} makes "
        f"{alone['mean']:.1f} errors, distilled {count} ({sure}): {pays}."
    )
