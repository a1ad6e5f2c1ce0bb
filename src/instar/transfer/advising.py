"""The advisor's search: which cuts it tries, which treatments survive a round, and what a fit costs."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from instar.errors import UsageError
from instar.transfer.treatments import Treatment

SCRATCH = "baseB"


class Interval(NamedTuple):
    """A share of n and its interval, between 0 and 1."""

    share: float
    low: float
    high: float
    n: int


def wilson_interval(num_right: int, n: int) -> Interval:
    """The 95 % interval of a share from n independent trials: how far another test set would move an accuracy.

    Raises:
        UsageError: no trial, or more right than there are.

    Example:
        >>> [round(number, 3) for number in wilson_interval(90, 100)]
        [0.9, 0.826, 0.945, 100]

    References:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= num_right <= n or n == 0:
        raise UsageError(f"wilson_interval: {num_right} of {n} is no share")
    from scipy.stats import binomtest

    low, high = binomtest(num_right, n).proportion_ci(0.95, method="wilson")
    return Interval(num_right / n, float(low), float(high), n)


def promising_cuts(probe_accuracies: Mapping[int, float], num_cuts: int) -> list[int]:
    """The cuts with the most accurate linear probes, and always the deepest; among equals the deeper.

    Example:
        >>> promising_cuts({1: 0.5, 2: 0.8, 3: 0.8, 4: 0.6}, 2)
        [3, 4]
    """
    deepest = max(probe_accuracies)
    ranked = sorted(probe_accuracies, key=lambda n: (probe_accuracies[n], n), reverse=True)
    best = [n for n in ranked if n != deepest]
    return sorted([*best[: num_cuts - 1], deepest])


def candidates(cuts: Sequence[int]) -> list[Treatment | None]:
    """The treatments to try: frozen and fine-tuned at each cut, and None for training from scratch.

    Example:
        >>> [one.name if one else SCRATCH for one in candidates([2, 3])]
        ['A2B', 'A2B+', 'A3B', 'A3B+', 'baseB']
    """
    made = [Treatment("A", "B", n, fine_tune) for n in cuts for fine_tune in (False, True)]
    return [*made, None]


def survivors(ranked: Sequence[str], share: float) -> list[str]:
    """The first share of a ranking, rounded up: what goes into the next round.

    Example:
        >>> survivors(["A3B", "A3B+", "A2B", "baseB"], 1 / 3)
        ['A3B', 'A3B+']
    """
    return list(ranked[: max(1, math.ceil(share * len(ranked)))])


def fit_multiplications(
    whole: int, prefix: int, *, num_train: int, num_validation: int, epochs: int, frozen: bool, cached: bool
) -> int:
    """Multiplications of one fit; a backward pass counts as two forward passes.

    Args:
        whole: multiplications of one example through the network.
        prefix: multiplications of one example through the copied layers.
        num_train: training examples in each epoch.
        num_validation: validation examples after each epoch.
        epochs: the number of epochs.
        frozen: whether the copied layers are frozen, without a backward pass.
        cached: whether the features of frozen layers are computed once.

    Example:
        >>> options = {"num_train": 10, "num_validation": 5, "epochs": 2}
        >>> fit_multiplications(100, 60, **options, frozen=False, cached=False)
        7000
        >>> fit_multiplications(100, 60, **options, frozen=True, cached=True)
        3700
    """
    if not frozen:
        return epochs * whole * (3 * num_train + num_validation)
    rest = epochs * (whole - prefix) * (3 * num_train + num_validation)
    return rest + prefix * (num_train + num_validation) * (1 if cached else epochs)
