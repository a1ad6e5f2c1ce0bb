"""First-layer filters: the best Gabor fit of each, and how similar two sets of filters are. All in float64."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.errors import UsageError
from instar.intervals import over_seeds
from instar.transfer.statistics import unpaired_difference

Array = NDArray[np.float64]
Filters = dict[str, Array]

SAME = 0.1  # two sets of filters whose mean scores differ by less are called the same
SMALLEST_SIDE = 5  # in a smaller window a Gabor filter has about as many parameters as the window has weights


class GaborFit(NamedTuple):
    """The Gabor filter closest to a filter, and the share of the filter's variance that it explains."""

    score: float
    x: float
    y: float
    """the centre, in pixels from the centre of the window"""
    angle: float
    """direction of the wave, in radians"""
    frequency: float
    """in cycles per pixel"""
    sd_along: float
    sd_across: float
    """standard deviations of the envelope along and across the wave, in pixels"""


def fit_gabor(weights: Array) -> GaborFit:
    """The least-squares Gabor filter: a wave under a Gaussian, with an offset.

    g_c(x, y) = exp(-u^2 / 2 s_u^2 - v^2 / 2 s_v^2) (a_c cos 2 pi f u + b_c sin 2 pi f u) + d_c,
    u = (x - x0) cos t + (y - y0) sin t,  v = -(x - x0) sin t + (y - y0) cos t

    The channels share the six parameters of the wave and the envelope. Each channel has its own a, b and d, which
    follow by linear least squares. score = 1 - |w - g|^2 / |w - mean_c(w)|^2, 0 to 1. The search starts at the
    best point of a grid.

    Args:
        weights: (channels, height, width), one filter.

    Raises:
        UsageError: another shape, or a constant filter.

    Example:
        >>> place = np.arange(8) - 3.5
        >>> wave = np.cos(2 * np.pi * 0.2 * place)[None, None] * np.exp(-(place**2) / 8)[None, :, None]
        >>> round(fit_gabor(wave * np.exp(-(place**2) / 18)).score, 3)
        1.0

    References:
        Jones and Palmer 1987, "An evaluation of the two-dimensional Gabor filter model"; Yosinski et al. 2014,
        section 1.
    """
    from scipy.optimize import least_squares

    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 3 or min(weights.shape[1:]) < 2:
        raise UsageError(f"fit_gabor: expected (channels, height, width), at least 2 x 2, found {weights.shape}")
    rows = weights.reshape(len(weights), -1)
    centred = rows - rows.mean(1, keepdims=True)
    total = float((centred**2).sum())
    if not total > 0:
        raise UsageError("fit_gabor: the filter is constant, so there is nothing to explain")
    height, width = weights.shape[1:]
    scale = float(np.sqrt(total / rows.size))

    def residual(parameters: Array) -> Array:
        basis = _basis(parameters[None], height, width)[0]
        left: Array = ((centred - centred @ basis @ basis.T) / scale).ravel()
        return left

    start = _best_start(centred, height, width)
    size = max(height, width)
    low = [-width / 2, -height / 2, -np.pi, 0.0, 0.4, 0.4]
    high = [width / 2, height / 2, 2 * np.pi, 0.5, 2.0 * size, 2.0 * size]
    found = least_squares(residual, start, bounds=(low, high), ftol=1e-5, max_nfev=40)
    score = 1 - 2 * float(found.cost) * scale**2 / total  # scipy's cost is half the sum of squares
    return GaborFit(score, *(float(value) for value in found.x))


def _best_start(centred: Array, height: int, width: int) -> Array:
    """The point of a grid of waves and envelopes that explains most of the variance."""
    size = max(height, width)
    grid = np.meshgrid(
        np.array([-0.25, 0.0, 0.25]) * width,
        np.array([-0.25, 0.0, 0.25]) * height,
        np.arange(8) * np.pi / 8,
        np.array([0.5, 1.0, 1.7, 2.5]) / size,
        np.array([0.15, 0.3]) * size,
        indexing="ij",
    )
    x, y, angle, frequency, sd = (axis.ravel() for axis in grid)
    starts = np.stack([x, y, angle, np.minimum(frequency, 0.45), np.maximum(sd, 0.5), np.maximum(sd, 0.5)], 1)
    explained = ((centred @ _basis(starts, height, width)) ** 2).sum((1, 2))
    best: Array = starts[explained.argmax()]
    return best


def _basis(parameters: Array, height: int, width: int) -> Array:
    """Orthonormal columns that span the constant and both phases of each wave: (filters, pixels, 3)."""
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    x0, y0, angle, frequency, sd_along, sd_across = (column[:, None] for column in parameters.T)
    along = (x.ravel() - x0) * np.cos(angle) + (y.ravel() - y0) * np.sin(angle)
    across = -(x.ravel() - x0) * np.sin(angle) + (y.ravel() - y0) * np.cos(angle)
    envelope = np.exp(-(along**2) / (2 * sd_along**2) - across**2 / (2 * sd_across**2))
    wave = 2 * np.pi * frequency * along
    columns = np.stack([np.ones_like(wave), envelope * np.cos(wave), envelope * np.sin(wave)], -1)
    columns[..., 2] += 1e-9 * wave  # at frequency 0 the sine vanishes, and would have no direction
    basis: Array = np.linalg.qr(columns).Q
    return basis


def best_matches(filters: Array, others: Array) -> Array:
    """For each filter the largest |cosine| with any of the others, after removing each channel's mean.

    Args:
        filters: (filters, channels, height, width).
        others: (others, channels, height, width).

    Returns:
        (filters,) of 0 to 1.

    Raises:
        UsageError: the two sets have different shapes.

    Example:
        >>> filters = np.random.default_rng(0).normal(size=(4, 1, 5, 5))
        >>> best_matches(filters, -2 * filters).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if filters.ndim != 4 or filters.shape[1:] != others.shape[1:]:
        raise UsageError(f"best_matches: filters are {filters.shape[1:]}, the others {others.shape[1:]}")
    rows = []
    for group in (filters, others):
        centred = (group - group.mean((2, 3), keepdims=True)).reshape(len(group), -1)
        rows.append(centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-30))
    matches: Array = np.abs(rows[0] @ rows[1].T).max(1)
    return matches


def filter_scores(filters: Filters) -> list[dict[str, Any]]:
    """Gabor scores of the filters of two bases and of a random network.

    Args:
        filters: (filters, channels, height, width) of `base A`, `base B` and `random`.

    Returns:
        One row for each network: `network`; its mean Gabor `score` (the share of variance that the fit explains)
        with `sd`, `low`, `high`, `n` and `values` by filter; `match`, the mean largest |cosine| with a filter of
        the other base; `window`, the shape of a filter.
    """
    rows = []
    for name, group in filters.items():
        scores = [fit_gabor(weights).score for weights in group if np.ptp(weights) > 0]
        other = filters["base B" if name == "base A" else "base A"]
        over = over_seeds(scores)
        about = {"score": over.mean, "sd": over.sd, "low": over.low, "high": over.high, "n": over.n}
        match = float(best_matches(group, other).mean())
        rows.append({"network": name, **about, "values": scores, "match": match, "window": list(group.shape[1:])})
    return rows


def filter_verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether two data sets and two objectives give similar filters: from `filter_scores`, in words."""
    a, b, random = rows
    height, width = a["window"][1:]
    if min(height, width) < SMALLEST_SIDE:
        return (
            f"Filters of {height} x {width} are too small for the Gabor score to say much: a Gabor filter has "
            f"about as many parameters as they have weights. It explains {random['score']:.0%} of random ones too "
            f"(A {a['score']:.0%}, B {b['score']:.0%}). The largest cosine with a filter of the other base is "
            f"{a['match']:.2f} for filters of A and {random['match']:.2f} for random ones."
        )
    above = [unpaired_difference(row["values"], random["values"]).low for row in (a, b)]
    between = unpaired_difference(a["values"], b["values"])
    about = (
        f"A Gabor filter explains {a['score']:.0%} of the variance of A's filters, {b['score']:.0%} of B's and "
        f"{random['score']:.0%} of random ones."
    )
    if not all(low is not None and low > 0 for low in above):
        return f"{about} Trained filters score no higher than random ones: the score cannot tell."
    if between.low is not None and between.high is not None:
        if between.low > -SAME and between.high < SAME:
            return f"{about} Both tasks give filters of the same kind, unlike random ones."
        if between.low > 0 or between.high < 0:
            return f"{about} Both score higher than random filters, but the two tasks differ."
    return f"{about} Both score higher than random filters; {a['n']} filters each do not show whether they differ."
