"""A Gaussian with diagonal covariance for each state: the acoustic model of the first alignment."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from instar.errors import DataError, UsageError

VARIANCE_FLOOR = 0.01  # as a fraction of a feature's variance over all frames
MIN_FRAMES = 2.0  # a state with fewer gets the mean and variance of all frames


class DiagonalGaussians(NamedTuple):
    """log p(x | s) = -1/2 sum_d [ log(2 pi v_sd) + (x_d - m_sd)^2 / v_sd ].

    Example:
        >>> gaussians = DiagonalGaussians(torch.zeros(1, 2), torch.ones(1, 2))
        >>> gaussians.log_likelihoods(torch.zeros(1, 2))  # -log(2 pi)
        tensor([[-1.8379]])
    """

    means: Tensor
    """(states, features)"""
    variances: Tensor
    """(states, features)"""

    @classmethod
    def fit(cls, features: Iterable[Tensor], alignments: Iterable[Tensor], num_states: int) -> "DiagonalGaussians":
        """Estimate the mean and variance of each state's frames (maximum likelihood with a variance floor).

        Args:
            features: (frames, features) of each utterance.
            alignments: (frames,) int64 states of the same utterances.
            num_states: of the HMM.

        Raises:
            DataError: there is no frame, or features and alignment of an utterance differ in length.
        """
        sums: Tensor | None = None
        counts = torch.zeros(num_states, dtype=torch.float64)
        for values, states in zip(features, alignments, strict=True):
            if len(values) != len(states):
                raise DataError(
                    f"an utterance has {len(values)} frames of features but {len(states)} aligned states"
                )
            both = torch.cat((values, values.square()), 1).double() if len(values) else values.double()
            if sums is None:
                sums = torch.zeros(num_states, 2 * values.shape[1], dtype=torch.float64)
            sums.index_add_(0, states, both)
            counts.index_add_(0, states, torch.ones(len(states), dtype=torch.float64))
        if sums is None or counts.sum() == 0:
            raise DataError("there is no aligned frame to fit Gaussians to")
        mean, square = (sums / counts.clamp(min=1)[:, None]).chunk(2, 1)
        all_mean, all_square = (sums.sum(0) / counts.sum()).chunk(2)
        all_variance = (all_square - all_mean.square()).clamp(min=1e-8)
        variance = torch.maximum(square - mean.square(), VARIANCE_FLOOR * all_variance)
        rare = (counts < MIN_FRAMES)[:, None]
        return cls(torch.where(rare, all_mean, mean), torch.where(rare, all_variance, variance))

    def log_likelihoods(self, features: Tensor) -> Tensor:
        """From (frames, features) to (frames, states) float32, nats.

        Raises:
            UsageError: the number of features is wrong.
        """
        if features.dim() != 2 or features.shape[1] != self.means.shape[1]:
            raise UsageError(f"expected features (frames, {self.means.shape[1]}), found {tuple(features.shape)}")
        values, means, variances = features.double(), self.means.double(), self.variances.double()
        precisions = 1 / variances
        constant = (math.log(2 * math.pi) + variances.log() + means.square() * precisions).sum(1)
        squares = values.square() @ precisions.T - 2 * values @ (means * precisions).T
        return (-0.5 * (squares + constant)).float()


def cepstra(features: Tensor, *, num_cepstra: int = 13) -> Tensor:
    """Cepstra of log-mel features and their slopes; less correlated than log-mels, so diagonal Gaussians fit.

    c_k = sqrt(2/M) sum_m x_m cos(pi k (m + 1/2) / M),   slope_t = (c_{t+1} - c_{t-1} + 2 c_{t+2} - 2 c_{t-2}) / 10

    Args:
        features: (frames, M) log-mel filterbanks.
        num_cepstra: number of cepstra, k = 0, 1, ..., num_cepstra - 1.

    Returns: (frames, 2 num_cepstra); for the slopes at the ends, the first and last frames are repeated.


    References:
        Davis, Mermelstein 1980; Furui 1986.
    """
    num_mel = features.shape[1]
    k, m = torch.arange(num_cepstra, dtype=torch.float64), torch.arange(num_mel, dtype=torch.float64)
    basis = math.sqrt(2 / num_mel) * torch.cos(math.pi * k[:, None] * (m + 0.5) / num_mel)
    values = features.double() @ basis.T
    padded = torch.cat((values[:1].expand(2, -1), values, values[-1:].expand(2, -1)))
    slopes = (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10
    return torch.cat((values, slopes), 1).float()
