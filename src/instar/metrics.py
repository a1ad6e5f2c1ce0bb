"""Errors, likelihood and calibration, agreement with a teacher, and confidence intervals.

All functions take any leading shape, with the classes last, on any device, and skip examples whose label is -1.
Counts are int64 tensors, which can be added over batches; means are Python floats. No result has a gradient.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from instar.errors import UsageError
from instar.losses import NO_LABEL, at_least_float32

_NO_PREDICTION = -2  # the class of logits with NaN, which are an error for every label


class CalibrationBins(NamedTuple):
    """Examples binned by the confidence of their prediction, without empty bins.

    Each field is (bins,), float64: the means over a bin, between 0 and 1, and its number of examples.
    """

    confidence: Tensor
    accuracy: Tensor
    num_examples: Tensor


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


def example_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Which labelled examples are classified wrongly, for `bootstrap_difference`.

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.

    Returns:
        (labelled examples,), bool, in the order of the labels. Among equal logits the first class is predicted; an
        example whose logits hold a NaN is wrong.

    Raises:
        UsageError: labels that do not match the logits.

    Example:
        >>> example_errors(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, -1, 0]))
        tensor([False,  True])
    """
    logits, labels = _labelled("example_errors", logits, labels)
    return _predicted(logits) != labels


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of labelled examples that are classified wrongly; cheap, and without waiting for the device.

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.

    Returns:
        A scalar, int64. Among equal logits the first class is predicted; logits that hold a NaN are wrong.

    Raises:
        UsageError: labels of another shape or type.

    Example:
        >>> errors(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, -1, 0]))
        tensor(1)
    """
    rows, labels = _flat("errors", logits, labels)
    return ((_predicted(rows) != labels) & (labels != NO_LABEL)).sum()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of labelled examples whose label has the highest logit, between 0 and 1.

    Raises:
        UsageError: labels that do not match the logits, or no labelled example.

    Example:
        >>> accuracy(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))
        0.5
    """
    return _mean("accuracy", ~example_errors(logits, labels))


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """The share of labelled examples whose label is among the k highest logits, between 0 and 1.

    Raises:
        UsageError: k below 1 or above the number of classes, labels that do not match, or no labelled example.

    Example:
        >>> top_k_accuracy(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]), k=2)
        0.5
    """
    logits, labels = _labelled("top_k_accuracy", logits, labels)
    num_classes = logits.shape[-1]
    if not 1 <= k <= num_classes:
        raise UsageError(f"top_k_accuracy: k must be between 1 and the {num_classes} classes, not {k}")
    label = labels[:, None]
    label_logit = logits.gather(-1, label)
    classes = torch.arange(num_classes, device=logits.device)
    ahead = (logits > label_logit) | ((logits == label_logit) & (classes < label))  # ties: the first class first
    return _mean("top_k_accuracy", (ahead.sum(-1) < k) & ~logits.isnan().any(-1))


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log q_label over the labelled examples, in nats, at temperature 1.

    Raises:
        UsageError: labels that do not match the logits, or no labelled example.

    Example:
        >>> round(negative_log_likelihood(torch.zeros(4, 10), torch.tensor([0, 1, 2, -1])), 4)
        2.3026
    """
    logits, labels = _labelled("negative_log_likelihood", logits, labels)
    logits = at_least_float32(logits)
    return _mean("negative_log_likelihood", F.cross_entropy(logits, labels, reduction="none"))


def calibration_bins(
    logits: Tensor, labels: Tensor, *, num_bins: int = 15, bins: str = "adaptive"
) -> CalibrationBins:
    """The labelled examples, binned by the confidence max_i q_i of their prediction: a reliability diagram.

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.
        num_bins: 1 or more.
        bins: "adaptive": bins of equally many examples, in order of confidence; examples of equal confidence get
            their mean accuracy, so that their order does not matter. Or "equal-width": bin m holds the confidences
            in ((m-1)/M, m/M].

    Raises:
        UsageError: num_bins below 1, other bins, labels that do not match, or no labelled example.

    Example:
        >>> calibration_bins(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]), num_bins=1).accuracy
        tensor([0.7500], dtype=torch.float64)
    """
    if num_bins < 1:
        raise UsageError(f"calibration: num_bins must be 1 or more, not {num_bins}")
    if bins not in ("adaptive", "equal-width"):
        raise UsageError(f"calibration: bins are 'adaptive' or 'equal-width', not {bins!r}")
    logits, labels = _labelled("calibration", logits, labels)
    _check_some("calibration", labels)
    confidence = torch.softmax(at_least_float32(logits), -1).amax(-1).cpu().double()
    correct = (_predicted(logits) == labels).cpu().double()
    if bins == "adaptive":
        confidence, tie = torch.unique(confidence, return_inverse=True)
        num_tied = tie.bincount()
        correct = (tie.bincount(correct) / num_tied).repeat_interleave(num_tied)
        confidence = confidence.repeat_interleave(num_tied)
        index = torch.arange(len(confidence)) * num_bins // len(confidence)
    else:
        index = torch.bucketize(confidence, torch.arange(1, num_bins, dtype=torch.float64) / num_bins)
    count = index.bincount(minlength=num_bins).double()
    total = torch.stack([index.bincount(values, num_bins) for values in (confidence, correct)])
    mean_confidence, mean_accuracy = total[:, count > 0] / count[count > 0]
    return CalibrationBins(mean_confidence, mean_accuracy, count[count > 0])


def calibration_error(logits: Tensor, labels: Tensor, *, num_bins: int = 15, bins: str = "adaptive") -> float:
    """The expected calibration error: mean distance of confidence from accuracy, between 0 and 1.

    ECE = sum_b n_b/n |accuracy_b - confidence_b|,  bins b over the confidence max_i q_i

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.
        num_bins: 1 or more. More bins give a larger error, more of which is noise: compare at the same number.
        bins: "adaptive" or "equal-width", as in `calibration_bins`.

    Raises:
        UsageError: num_bins below 1, other bins, labels that do not match, or no labelled example.

    Example:
        >>> calibration_error(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]), num_bins=1)
        0.25

    References:
        Guo et al. 2017 (arXiv 1706.04599), equation 3 (equal-width); Nguyen and O'Connor 2015 (arXiv
        1508.05154) (the adaptive bins; their error is of squares).
    """
    confidence, correct, num_examples = calibration_bins(logits, labels, num_bins=num_bins, bins=bins)
    return float((num_examples * (correct - confidence).abs()).sum() / num_examples.sum())


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """The share of examples for which student and teacher predict the same class, between 0 and 1.

    Raises:
        UsageError: the shapes differ, or there is no example.

    Example:
        >>> agreement(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[0.0, 9.0], [0.0, 1.0]]))
        0.5

    References:
        Stanton et al. 2021 (arXiv 2106.05945): fidelity is not accuracy.
    """
    student_logits, teacher_logits = _pair("agreement", student_logits, teacher_logits)
    predicted = _predicted(student_logits)
    return _mean("agreement", (predicted == _predicted(teacher_logits)) & (predicted != _NO_PREDICTION))


def kl_from_teacher(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> float:
    """KL divergence of the student's distribution from the teacher's, in nats, without the factor T^2 of the loss.

    KL(p || q) = mean over examples of sum_i p_i (log p_i - log q_i),  p the teacher's, q the student's, both at T

    Raises:
        UsageError: the shapes differ, there is no example, or the temperature is not finite and above 0.

    Example:
        >>> round(kl_from_teacher(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]])), 4)  # log 2
        0.6931

    References:
        Stanton et al. 2021 (arXiv 2106.05945).
    """
    if not 0 < temperature < math.inf:
        raise UsageError(f"kl_from_teacher: temperature must be a finite number above 0, not {temperature!r}")
    student_logits, teacher_logits = _pair("kl_from_teacher", student_logits, teacher_logits)
    log_q = torch.log_softmax(at_least_float32(student_logits) / temperature, -1)
    log_p = torch.log_softmax(at_least_float32(teacher_logits) / temperature, -1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
    return _mean("kl_from_teacher", divergence.clamp(min=0))  # negative values are rounding errors


def errors_by_class(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The number of errors on the labelled examples of each class.

    Returns:
        (num_classes,), int64, indexed by label.

    Raises:
        UsageError: labels that do not match, or num_classes below the number of logits.

    Example:
        >>> errors_by_class(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]), 2)
        tensor([1, 0])
    """
    logits, labels = _labelled("errors_by_class", logits, labels)
    _check_num_classes("errors_by_class", logits, num_classes)
    return labels[_predicted(logits) != labels].bincount(minlength=num_classes)


def confusion(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The confusion matrix: numbers of examples by label and prediction.

    Returns:
        (num_classes, num_classes), int64: rows are labels, columns predictions. Examples whose logits hold a
        NaN have no prediction and are not counted.

    Raises:
        UsageError: labels that do not match, or num_classes below the number of logits.

    Example:
        >>> confusion(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]), 2)
        tensor([[0, 1],
                [0, 1]])
    """
    logits, labels = _labelled("confusion", logits, labels)
    _check_num_classes("confusion", logits, num_classes)
    predicted = _predicted(logits)
    cells = (labels * num_classes + predicted)[predicted != _NO_PREDICTION]
    return cells.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


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
        >>> labels = torch.tensor(9 * [0] + [1]).repeat(20)
        >>> logits = torch.stack([2 - labels, labels], 1).float()  # 0 is likely for all, less so where it is 1
        >>> is_likelier_than_shares(F.cross_entropy(logits, labels, reduction="none"), labels)
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


def _labelled(caller: str, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The examples that have a label: logits (examples, classes) and labels (examples,)."""
    rows, labels = _flat(caller, logits, labels)
    if ((labels < NO_LABEL) | (labels >= rows.shape[-1])).any():
        raise UsageError(
            f"{caller}: expected labels between -1 and {rows.shape[-1] - 1}, "
            f"found {labels.min().item()} to {labels.max().item()}"
        )
    has_label = labels != NO_LABEL
    return (rows, labels) if has_label.all() else (rows[has_label], labels[has_label])


def _flat(caller: str, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (examples, classes) and labels (examples,), int64."""
    rows = _rows(caller, logits)
    if labels.shape != logits.shape[:-1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UsageError(
            f"{caller}: expected integer labels of shape {tuple(logits.shape[:-1])} (-1 means none), "
            f"found {labels.dtype} of shape {tuple(labels.shape)}"
        )
    return rows, labels.flatten().long()


def _pair(caller: str, student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    if student_logits.shape != teacher_logits.shape:
        raise UsageError(
            f"{caller}: expected teacher_logits of the student's shape {tuple(student_logits.shape)}, "
            f"found {tuple(teacher_logits.shape)}"
        )
    return _rows(caller, student_logits), _rows(caller, teacher_logits)


def _rows(caller: str, logits: Tensor) -> Tensor:
    """(..., classes) as (examples, classes), without its gradient."""
    if logits.dim() == 0 or logits.shape[-1] == 0 or not logits.is_floating_point():
        raise UsageError(
            f"{caller}: expected floating-point logits of shape (..., classes), "
            f"found {logits.dtype} of shape {tuple(logits.shape)}"
        )
    return logits.detach().reshape(-1, logits.shape[-1])


def _predicted(logits: Tensor) -> Tensor:
    highest, predicted = logits.max(-1)  # max returns NaN where there is one
    return predicted.masked_fill(highest.isnan(), _NO_PREDICTION)


def _mean(caller: str, values: Tensor) -> float:
    _check_some(caller, values)
    return float(values.cpu().double().mean())


def _error_indicators(values: Tensor) -> Tensor:
    """(seeds, n), int64 on the CPU."""
    if values.dim() not in (1, 2) or values.numel() == 0 or not ((values == 0) | (values == 1)).all():
        raise UsageError(
            "bootstrap_difference: expected error indicators of shape (n,) or (seeds, n), each 0 or 1, "
            f"found {values.dtype} of shape {tuple(values.shape)}"
        )
    values = values.cpu().long()
    return values[None] if values.dim() == 1 else values


def _check_some(caller: str, values: Tensor) -> None:
    if len(values) == 0:
        raise UsageError(f"{caller}: there is no example with a label to take a mean over")


def _check_num_classes(caller: str, logits: Tensor, num_classes: int) -> None:
    if num_classes < logits.shape[-1]:
        raise UsageError(f"{caller}: num_classes is {num_classes}, but the logits have {logits.shape[-1]}")


def _check_level(caller: str, level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"{caller}: level must be between 0 and 1, not {level}")
