"""The scores of features against their equations written out with explicit inverses and integrals, in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from instar.transfer import h_score, linear_probe, logme
from instar.transfer.scores import PENALTIES


def task(seed: int, n: int, d: int, classes: int = 3, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = generator.normal(size=(classes, d))
    return signal * centres[labels] + generator.normal(size=(n, d)) + 0.3, labels


TASKS = [(0, 60, 5), (1, 40, 12), (2, 20, 30)]  # the last has more features than examples


def log_evidence(features: np.ndarray, y: np.ndarray, log_a: float, log_b: float) -> float:
    """log N(y | 0, I / b + F F' / a): w and the noise integrated out at once."""
    covariance = np.eye(len(y)) / math.exp(log_b) + features @ features.T / math.exp(log_a)
    return float(multivariate_normal(np.zeros(len(y)), covariance).logpdf(y))


@pytest.mark.parametrize("case", TASKS)
def test_logme_is_the_highest_evidence_that_an_optimiser_finds(case: tuple[int, int, int]) -> None:
    features, labels = task(*case)
    best = []
    for label in range(3):
        y = (labels == label).astype(float)
        found = [
            minimize(lambda p, y=y: -log_evidence(features, y, *p), start, method="Nelder-Mead", tol=1e-10).fun
            for start in ([0.0, 0.0], [3.0, 1.0])
        ]
        best.append(-min(found) / len(y))
    assert logme(torch.tensor(features), torch.tensor(labels)) == pytest.approx(np.mean(best), abs=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, None])
@pytest.mark.parametrize("case", TASKS[:2])
def test_h_score_follows_the_trace(case: tuple[int, int, int], shrinkage: float | None) -> None:
    features, labels = task(*case)
    n, d = features.shape
    covariance = np.zeros((d, d))
    for row in features:
        covariance += np.outer(row - features.mean(0), row - features.mean(0)) / n
    conditional = np.array([features[labels == label].mean(0) for label in labels])
    between = np.cov(conditional.T, bias=True)
    s = ledoit_wolf(features)[1] if shrinkage is None else shrinkage
    shrunk = (1 - s) * covariance + s * np.trace(covariance) / d * np.eye(d)
    expected = (1 - s) * np.trace(np.linalg.solve(shrunk, between))
    found = h_score(torch.tensor(features), torch.tensor(labels), shrinkage=shrinkage)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", TASKS)
def test_probe_is_the_ridge_regression_of_the_normal_equations(case: tuple[int, int, int]) -> None:
    features, labels = task(*case, signal=0.5)
    others, other_labels = task(case[0], 90, case[2], signal=0.5)
    mean, d = features.mean(0), features.shape[1]
    targets = np.eye(3)[labels]
    unit = (np.linalg.svd(features - mean, compute_uv=False) ** 2).mean()
    best, weights = 0.0, {}
    for penalty in PENALTIES:
        centred = features - mean
        weight = np.linalg.solve(
            centred.T @ centred + penalty * unit * np.eye(d), centred.T @ (targets - targets.mean(0))
        )
        weights[penalty] = weight
        predicted = ((others - mean) @ weight + targets.mean(0)).argmax(1)
        best = max(best, (predicted == other_labels).mean())
    probe = linear_probe(*map(torch.tensor, (features, labels, others, other_labels)))
    assert probe.accuracy == pytest.approx(best)
    np.testing.assert_allclose(probe.weight.numpy(), weights[probe.penalty], rtol=1e-5, atol=1e-7)
