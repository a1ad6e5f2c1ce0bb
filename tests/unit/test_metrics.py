"""The metrics at their edges: ties, NaN, missing labels, saturated networks, few seeds, and what they refuse."""

import math

import pytest
import torch

from instar import intervals, metrics
from instar.errors import UsageError

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []

# Predictions 0, 2, 1, 1; the third example has no label.
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 0.0], [0.0, 3.0, 1.0]])
LABELS = torch.tensor([0, 1, -1, 2])


def test_examples_without_a_label_are_left_out() -> None:
    labelled = [0, 1, 3]
    assert metrics.example_errors(LOGITS, LABELS).tolist() == [False, True, True]
    assert metrics.errors(LOGITS, LABELS).item() == 2
    assert metrics.accuracy(LOGITS, LABELS) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(LOGITS, LABELS, 2) == 1.0
    for metric in (metrics.negative_log_likelihood, metrics.calibration_error):
        assert metric(LOGITS, LABELS) == metric(LOGITS[labelled], LABELS[labelled])
    assert metrics.errors_by_class(LOGITS, LABELS, 3).tolist() == [0, 1, 1]
    assert metrics.confusion(LOGITS, LABELS, 3).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_without_any_label_counts_are_zero_and_means_are_refused() -> None:
    nothing = torch.full((4,), -1)
    assert metrics.errors(LOGITS, nothing).item() == 0
    assert metrics.errors_by_class(LOGITS, nothing, 3).tolist() == [0, 0, 0]
    assert metrics.confusion(LOGITS, nothing, 3).sum().item() == 0
    for mean in (metrics.accuracy, metrics.negative_log_likelihood, metrics.calibration_error):
        with pytest.raises(UsageError, match="no example"):
            mean(LOGITS, nothing)


def test_of_equal_logits_the_first_class_is_chosen_everywhere() -> None:
    dead, labels = torch.zeros(4, 4), torch.arange(4)
    assert metrics.errors(dead, labels).item() == 3
    assert [metrics.top_k_accuracy(dead, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert metrics.confusion(dead, labels, 4)[:, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_logits_with_nan_are_an_error_whatever_the_label(label: int) -> None:
    logits, labels = torch.tensor([[0.0, math.nan, 1.0]]), torch.tensor([label])
    assert metrics.errors(logits, labels).item() == 1
    assert metrics.top_k_accuracy(logits, labels, 2) == 0.0
    assert metrics.errors_by_class(logits, labels, 3)[label].item() == 1
    assert metrics.confusion(logits, labels, 3).sum().item() == 0
    assert metrics.agreement(logits, logits) == 0.0
    assert math.isnan(metrics.negative_log_likelihood(logits, labels))
    assert math.isnan(metrics.calibration_error(logits, labels))


def test_any_leading_shape_counts_the_same() -> None:
    logits, labels = LOGITS.reshape(2, 2, 3), LABELS.reshape(2, 2)
    assert metrics.errors(logits, labels) == metrics.errors(LOGITS, LABELS)
    assert metrics.calibration_error(logits, labels) == metrics.calibration_error(LOGITS, LABELS)
    assert metrics.agreement(logits, logits.flip(0)) == metrics.agreement(LOGITS, LOGITS[[2, 3, 0, 1]])
    assert metrics.errors(LOGITS[1], LABELS[1]).item() == 1  # one example


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_device_and_precision_counts_the_same(dtype: torch.dtype, device: str) -> None:
    logits, labels = LOGITS.to(device, dtype).requires_grad_(), LABELS.to(device)
    teacher_logits = LOGITS.flip(0).to(device, dtype)
    assert metrics.errors(logits, labels).item() == 2
    assert metrics.top_k_accuracy(logits, labels, 2) == 1.0
    assert metrics.confusion(logits, labels, 3).tolist() == metrics.confusion(LOGITS, LABELS, 3).tolist()
    for found, expected in (
        (metrics.negative_log_likelihood(logits, labels), metrics.negative_log_likelihood(LOGITS, LABELS)),
        (metrics.calibration_error(logits, labels), metrics.calibration_error(LOGITS, LABELS)),
        (metrics.kl_from_teacher(logits, teacher_logits), metrics.kl_from_teacher(LOGITS, LOGITS.flip(0))),
    ):
        assert found == pytest.approx(expected, rel=1e-5)


def test_calibration_of_a_saturated_network_does_not_depend_on_the_order() -> None:
    # Float32 says exactly 1.0 for all of these: no order of confidence tells them apart.
    logits = torch.zeros(100, 3)
    logits[:, 0] = 1000.0
    labels = torch.zeros(100, dtype=torch.long)
    labels[:20] = 1
    for order in (torch.arange(100), torch.randperm(100, generator=torch.Generator().manual_seed(0))):
        for bins in ("adaptive", "equal-width"):
            error = metrics.calibration_error(logits[order], labels[order], num_bins=15, bins=bins)
            assert error == pytest.approx(0.2)


def test_a_confidence_on_the_edge_of_equal_width_bins_belongs_to_the_lower_one() -> None:
    found = metrics.calibration_bins(
        torch.tensor([[0.0, 0.0], [0.1, 0.0]]), torch.tensor([0, 0]), num_bins=2, bins="equal-width"
    )
    assert found.num_examples.tolist() == [1, 1]
    assert found.confidence[0].item() == 0.5


def test_adaptive_bins_hold_as_many_examples_each_as_can_be() -> None:
    logits = torch.randn(103, 4, generator=torch.Generator().manual_seed(0))
    found = metrics.calibration_bins(logits, torch.zeros(103, dtype=torch.long), num_bins=10)
    assert sorted(found.num_examples.tolist()) == [10] * 7 + [11] * 3
    assert found.confidence.diff().min() >= 0


def test_kl_goes_from_the_teacher_to_the_student() -> None:
    certain, uniform = torch.tensor([[60.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert metrics.kl_from_teacher(uniform, certain) == pytest.approx(math.log(2))
    assert metrics.kl_from_teacher(certain, uniform) == pytest.approx(30 - math.log(2))
    assert metrics.kl_from_teacher(uniform, certain, temperature=1000.0) < 1e-3


def test_kl_of_nearly_equal_networks_is_never_below_zero_by_rounding() -> None:
    teacher_logits = torch.randn(200, 1, 10, generator=torch.Generator().manual_seed(0))
    student_logits = teacher_logits * (1 + 1e-6)
    log_p, log_q = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    assert ((log_p.exp() * (log_p - log_q)).sum(-1) < 0).any()  # what float32 makes of the plain equation
    for student, teacher in zip(student_logits, teacher_logits, strict=True):
        assert metrics.kl_from_teacher(student, teacher) >= 0


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert intervals.over_seeds([74]) == intervals.SeedStatistics(74.0, None, 1, None, None)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert intervals.over_seeds([0.1] * 5) == intervals.SeedStatistics(0.1, 0.0, 5, 0.1, 0.1)


def test_pairing_takes_the_seeds_own_ups_and_downs_out() -> None:
    controls = [100.0, 150.0, 200.0]
    values = [control - 10 for control in controls]
    assert intervals.paired_difference(values, controls) == intervals.SeedStatistics(-10.0, 0.0, 3, -10.0, -10.0)


def test_the_bootstrap_gives_the_same_numbers_for_the_same_seed_and_others_for_another() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, 500, generator=generator) < 0.3 for _ in range(2))
    first = intervals.bootstrap_difference(a, b, num_resamples=500, seed=0)
    assert first == intervals.bootstrap_difference(a, b, num_resamples=500, seed=0)
    others = {intervals.bootstrap_difference(a, b, num_resamples=500, seed=seed).low for seed in range(5)}
    assert len(others) > 1


def test_the_bootstrap_of_a_network_with_itself_is_zero() -> None:
    wrong = torch.arange(50) < 7
    assert intervals.bootstrap_difference(wrong, wrong, seed=0) == intervals.BootstrapInterval(0.0, 0.0, 0.0, 50)


def test_a_large_bootstrap_takes_little_memory() -> None:
    import tracemalloc

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(5, 10_000, generator=generator) < 0.02 for _ in range(2))
    tracemalloc.start()
    intervals.bootstrap_difference(a, b, num_resamples=10_000, seed=0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10e6  # all the draws at once would be 800 MB


def wrong_calls() -> dict[str, tuple[object, str]]:
    a = torch.zeros(4, dtype=torch.bool)
    big = torch.tensor([0, 1, 2, 3])
    return {
        "more labels": (lambda: metrics.errors(LOGITS, LABELS[:3]), r"shape \(4,\).*shape \(3,\)"),
        "labels as floats": (lambda: metrics.accuracy(LOGITS, LABELS.float()), "found torch.float32"),
        "predictions for logits": (lambda: metrics.errors(LABELS, LABELS), "floating-point logits"),
        "a label beyond the classes": (lambda: metrics.accuracy(LOGITS, big), "between -1 and 2, found 0 to 3"),
        "a label below -1": (lambda: metrics.confusion(LOGITS, LABELS - 1, 3), "between -1 and 2, found -2 to 1"),
        "k of 0": (lambda: metrics.top_k_accuracy(LOGITS, LABELS, 0), "k must be between 1 and the 3"),
        "k of 4": (lambda: metrics.top_k_accuracy(LOGITS, LABELS, 4), "k must be between 1 and the 3"),
        "no bins": (lambda: metrics.calibration_error(LOGITS, LABELS, num_bins=0), "num_bins must be 1"),
        "unknown bins": (lambda: metrics.calibration_error(LOGITS, LABELS, bins="quantile"), "not 'quantile'"),
        "another teacher": (lambda: metrics.agreement(LOGITS, LOGITS[:, :2]), r"\(4, 3\), found \(4, 2\)"),
        "no example": (lambda: metrics.agreement(LOGITS[:0], LOGITS[:0]), "no example"),
        "temperature 0": (lambda: metrics.kl_from_teacher(LOGITS, LOGITS, temperature=0), "above 0, not 0"),
        "too few classes": (lambda: metrics.errors_by_class(LOGITS, LABELS, 2), "num_classes is 2"),
        "no seed": (lambda: intervals.over_seeds([]), "finite numbers"),
        "a NaN seed": (lambda: intervals.over_seeds([1.0, math.nan]), "finite numbers"),
        "level 95": (lambda: intervals.over_seeds([1.0, 2.0], level=95), "level must be between 0 and 1, not 95"),
        "unpaired": (lambda: intervals.paired_difference([1.0], [1.0, 2.0]), "each of the 1 values, found 2"),
        "other examples": (lambda: intervals.bootstrap_difference(a, a[:3], seed=0), "found 4 and 3"),
        "no resample": (lambda: intervals.bootstrap_difference(a, a, num_resamples=0, seed=0), "num_resamples"),
        "rates": (lambda: intervals.bootstrap_difference(a + 0.5, a, seed=0), "each 0 or 1"),
        "no test set": (
            lambda: intervals.bootstrap_difference(a[:0], a[:0], seed=0),
            r"found torch.bool of shape \(0,\)",
        ),
    }


@pytest.mark.parametrize("what", wrong_calls())
def test_a_wrong_call_is_refused_in_one_line(what: str) -> None:
    call, message = wrong_calls()[what]
    with pytest.raises(UsageError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)
