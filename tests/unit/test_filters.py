"""Gabor scores and pictures of first-layer filters."""

import math

import numpy as np
import pytest

from instar.errors import UsageError
from instar.recipes.transfer.filters import sheet
from instar.transfer import best_matches, filter_scores, filter_verdict, fit_gabor


def gabor(size: int, x0: float, y0: float, angle: float, frequency: float, sds: tuple[float, float]) -> np.ndarray:
    """A second opinion: the formula, one pixel after the other."""
    pixels = np.zeros((1, size, size))
    for row in range(size):
        for column in range(size):
            x, y = column - (size - 1) / 2 - x0, row - (size - 1) / 2 - y0
            u = x * math.cos(angle) + y * math.sin(angle)
            v = -x * math.sin(angle) + y * math.cos(angle)
            envelope = math.exp(-(u**2) / (2 * sds[0] ** 2) - v**2 / (2 * sds[1] ** 2))
            wave = 2 * math.pi * frequency * u
            pixels[0, row, column] = envelope * (0.8 * math.cos(wave) - 0.5 * math.sin(wave)) + 0.1
    return pixels


@pytest.mark.parametrize("seed", range(6))
def test_a_gabor_filter_is_found_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (
        *random.uniform(-1, 1, 2),
        random.uniform(0, math.pi),
        random.uniform(0.12, 0.3),
        tuple(random.uniform(1.2, 2.5, 2)),
    )
    found = fit_gabor(gabor(9, *truth))
    assert found.score > 0.999
    assert found.frequency == pytest.approx(truth[3], abs=0.01)
    assert abs(math.sin(found.angle - truth[2])) < 0.02
    assert (found.x, found.y) == pytest.approx(truth[:2], abs=0.1)


def test_score_is_the_share_of_variance_and_noise_has_little() -> None:
    random = np.random.default_rng(0)
    wave = gabor(9, 0.0, 0.0, 0.5, 0.2, (2.0, 2.0))
    noise = random.normal(size=wave.shape)
    assert np.mean([fit_gabor(one).score for one in random.normal(size=(8, 1, 9, 9))]) < 0.4
    scores = [fit_gabor(wave + level * noise).score for level in (0.02, 0.1, 0.5)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0
    assert fit_gabor(-7 * wave + 3).score == pytest.approx(fit_gabor(wave).score, abs=1e-3)


def test_channels_share_the_wave() -> None:
    wave = gabor(9, 0.0, 0.0, 0.5, 0.2, (2.0, 2.0))
    colours = np.concatenate([wave, -2 * wave, 0.3 * wave])
    assert fit_gabor(colours).score > 0.999
    turned = np.concatenate([wave, 2 * wave.transpose(0, 2, 1)[:, ::-1], wave])
    assert fit_gabor(turned).score < 0.9


def test_wrong_filters_are_named() -> None:
    with pytest.raises(UsageError, match="channels, height, width"):
        fit_gabor(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="nothing to explain"):
        fit_gabor(np.ones((1, 3, 3)))
    with pytest.raises(UsageError, match=r"\(1, 3, 3\).*\(1, 5, 5\)"):
        best_matches(np.ones((2, 1, 3, 3)), np.ones((2, 1, 5, 5)))


def test_likeness_is_the_largest_cosine() -> None:
    random = np.random.default_rng(3)
    filters, others = random.normal(size=(3, 2, 4, 4)), random.normal(size=(5, 2, 4, 4))
    for found, one in zip(best_matches(filters, others), filters, strict=True):
        flat = (one - one.mean((1, 2), keepdims=True)).ravel()
        cosines = []
        for other in others:
            against = (other - other.mean((1, 2), keepdims=True)).ravel()
            cosines.append(abs(flat @ against) / math.sqrt((flat @ flat) * (against @ against)))
        assert found == pytest.approx(max(cosines))


def waves(seed: int, noise: float, size: int = 9) -> np.ndarray:
    random = np.random.default_rng(seed)
    several = [
        gabor(size, 0.0, 0.0, angle, 0.2, (2.0, 2.0)) + noise * random.normal(size=(1, size, size))
        for angle in random.uniform(0, math.pi, 6)
    ]
    return np.stack(several)


def test_answer_is_alike_different_or_cannot_be_told() -> None:
    random = np.random.default_rng(9).normal(size=(6, 1, 9, 9))

    def said(a: np.ndarray, b: np.ndarray) -> str:
        return filter_verdict(filter_scores({"base A": a, "base B": b, "random": random}))

    assert "of the same kind, unlike random ones" in said(waves(1, 0.05), waves(2, 0.05))
    assert "the two tasks differ" in said(waves(1, 0.02), waves(2, 0.3))
    assert "Trained filters score no higher than random ones" in said(random[::-1], random)
    small = np.random.default_rng(1).normal(size=(6, 1, 3, 3))
    assert "too small" in filter_verdict(filter_scores({"base A": small, "base B": small[::-1], "random": small}))


@pytest.mark.parametrize(("shape", "drawn"), [((4, 1, 3, 3), 2 * 13 + 1), ((16, 3, 8, 8), 4 * 9 + 1)])
def test_sheet_holds_every_filter(shape: tuple[int, ...], drawn: int) -> None:
    filters = np.random.default_rng(0).normal(size=shape)
    pixels = sheet(filters)
    assert pixels.shape == (drawn, drawn, 3)
    first = filters[0].transpose(1, 2, 0)
    expected = np.round(127.5 + 127.5 * first / np.abs(first).max())
    enlarged = 12 // shape[2]
    found = pixels[1 : 1 + enlarged * shape[2] : enlarged, 1 : 1 + enlarged * shape[2] : enlarged]
    assert (found == expected).all()
