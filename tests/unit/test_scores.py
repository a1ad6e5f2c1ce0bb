"""Scores of features: closed forms, what they are blind to, what they refuse; and what the advisor tries."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from instar import UsageError
from instar.transfer import fit_multiplications, h_score, linear_probe, logme, promising_cuts, wilson_interval


def task(seed: int = 0, n: int = 60, d: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.randn(3, d, generator=generator, dtype=torch.float64)
    return centres[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64), labels


def rotation(d: int) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


def test_h_score_of_perfect_features_is_classes_minus_one() -> None:
    labels = torch.arange(12) % 4
    assert h_score(torch.eye(4)[labels], labels, shrinkage=0.0) == pytest.approx(3)


def test_h_score_of_features_that_say_nothing_is_zero() -> None:
    features = torch.tensor([[1.0], [2.0], [1.0], [2.0]])
    assert h_score(features, torch.tensor([0, 0, 1, 1]), shrinkage=0.0) == pytest.approx(0)
    assert h_score(torch.ones(4, 2), torch.tensor([0, 0, 1, 1])) == pytest.approx(0)


def test_h_score_is_blind_to_any_invertible_affine_change() -> None:
    features, labels = task()
    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    changed = features @ mixing + 7.0
    before = h_score(features, labels, shrinkage=0.0)
    assert h_score(changed, labels, shrinkage=0.0) == pytest.approx(before, rel=1e-9)


def test_logme_of_features_that_say_nothing_is_the_evidence_of_noise() -> None:
    labels = torch.arange(10) % 2  # y'y / n = 1/2 for both classes: b = 2
    expected = math.log(2 / (2 * math.pi)) / 2 - 0.5
    assert logme(torch.zeros(10, 3), labels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f @ rotation(5),
        lambda f: 100 * f,
        lambda f: f.flip(1),
    ],
    ids=["rotated", "scaled", "features in another order"],
)
def test_logme_is_blind_to(change: Callable[[Tensor], Tensor]) -> None:
    features, labels = task()
    assert logme(change(features), labels) == pytest.approx(logme(features, labels), abs=1e-8)


def test_scores_do_not_ask_for_the_order_of_examples_or_classes() -> None:
    features, labels = task()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    renamed = torch.tensor([2, 0, 1])[labels]
    for score in (h_score, logme):
        assert score(features[order], labels[order]) == pytest.approx(score(features, labels), rel=1e-9)
        assert score(features, renamed) == pytest.approx(score(features, labels), rel=1e-9)


def test_all_scores_fall_when_noise_is_added() -> None:
    features, labels = task(n=300)
    noise = 5 * torch.randn(features.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    worse = features + noise
    assert h_score(worse, labels) < h_score(features, labels)
    assert logme(worse, labels) < logme(features, labels)
    accuracies = [linear_probe(f[:150], labels[:150], f[150:], labels[150:]).accuracy for f in (features, worse)]
    assert accuracies[1] < accuracies[0]


def test_the_probe_takes_what_it_says() -> None:
    features, labels = task(d=80)
    probe = linear_probe(features[:30], labels[:30], features[30:], labels[30:])
    right = (features[30:] @ probe.weight + probe.bias).argmax(1) == labels[30:]
    assert probe.accuracy == pytest.approx(float(right.double().mean()))


@pytest.mark.parametrize("score", [h_score, logme])
@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (torch.zeros(4, 2), torch.zeros(4).long(), "two classes or more, found 1"),
        (torch.zeros(4, 2), torch.zeros(3).long(), "found \\(4, 2\\) and"),
        (torch.zeros(4), torch.zeros(4).long(), "expected features"),
        (torch.full((2, 1), math.nan), torch.arange(2), "not all finite"),
        (torch.zeros(0, 1), torch.zeros(0).long(), "no example"),
    ],
)
def test_what_scores_refuse(
    score: Callable[[Tensor, Tensor], float], features: Tensor, labels: Tensor, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        score(features, labels)


def test_h_score_refuses_shrinkage_out_of_range() -> None:
    with pytest.raises(UsageError, match="shrinkage is 2"):
        h_score(*task(), shrinkage=2)


def test_probe_refuses_validation_of_other_features() -> None:
    features, labels = task()
    with pytest.raises(UsageError, match="do not fit training features"):
        linear_probe(features, labels, features[:, :2], labels)


def test_the_deepest_cut_is_always_tried() -> None:
    assert promising_cuts({1: 0.9, 2: 0.8, 3: 0.1}, 2) == [1, 3]
    assert promising_cuts({1: 0.9, 2: 0.9, 3: 0.1}, 1) == [3]
    assert promising_cuts({4: 0.5}, 3) == [4]


@pytest.mark.parametrize(("right", "n"), [(0, 20), (7, 20), (20, 20), (900, 1000)])
def test_wilson_interval_holds_the_shares_that_a_score_test_does_not_refuse(right: int, n: int) -> None:
    share, low, high, _ = wilson_interval(right, n)
    assert 0 <= low <= share <= high <= 1
    for edge in (low, high):
        if 0 < edge < 1:  # there the score test's z is exactly at its limit
            z = abs(share - edge) / math.sqrt(edge * (1 - edge) / n)
            assert z == pytest.approx(1.959964, rel=1e-5)


def test_wilson_interval_refuses_no_trials() -> None:
    with pytest.raises(UsageError, match="0 of 0"):
        wilson_interval(0, 0)


def test_a_frozen_prefix_that_is_not_kept_is_computed_in_each_epoch() -> None:
    options = {"num_train": 10, "num_validation": 5, "epochs": 4, "frozen": True}
    once = fit_multiplications(100, 60, **options, cached=True)
    each = fit_multiplications(100, 60, **options, cached=False)
    assert each - once == 3 * 60 * 15
