"""Cheap scores of features for a task: how well a linear model on them would do, before any training."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from instar.arguments import require_tensor
from instar.errors import UsageError

PENALTIES = tuple(10.0**power for power in range(-6, 4))
"""The penalties that a linear probe chooses from, relative to the mean squared singular value of its features."""

_MOST_STEPS, _TOLERANCE = 1000, 1e-10  # of the evidence's fixed point


class Probe(NamedTuple):
    """A linear probe: its accuracy on validation, between 0 and 1, and the penalty chosen there."""

    accuracy: float
    penalty: float
    weight: Tensor
    """(features, classes), float64"""
    bias: Tensor
    """(classes,), float64"""


def h_score(features: Tensor, labels: Tensor, *, shrinkage: float | None = None) -> float:
    """How far the means of the classes lie apart, in units of the spread of the features.

    H = (1 - s) tr(C_s^-1 cov(E[f | y])),  C_s = (1 - s) C + s tr(C) / d I,  C = cov(f)

    With s = 0 this is the H-score: invariant to invertible affine maps of the features, between 0 and classes - 1,
    and without meaning where there are no more examples than features. Hence the shrinkage s of the covariance.

    Args:
        features: (examples, d).
        labels: (examples,), from 0.
        shrinkage: s, from 0 to 1; None takes Ledoit and Wolf's estimate.

    Raises:
        UsageError: the shapes do not fit, there is a single class, or shrinkage is out of range.

    Example:
        >>> features = torch.tensor([[0.0], [2.0], [4.0], [6.0]])  # variance 5, of the classes' means 4
        >>> round(h_score(features, torch.tensor([0, 0, 1, 1]), shrinkage=0.0), 6)
        0.8

    References:
        Bao et al. 2019, "An information-theoretic approach to transferability in task transfer learning", eq. 3;
        Ibrahim et al. 2021 (arXiv 2110.06893), section 3, for the shrinkage.
    """
    values, numbers, num_classes = _checked("h_score", features, labels)
    if shrinkage is None:
        from sklearn.covariance import ledoit_wolf_shrinkage

        shrinkage = float(ledoit_wolf_shrinkage(values.numpy()))
    if not 0 <= shrinkage <= 1:
        raise UsageError(f"h_score: shrinkage is {shrinkage}, expected 0 to 1")
    centred = values - values.mean(0)
    one_hot = torch.nn.functional.one_hot(numbers, num_classes).double()
    counts = one_hot.sum(0)
    between = (one_hot.T @ centred) / counts.clamp(min=1).sqrt()[:, None]  # a row for each class
    covariance = centred.T @ centred / len(values)
    scale = float(covariance.trace()) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * scale * torch.eye(len(covariance)).double()
    inverse = torch.linalg.pinv(covariance, hermitian=True)
    return float((1 - shrinkage) * (between @ inverse * between).sum() / len(values))


def logme(features: Tensor, labels: Tensor) -> float:
    """Logarithm of the maximum evidence of a linear fit to each class, per example, in nats; mean over classes.

    y = F w + noise,  w ~ N(0, I / a),  noise ~ N(0, 1 / b);  with A = a I + b F'F and m = b A^-1 F'y

    log p(y | F, a, b) = n/2 log b + d/2 log a - n/2 log 2 pi - b/2 |F m - y|^2 - a/2 |m|^2 - 1/2 log |A|

    maximised over a and b by fixed-point iteration. It has no scale: compare it only within one task.

    Args:
        features: (examples, d).
        labels: (examples,), from 0; y is 1 for the examples of a class and 0 for the rest.

    Raises:
        UsageError: the shapes do not fit, or there is a single class.

    Example:
        >>> labels = torch.arange(40) % 2
        >>> telling = labels[:, None] + 0.1 * torch.sin(torch.arange(40.0))[:, None]
        >>> logme(telling, labels) > logme(torch.sin(torch.arange(40.0))[:, None], labels)
        True

    References:
        You et al. 2021 (arXiv 2102.11005), equation 2 and algorithm 1.
    """
    values, numbers, num_classes = _checked("logme", features, labels)
    one_hot = torch.nn.functional.one_hot(numbers, num_classes).double()
    targets = one_hot[:, one_hot.any(0)]
    left, singular, _ = torch.linalg.svd(values, full_matrices=False)
    projected = (left.T @ targets) ** 2  # of each target along each direction
    return float(_log_evidence(singular**2, projected, targets.sum(0), *values.shape).mean())


def _log_evidence(squares: Tensor, projected: Tensor, energy: Tensor, n: int, d: int) -> Tensor:
    """Maximum evidence per example for each target, from squared singular values and projected targets."""
    squares = squares[:, None]
    outside = (energy - projected.sum(0)).clamp(
        min=0
    )  # the part of each target that is outside the span of the features
    a = b = torch.ones_like(energy)
    for _ in range(_MOST_STEPS):
        before = a / b  # the next a and b depend on this ratio alone, so it decides convergence
        gamma, squared_mean, residual = _posterior(squares, projected, before)
        a, b = _quotient(gamma, squared_mean), _quotient(n - gamma, residual + outside)
        if float((a / b / before - 1).abs().max()) < _TOLERANCE:
            break
    _, squared_mean, residual = _posterior(squares, projected, a / b)
    log_det = (a + b * squares).log().sum(0) + (d - len(squares)) * a.log()
    evidence = n / 2 * (b / (2 * math.pi)).log() + d / 2 * a.log()
    return (evidence - b / 2 * (residual + outside) - a / 2 * squared_mean - log_det / 2) / n


def _posterior(squares: Tensor, projected: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For a ratio a / b: the effective number of parameters, |m|^2, and the residual within the span."""
    shrunk = squares / (ratio + squares)
    mean = projected * squares / (ratio + squares) ** 2
    return shrunk.sum(0), mean.sum(0), (projected * (1 - shrunk) ** 2).sum(0)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """A quotient that stays in range where the features explain nothing, or everything."""
    return (above / below.clamp(min=1e-300)).clamp(1e-12, 1e12)


def linear_probe(
    features: Tensor, labels: Tensor, validation_features: Tensor, validation_labels: Tensor
) -> Probe:
    """The best of several ridge regressions on class indicators, chosen and evaluated on validation.

    W = (F'F + p s I)^-1 F'Y with centred F and Y, s the mean squared singular value of F; the predicted class is
    the largest entry of f W + bias. The accuracy is slightly optimistic, since the same examples choose p: use it
    to rank.

    Args:
        features: (examples, d) of the training data.
        labels: (examples,), from 0.
        validation_features: (others, d).
        validation_labels: (others,).

    Raises:
        UsageError: the shapes do not fit, or there is a single class.

    Example:
        >>> features, labels = torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1])
        >>> linear_probe(features, labels, features, labels).accuracy
        1.0
    """
    values, numbers, num_classes = _checked("linear_probe", features, labels)
    require_tensor("linear_probe: validation_features", validation_features)
    require_tensor("linear_probe: validation_labels", validation_labels)
    if validation_features.shape[1:] != features.shape[1:] or len(validation_features) != len(validation_labels):
        raise UsageError(
            f"linear_probe: validation features {tuple(validation_features.shape)} and labels "
            f"{tuple(validation_labels.shape)} do not fit training features {tuple(features.shape)}"
        )
    mean = values.mean(0)
    one_hot = torch.nn.functional.one_hot(numbers, num_classes).double()
    share = one_hot.mean(0)
    left, singular, right = torch.linalg.svd(values - mean, full_matrices=False)
    projected = left.T @ (one_hot - share)
    unit = float((singular**2).mean()) or 1.0
    held_out = validation_features.double()

    def probe(penalty: float) -> Probe:
        weight = right.T @ ((singular / (singular**2 + penalty * unit))[:, None] * projected)
        bias = share - mean @ weight
        correct = (held_out @ weight + bias).argmax(1) == validation_labels
        return Probe(float(correct.double().mean()), penalty, weight, bias)

    # Among equals the strongest penalty.
    return max(map(probe, reversed(PENALTIES)), key=lambda found: found.accuracy)


def _checked(caller: str, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    """Features in float64, labels, and the number of classes."""
    require_tensor(f"{caller}: features", features)
    require_tensor(f"{caller}: labels", labels)
    if features.dim() != 2 or labels.shape != features.shape[:1] or labels.is_floating_point():
        raise UsageError(
            f"{caller}: expected features (examples, d) and whole labels (examples,), found "
            f"{tuple(features.shape)} and {labels.dtype} {tuple(labels.shape)}"
        )
    if not bool(features.isfinite().all()):
        raise UsageError(f"{caller}: the features are not all finite")
    num_present = len(torch.unique(labels))
    if num_present < 2 or int(labels.min()) < 0:
        raise UsageError(
            f"{caller}: expected labels from 0 of two classes or more, found {num_present} from {labels.min()}"
            if len(labels)
            else f"{caller}: there is no example"
        )
    return features.detach().cpu().double(), labels.cpu().long(), int(labels.max()) + 1
