"""Transfer against slow second opinions in float64, written from the equations."""

import math
import re
from collections import defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from instar.data import InMemoryDataset
from instar.networks import initialise_
from instar.training import fit
from instar.transfer import Measured, Study, boost_rows, calibrate_statistics_, difference_rows, transition
from small_fits import digits

CUTS = (1, 2, 3, 4, 5, 6)
KINDS = ("BnB", "BnB+", "AnB", "AnB+")
SPLITS = (0, 1, 2, 3, 4)


def random_study(seed: int) -> list[Measured]:
    draw = np.random.default_rng(seed)
    measured = []
    for split, target in product(SPLITS, "AB"):
        level = draw.normal(60, 5)
        measured += [Measured(split, target, kind, 0, level + draw.normal()) for kind in ("base", "base-long")]
        for kind, n in product(KINDS, CUTS):
            fall = -0.4 * n**2 if kind == "AnB" else 0.0
            measured.append(Measured(split, target, kind, n, level + fall + draw.normal()))
    return measured


def t_interval(values: list[float]) -> tuple[float, float, float, float]:
    """mean, sd with n - 1, mean -/+ t_{n-1, 0.975} sd / sqrt(n)"""
    n = len(values)
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)
    return mean, sd, mean - half, mean + half


def difference_of_splits(measured: list[Measured], kind: str, other: str, cuts: tuple[int, ...]) -> list[float]:
    """Of each split: the mean over cuts and targets of acc(kind, n, target) - acc(other, n, target)"""
    accuracy = {one[:4]: one.accuracy for one in measured}
    of_split = defaultdict(list)
    for split, target, n in product(SPLITS, "AB", cuts):
        control = accuracy[split, target, other, 0 if other.startswith("base") else n]
        of_split[split].append(accuracy[split, target, kind, n] - control)
    return [math.fsum(parts) / len(parts) for parts in of_split.values()]


@pytest.mark.parametrize("seed", range(3))
def test_drops_and_boosts(seed: int) -> None:
    measured = random_study(seed)
    study = Study(measured)
    pairs = {
        "co-adaptation drop": ("BnB", "base"),
        "specificity drop": ("AnB", "BnB"),
        "boost over base": ("AnB+", "base"),
        "boost over BnB+": ("AnB+", "BnB+"),
        "boost over a base trained as long": ("AnB+", "base-long"),
    }
    rows = difference_rows(study)
    assert sum("effect" in row for row in rows) == len(pairs) * len(CUTS)
    for row in rows:
        kinds = (row["treatment"], re.sub(r"\d", "n", row["minus"]))
        assert kinds == pairs.get(row.get("effect"), kinds)
        expected = t_interval(difference_of_splits(measured, *kinds, (row["cut"],)))
        assert [row[key] for key in ("mean", "sd", "low", "high")] == pytest.approx(expected, rel=1e-10)
    for row in boost_rows(study):
        cuts = tuple(n for n in CUTS if n >= int(row["layers"][0]))
        mean, _, low, high = t_interval(difference_of_splits(measured, "AnB+", row["minus"], cuts))
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([mean, low, high], rel=1e-10)
        towards_b = [
            one.accuracy for one in measured if one.kind == "AnB+" and one.target == "B" and one.n in cuts
        ]
        controls = {
            "base": [one.accuracy for one in measured if one.kind == "base"],
            "BnB+": [
                one.accuracy for one in measured if one.kind == "BnB+" and one.target == "A" and one.n in cuts
            ],
        }
        if row["minus"] in controls:
            pooled = math.fsum(towards_b) / len(towards_b) - np.mean(controls[row["minus"]])
            assert row["pooled"] == pytest.approx(pooled, rel=1e-10)


def reached(curve: list[float], share: float) -> float:
    """The first of many places where the lowest value so far is share of the last value, by straight lines."""
    lowest = np.minimum.accumulate(curve)
    places = np.linspace(0, len(curve) - 1, 600_001)
    values = np.interp(places, range(len(curve)), lowest)
    return float(places[np.argmax(values <= share * curve[-1])])


@pytest.mark.parametrize("seed", range(3))
def test_transition(seed: int) -> None:
    measured = random_study(seed)
    found = transition(Study(measured))
    by_cut = [difference_of_splits(measured, "AnB", "base", (n,)) for n in CUTS]
    curves = [[0.0, *values] for values in zip(*by_cut, strict=True)]
    falling = [curve for curve in curves if curve[-1] < 0]
    half = t_interval([reached(curve, 0.5) for curve in falling])
    width = t_interval([reached(curve, 0.9) - reached(curve, 0.1) for curve in falling])
    drop = t_interval([curve[-1] for curve in curves])
    for key, expected in (("half", half), ("width", width), ("drop", drop)):
        assert [found[key][name] for name in ("mean", "sd", "low", "high")] == pytest.approx(expected, abs=1e-4)


def test_calibrated_statistics() -> None:
    """running mean = mean over batches of the batch's mean, running var = of its variance with m - 1"""
    data = digits(200)
    inputs = data.gather(data.ids, 0).double().numpy().reshape(200, 64)
    network = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.ReLU()),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)),
        nn.Linear(4, 10),
    )
    initialise_(network, "he-normal", seed=3)
    calibrate_statistics_(network, 2, data, batch_size=64)
    features = [inputs[start : start + 64] for start in (0, 64, 128)]  # the last 8 are less than half a batch
    for linear, norm in ((network[0][1], network[0][2]), (network[1][0], network[1][1])):
        weight, bias = (value.detach().double().numpy() for value in (linear.weight, linear.bias))
        sums = [batch @ weight.T + bias for batch in features]
        mean = np.mean([batch.mean(0) for batch in sums], axis=0)
        variance = np.mean([batch.var(0, ddof=1) for batch in sums], axis=0)
        assert np.allclose(norm.running_mean.numpy(), mean, atol=1e-6)
        assert np.allclose(norm.running_var.numpy(), variance, rtol=1e-5)
        # what the next layer saw while this was measured: this batch normalised by itself (variance with m)
        features = [np.maximum((one - one.mean(0)) / np.sqrt(one.var(0) + norm.eps), 0) for one in sums]


def test_learning_rate_factors() -> None:
    """v = momentum v + g + decay w,  w = w - factor rate v,  g = mean over examples of (q - one-hot) x"""
    draw = np.random.default_rng(0)
    inputs, labels = draw.normal(size=(12, 5)), draw.integers(0, 3, 12)
    network = nn.Sequential(nn.Linear(5, 3))
    weight, bias = (value.detach().double().numpy().copy() for value in network.parameters())
    data = InMemoryDataset(torch.tensor(inputs), torch.tensor(labels), class_names=["a", "b", "c"])
    options = {"epochs": 6, "batch_size": 12, "learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.05}
    factors = {"0.weight": 0.25, "0.bias": 2.0}
    fit(network, data, schedule="constant", precision="float32", learning_rate_factors=factors, **options)
    inputs = torch.tensor(inputs).float().double().numpy()
    velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    for _ in range(6):
        logits = inputs @ weight.T + bias
        q = np.exp(logits - logits.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        error = (q - np.eye(3)[labels]) / 12
        velocity = 0.9 * velocity + error.T @ inputs + 0.05 * weight
        bias_velocity = 0.9 * bias_velocity + error.sum(0)
        weight = weight - 0.25 * 0.3 * velocity
        bias = bias - 2.0 * 0.3 * bias_velocity
    assert np.allclose(network[0].weight.detach().numpy(), weight, atol=1e-5)
    assert np.allclose(network[0].bias.detach().numpy(), bias, atol=1e-5)
