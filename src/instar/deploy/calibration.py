"""How sure a network may be taken to be: a temperature fitted on validation, and where a confidence lies there."""

import math
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instar import metrics
from instar.errors import UsageError
from instar.losses import NO_LABEL

_LOWEST, _HIGHEST = 0.05, 20.0  # where all is right the likelihood rises for ever as T falls


class Calibration(NamedTuple):
    """A network on its validation examples, as it is and at the temperature that was fitted there."""

    temperature: float
    num_examples: int
    error: float
    """expected calibration error as it is, between 0 and 1"""
    nll: float
    """negative log-likelihood as it is, nats"""
    calibrated_error: float
    """of each half of the examples at the temperature of the other half"""
    calibrated_nll: float
    confidences: list[float]
    """percentiles 0 to 100 of the confidence max_i q_i as it is"""
    calibrated_confidences: list[float]
    """the same at the temperature"""

    @classmethod
    def fitted(cls, logits: Tensor, labels: Tensor) -> Self:
        """Fit the temperature, and measure what it does on examples that it was not fitted on.

        It is 1 where that is not better there by a standard error: a temperature of a few examples makes
        probabilities worse. And where one half has no error: its likelihood rises for ever as T falls.

        Args:
            logits: (examples, classes), of the validation examples.
            labels: (examples,), integers; -1 means no label.

        Raises:
            UsageError: fewer than two examples have a label.

        Example:
            >>> logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]] * 40)  # sure, and wrong on a quarter of them
            >>> found = Calibration.fitted(logits, torch.tensor([0, 1, 0, 1, 0, 1, 1, 0] * 10))
            >>> round(found.temperature, 2), round(found.nll, 2), round(found.calibrated_confidences[50], 2)
            (3.64, 1.02, 0.75)
        """
        known = labels != NO_LABEL
        logits, labels = logits[known].float(), labels[known]
        if len(labels) < 2:
            raise UsageError(f"a temperature is fitted on validation examples with labels, found {len(labels)}")
        temperature, before = fit_temperature(logits, labels), metrics.negative_log_likelihood(logits, labels)
        crossed, wrong = logits.clone(), logits.argmax(-1) != labels
        for half in range(2):
            crossed[half::2] /= fit_temperature(logits[1 - half :: 2], labels[1 - half :: 2])
        as_it_is, at_other = (F.cross_entropy(one, labels, reduction="none") for one in (logits, crossed))
        gain = as_it_is - at_other
        noise = float(gain.std()) / math.sqrt(len(gain))
        if not (bool(wrong[::2].any()) and bool(wrong[1::2].any()) and float(gain.mean()) > noise):
            temperature, crossed = 1.0, logits
        return cls(
            temperature,
            len(labels),
            metrics.calibration_error(logits, labels),
            before,
            metrics.calibration_error(crossed, labels),
            metrics.negative_log_likelihood(crossed, labels),
            _percentiles(logits),
            _percentiles(logits / temperature),
        )

    def rank(self, confidence: float, *, calibrated: bool = False) -> float:
        """The share of validation examples with a lower confidence, to a percent; between 0 and 1."""
        known = self.calibrated_confidences if calibrated else self.confidences
        return float(np.searchsorted(known, confidence, side="left").clip(0, 100)) / 100

    def in_words(self) -> str:
        """What the temperature does, in a sentence."""
        if self.temperature == 1.0:
            return (
                f"no temperature: {self.num_examples:,} validation examples do not show that one helps (each half "
                "needs an error, and a gain above its noise at the temperature of the other half); "
                f"calibration error {100 * self.error:.1f} %, negative log-likelihood "
                f"{self.nll:.3f} nats"
            )
        return (
            f"temperature {self.temperature:.3g}, fitted on {self.num_examples:,} validation examples: "
            f"calibration error {100 * self.error:.1f} -> {100 * self.calibrated_error:.1f} %, negative "
            f"log-likelihood {self.nll:.3f} -> {self.calibrated_nll:.3f} nats (each half at the temperature of "
            "the other)"
        )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of the highest likelihood: argmin_T mean -log softmax(z / T)_label.

    The likelihood is concave in 1/T, so there is one maximum; it is sought from 0.05 to 20.

    Args:
        logits: (..., classes).
        labels: (...), integers; -1 means no label.

    Raises:
        UsageError: labels that do not match the logits, or no labelled example.

    Example:
        >>> round(fit_temperature(torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)  # 2 / log 3
        1.82

    References:
        Guo et al. 2017 (arXiv 1706.04599), section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return metrics.negative_log_likelihood(logits / math.exp(log_temperature), labels)

    found = minimize_scalar(loss, bounds=(math.log(_LOWEST), math.log(_HIGHEST)), method="bounded")
    return math.exp(float(found.x))


def _percentiles(logits: Tensor) -> list[float]:
    confidence = torch.softmax(logits, -1).amax(-1).double().numpy()
    return [round(float(value), 6) for value in np.percentile(confidence, range(101))]
