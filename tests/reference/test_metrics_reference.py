"""The metrics against the equations written out in plain Python or taken from SciPy, in float64."""

import numpy as np
import pytest
import scipy.stats
import second_opinion
import torch

from instar import intervals, metrics

NUM_CLASSES = 5


@pytest.fixture(scope="module", params=["random", "tied"])
def logits(request: pytest.FixtureRequest) -> torch.Tensor:
    """200 examples; the tied are 12 different ones repeated, in whole numbers: equal logits, equal confidences."""
    generator = torch.Generator().manual_seed(5)
    values = 2 * torch.randn(200, NUM_CLASSES, dtype=torch.float64, generator=generator)
    return values if request.param == "random" else values[:12].round().repeat(17, 1)[:200]


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return torch.randint(-1, NUM_CLASSES, (200,), generator=torch.Generator().manual_seed(4))


def test_errors_and_accuracy_count_the_labelled(logits: torch.Tensor, labels: torch.Tensor) -> None:
    expected = second_opinion.num_errors(logits.tolist(), labels.tolist())
    num_labelled = sum(label != -1 for label in labels.tolist())
    assert metrics.errors(logits, labels).item() == expected
    assert metrics.example_errors(logits, labels).sum().item() == expected
    assert metrics.accuracy(logits, labels) == pytest.approx(1 - expected / num_labelled, rel=1e-12)


@pytest.mark.parametrize("k", range(1, NUM_CLASSES + 1))
def test_top_k_accuracy_sorts_ties_by_class(logits: torch.Tensor, labels: torch.Tensor, k: int) -> None:
    expected = second_opinion.top_k_accuracy(logits.tolist(), labels.tolist(), k)
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(expected, rel=1e-12)


def test_negative_log_likelihood_is_in_nats(logits: torch.Tensor, labels: torch.Tensor) -> None:
    expected = second_opinion.hard_term(logits.tolist(), labels.tolist(), [True] * len(labels))
    assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_bins", [1, 2, 15, 1000])
@pytest.mark.parametrize("bins", ["adaptive", "equal-width"])
def test_calibration_error_follows_the_equation(
    logits: torch.Tensor, labels: torch.Tensor, bins: str, num_bins: int
) -> None:
    expected = second_opinion.calibration_error(logits.tolist(), labels.tolist(), num_bins, bins)
    found = metrics.calibration_error(logits, labels, num_bins=num_bins, bins=bins)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_and_agreement_compare_with_the_teacher(logits: torch.Tensor, temperature: float) -> None:
    teacher_logits = logits.flip(0) + 0.5
    pairs = list(zip(logits.tolist(), teacher_logits.tolist(), strict=True))
    expected = [
        second_opinion.kl_divergence(
            second_opinion.softmax(teacher, temperature), second_opinion.softmax(student, temperature)
        )
        for student, teacher in pairs
    ]
    found = metrics.kl_from_teacher(logits, teacher_logits, temperature=temperature)
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    same = sum(second_opinion.argmax(student) == second_opinion.argmax(teacher) for student, teacher in pairs)
    assert metrics.agreement(logits, teacher_logits) == pytest.approx(same / len(pairs), rel=1e-12)


@pytest.mark.parametrize("num_classes", [NUM_CLASSES, NUM_CLASSES + 2])
def test_confusion_and_errors_by_class_count_every_cell(
    logits: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> None:
    expected = second_opinion.confusion(logits.tolist(), labels.tolist(), num_classes)
    assert metrics.confusion(logits, labels, num_classes).tolist() == expected
    wrong = [sum(row) - row[label] for label, row in enumerate(expected)]
    assert metrics.errors_by_class(logits, labels, num_classes).tolist() == wrong


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_over_seeds_is_students_t(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(70, 5, size=n)
    found = intervals.over_seeds(values.tolist(), level=level)
    low, high = scipy.stats.t.interval(level, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert (found.mean, found.sd, found.n) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)), n)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_paired_difference_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    controls = rng.normal(140, 10, size=5)
    values = controls - rng.normal(60, 5, size=5)
    found = intervals.paired_difference(values.tolist(), controls.tolist(), level=0.9)
    low, high = scipy.stats.ttest_rel(values, controls).confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_bootstrap_has_the_exact_distribution_of_draws_with_replacement() -> None:
    errors_a = torch.tensor([[1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1]])
    errors_b = torch.tensor([1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0])
    halves = (errors_a.sum(0) - 2 * errors_b).tolist()  # a has two seeds, so differences come in halves
    distribution = second_opinion.bootstrap_distribution(halves)
    for level in (0.5, 0.9, 0.99):
        found = intervals.bootstrap_difference(errors_a, errors_b, level=level, num_resamples=200_000, seed=0)
        assert found.mean == pytest.approx(sum(halves) / 24)
        assert found.n == 12
        for bound, quantile in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
            total = round(bound * 24)
            assert bound * 24 == pytest.approx(total)
            below = sum(p for value, p in distribution.items() if value < total)
            # A sampled quantile lies on a step of the exact distribution, up to the noise of 200,000 draws.
            assert below - 0.005 <= quantile <= below + distribution[total] + 0.005


def test_the_bootstrap_agrees_with_scipys_on_a_test_set() -> None:
    rng = np.random.default_rng(1)
    errors_a, errors_b = rng.random((3, 2000)) < 0.1, rng.random((3, 2000)) < 0.13
    found = intervals.bootstrap_difference(torch.tensor(errors_a), torch.tensor(errors_b), seed=0)
    difference = errors_a.mean(0) - errors_b.mean(0)
    scipys = scipy.stats.bootstrap(
        (difference,), np.mean, n_resamples=10_000, batch=100, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == (
        pytest.approx(scipys.low, abs=5e-4),
        pytest.approx(scipys.high, abs=5e-4),
    )
