"""Errors, likelihood and calibration, and agreement with a teacher.

All functions take any leading shape, with the classes last, on any device, and skip examples whose label is -1.
Counts are int64 tensors, which can be added over batches; means are Python floats. No result has a gradient.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from instar.errors import UsageError
from instar.losses import NO_LABEL, at_least_float32, cross_entropy

_NO_PREDICTION = -2  # the class of logits with NaN, which are an error for every label


class CalibrationBins(NamedTuple):
    """Examples binned by the confidence of their prediction, without empty bins.

    Each field is (bins,), float64: the means over a bin, between 0 and 1, and its number of examples.
    """

    confidence: Tensor
    accuracy: Tensor
    num_examples: Tensor


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
    return predicted_classes(logits) != labels


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
    return ((predicted_classes(rows) != labels) & (labels != NO_LABEL)).sum()


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

    Args:
        logits: (..., classes).
        labels: (...), integers, -1 means no label; or distributions p (..., classes), 0 for no label: then it is
            the mean of -sum_i p_i log q_i.

    Raises:
        UsageError: labels that do not match the logits, or no labelled example.

    Example:
        >>> round(negative_log_likelihood(torch.zeros(4, 10), torch.tensor([0, 1, 2, -1])), 4)
        2.3026
    """
    if labels.is_floating_point():
        return float(cross_entropy(logits, labels))
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
    confidence = torch.softmax(at_least_float32(logits), -1).amax(-1)
    return bins_of_confidence(confidence, predicted_classes(logits) == labels, num_bins=num_bins, bins=bins)


def bins_of_confidence(
    confidence: Tensor, correct: Tensor, *, num_bins: int = 15, bins: str = "adaptive"
) -> CalibrationBins:
    """`calibration_bins` from the confidence of each prediction and whether it is right, (n,) each.

    Example:
        >>> bins_of_confidence(torch.tensor([0.5, 0.9]), torch.tensor([False, True]), num_bins=1).confidence
        tensor([0.7000], dtype=torch.float64)
    """
    confidence, correct = confidence.cpu().double(), correct.cpu().double()
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
    return error_of_bins(calibration_bins(logits, labels, num_bins=num_bins, bins=bins))


def error_of_bins(bins: CalibrationBins) -> float:
    """The calibration error of bins: the mean distance of confidence from accuracy."""
    return float((bins.num_examples * (bins.accuracy - bins.confidence).abs()).sum() / bins.num_examples.sum())


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
    predicted = predicted_classes(student_logits)
    return _mean("agreement", (predicted == predicted_classes(teacher_logits)) & (predicted != _NO_PREDICTION))


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
    divergence = divergences(log_p, log_q)
    return _mean("kl_from_teacher", divergence.clamp(min=0))  # negative values are rounding errors


def divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of each row of log-probabilities (..., classes): sum_i p_i (log p_i - log q_i) where p_i > 0.

    Example:
        >>> divergences(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.0, -torch.inf]]))
        tensor([0.])
    """
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0.0).sum(-1)


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
    return labels[predicted_classes(logits) != labels].bincount(minlength=num_classes)


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
    predicted = predicted_classes(logits)
    cells = (labels * num_classes + predicted)[predicted != _NO_PREDICTION]
    return cells.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


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


def predicted_classes(logits: Tensor) -> Tensor:
    """The class with the highest logit in each row, (...); -2, which is no class, where a row holds a NaN."""
    highest, predicted = logits.max(-1)  # max returns NaN where there is one
    return predicted.masked_fill(highest.isnan(), _NO_PREDICTION)


def _mean(caller: str, values: Tensor) -> float:
    _check_some(caller, values)
    return float(values.cpu().double().mean())


def _check_some(caller: str, values: Tensor) -> None:
    if len(values) == 0:
        raise UsageError(f"{caller}: there is no example with a label to take a mean over")


def _check_num_classes(caller: str, logits: Tensor, num_classes: int) -> None:
    if num_classes < logits.shape[-1]:
        raise UsageError(f"{caller}: num_classes is {num_classes}, but the logits have {logits.shape[-1]}")
