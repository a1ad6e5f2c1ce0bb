"""Confidence intervals over seeds and over test examples, and tests against chance."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from instar.errors import UsageError


class SeedStatistics(NamedTuple):
    """Statistics of a number over n independent seeds; `sd`, `low` and `high` are None where n is 1."""

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None


class BootstrapInterval(NamedTuple):
    """A mean paired difference over n test examples, with its percentile interval."""

    mean: float
    low: float
    high: float
    n: int


def is_above_chance(num_right: int, num_examples: int, num_commonest: int, *, level: float = 0.99) -> bool:
    """Whether so many right answers are more than always answering the commonest class would give by luck.

    P(X >= num_right) <= 1 - level,  X ~ Binomial(num_examples, num_commonest / num_examples)

    No error at all is above chance, however few the examples; with one class alone, nothing can be told from it.

    Args:
        num_right: correctly classified examples.
        num_examples: all examples.
        num_commonest: those of the commonest class.
        level: of the one-sided binomial test, between 0 and 1.

    Raises:
        UsageError: counts that do not fit each other, or a level out of range.

    Example:
        >>> is_above_chance(500, 10_000, 100)  # 5 % of a hundred balanced classes
        True
        >>> is_above_chance(1_010, 10_000, 1_000), is_above_chance(52, 204, 51)
        (False, False)
    """
    _check_level("is_above_chance", level)
    if not 0 <= num_right <= num_examples or not 0 < num_commonest <= num_examples:
        raise UsageError(
            f"is_above_chance: {num_right} right and {num_commonest} of the commonest class among {num_examples}"
        )
    if num_right == num_examples or num_commonest == num_examples:
        return True
    from scipy.special import bdtrc

    by_luck = bdtrc(num_right - 1, num_examples, num_commonest / num_examples) if num_right else 1.0
    return bool(by_luck <= 1 - level)


def is_likelier_than_shares(nll: Tensor, labels: Tensor, *, level: float = 0.99) -> bool:
    """Whether predictions say more of the labels than the shares of the classes do.

    mean(d) > t_{n-1} sd(d) / sqrt(n),  mean(d) > mean(-log share_label) / 100,  d = -log share_label - nll

    Where a class is rare, a good fit may always answer another: it has no more right answers than guessing, and is
    likelier all the same. No constant prediction is likelier than the shares.

    Args:
        nll: (examples,), negative log-likelihoods (nats).
        labels: (examples,), from 0.
        level: of the one-sided t-test, between 0 and 1.

    Raises:
        UsageError: other shapes, or a level out of range.

    Example:
        >>> import torch
        >>> labels = torch.tensor(9 * [0] + [1]).repeat(20)
        >>> logits = torch.stack([2 - labels, labels], 1).float()  # 0 is likely for all, less so where it is 1
        >>> nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        >>> is_likelier_than_shares(nll, labels)
        True
    """
    _check_level("is_likelier_than_shares", level)
    if nll.dim() != 1 or nll.shape != labels.shape:
        found = f"found {tuple(nll.shape)} and {tuple(labels.shape)}"
        raise UsageError(f"is_likelier_than_shares: expected (examples,) twice, {found}")
    n = len(labels)
    if n < 2:
        return False
    from scipy.special import stdtrit

    by_shares = -(labels.bincount().double() / n).log()[labels]
    gain = by_shares - nll
    noise = float(stdtrit(n - 1, level)) * gain.std() / math.sqrt(n)
    return bool(gain.mean() > noise and gain.mean() > by_shares.mean() / 100)


def over_seeds(values: Sequence[float], *, level: float = 0.95) -> SeedStatistics:
    """Mean, standard deviation and confidence interval of a number over independent seeds.

    low, high = mean -/+ t_{n-1} sd / sqrt(n),  sd with n - 1 in the denominator

    Args:
        values: one for each seed.
        level: confidence level of the interval, between 0 and 1.

    Raises:
        UsageError: no value, a value that is not finite, or a level out of range.

    Example:
        >>> [round(number, 2) for number in over_seeds([70.0, 74.0, 78.0])]
        [74.0, 4.0, 3, 64.06, 83.94]
    """
    _check_level("over_seeds", level)
    n = len(values)
    if n == 0 or not all(math.isfinite(value) for value in values):
        raise UsageError(f"over_seeds: expected finite numbers, one for each seed, found {list(values)}")
    mean = statistics.fmean(values)
    if n == 1:
        return SeedStatistics(mean, None, 1, None, None)
    from scipy.special import stdtrit

    sd = statistics.stdev(values)
    half_width = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return SeedStatistics(mean, sd, n, mean - half_width, mean + half_width)


def paired_difference(
    values: Sequence[float], controls: Sequence[float], *, level: float = 0.95
) -> SeedStatistics:
    """Statistics over seeds of value - control, each value paired with the control of its seed.

    Args:
        values: one for each seed.
        controls: the controls of the same seeds, in the same order.
        level: confidence level of the interval, between 0 and 1.

    Raises:
        UsageError: the numbers of controls and values differ, or as `over_seeds`.

    Example:
        >>> paired_difference([71.0, 74.0, 80.0], [140.0, 145.0, 150.0]).mean
        -70.0
    """
    if len(values) != len(controls):
        raise UsageError(
            f"paired_difference: expected a control for each of the {len(values)} values, found {len(controls)}; "
            "pair the runs by seed"
        )
    return over_seeds([value - control for value, control in zip(values, controls, strict=True)], level=level)


def bootstrap_difference(
    errors_a: Tensor, errors_b: Tensor, *, num_resamples: int = 10_000, level: float = 0.95, seed: int
) -> BootstrapInterval:
    """The difference of two error rates with its bootstrap interval over test examples.

    d_i = mean over seeds of errors_a - mean over seeds of errors_b on example i; the interval is between the
    (1-level)/2 and (1+level)/2 quantiles of the mean of n of the d_i, drawn with replacement. It covers the
    variation over test sets, for these networks; `paired_difference` covers the variation over seeds.

    Args:
        errors_a: (n,) or (seeds, n), bool or 0 and 1: `example_errors` on the same n examples.
        errors_b: as `errors_a`; its number of seeds may differ.
        num_resamples: number of draws of n examples.
        level: confidence level of the interval, between 0 and 1.
        seed: of the draws.

    Raises:
        UsageError: the numbers of examples differ, values other than 0 and 1, no example, or an option out of
            range.

    Example:
        >>> import torch
        >>> a, b = torch.arange(100) < 10, torch.arange(100) < 20
        >>> bootstrap_difference(a, b, seed=0)
        BootstrapInterval(mean=-0.1, low=-0.16, high=-0.05, n=100)
    """
    import numpy as np

    _check_level("bootstrap_difference", level)
    if num_resamples < 1:
        raise UsageError(f"bootstrap_difference: num_resamples must be 1 or more, not {num_resamples}")
    a, b = _error_indicators(errors_a), _error_indicators(errors_b)
    n = a.shape[1]
    if b.shape[1] != n:
        raise UsageError(f"bootstrap_difference: expected the same examples, found {n} and {b.shape[1]}")
    # d_i takes few values, so a resample is a multinomial draw of their frequencies: the same distribution as
    # drawing n examples, without num_resamples x n numbers. As integers, equal values compare equal.
    scaled = (a.sum(0) * len(b) - b.sum(0) * len(a)).numpy()
    unit = len(a) * len(b) * n
    values, counts = np.unique(scaled, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=num_resamples)
    low, high = np.quantile(draws @ values / unit, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(int(scaled.sum()) / unit, float(low), float(high), n)


def bootstrap_mean(
    sums: Tensor, counts: Tensor, *, num_resamples: int = 10_000, level: float = 0.95, seed: int
) -> BootstrapInterval:
    """A mean over tokens with its bootstrap interval over documents, whose tokens are not independent.

    m = sum_d s_d / sum_d n_d; the interval is between quantiles of m over documents d drawn with replacement.

    Args:
        sums: (documents,) or (seeds, documents), of the values of each document's tokens; over seeds the mean.
        counts: (documents,), its tokens.
        num_resamples: number of draws.
        level: confidence level of the interval, between 0 and 1.
        seed: of the draws.

    Raises:
        UsageError: shapes that do not match, no token, or an option out of range.

    Example:
        >>> import torch
        >>> bootstrap_mean(torch.tensor([2.0, 8.0]), torch.tensor([1, 3]), seed=0)
        BootstrapInterval(mean=2.5, low=2.0, high=2.6666666666666665, n=2)
    """
    import numpy as np

    _check_level("bootstrap_mean", level)
    values = sums.detach().cpu().double()
    values, numbers = values if values.dim() == 1 else values.mean(0), counts.detach().cpu().double()
    if values.shape != numbers.shape or num_resamples < 1 or not float(numbers.sum()) > 0:
        raise UsageError(
            f"bootstrap_mean: expected sums and counts of the same documents with a token, found "
            f"{tuple(sums.shape)} and {tuple(counts.shape)}"
        )
    n = len(values)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=num_resamples)
    means = (draws @ values.numpy()) / np.maximum(draws @ numbers.numpy(), 1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(float(values.sum() / numbers.sum()), float(low), float(high), n)


def _error_indicators(values: Tensor) -> Tensor:
    """(seeds, n), int64 on the CPU."""
    if values.dim() not in (1, 2) or values.numel() == 0 or not ((values == 0) | (values == 1)).all():
        raise UsageError(
            "bootstrap_difference: expected error indicators of shape (n,) or (seeds, n), each 0 or 1, "
            f"found {values.dtype} of shape {tuple(values.shape)}"
        )
    values = values.cpu().long()
    return values[None] if values.dim() == 1 else values


def _check_level(caller: str, level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"{caller}: level must be between 0 and 1, not {level}")
