"""What holds of the metrics for any logits and labels."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from instar import intervals, metrics

quick = settings(deadline=None, max_examples=60)
BINS = st.sampled_from(["adaptive", "equal-width"])
seed_values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8)


@st.composite
def examples(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits (examples, classes), often with equal ones, and labels, one or more of them not -1."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 5)))
    elements = st.one_of(st.floats(-20, 20), st.integers(-2, 2).map(float))
    logits = torch.from_numpy(draw(arrays("float64", shape, elements=elements)))
    labels = torch.from_numpy(draw(arrays("int64", shape[0], elements=st.integers(-1, shape[1] - 1))))
    assume((labels != -1).any())
    return logits, labels


@quick
@given(examples())
def test_the_counts_agree_with_each_other(example: tuple[Tensor, Tensor]) -> None:
    logits, labels = example
    num_classes, num_labelled = logits.shape[1], int((labels != -1).sum())
    cells = metrics.confusion(logits, labels, num_classes)
    num_errors = int(metrics.errors(logits, labels))
    assert int(cells.sum()) == num_labelled
    assert int(cells.trace()) == num_labelled - num_errors
    assert torch.equal(metrics.errors_by_class(logits, labels, num_classes), cells.sum(1) - cells.diag())
    assert int(metrics.example_errors(logits, labels).sum()) == num_errors
    assert metrics.accuracy(logits, labels) == pytest.approx(1 - num_errors / num_labelled)


@quick
@given(examples())
def test_top_k_accuracy_grows_from_the_accuracy_to_one(example: tuple[Tensor, Tensor]) -> None:
    logits, labels = example
    found = [metrics.top_k_accuracy(logits, labels, k) for k in range(1, logits.shape[1] + 1)]
    assert found == sorted(found)
    assert found[0] == metrics.accuracy(logits, labels)
    assert found[-1] == 1.0


@quick
@given(examples(), st.integers(1, 20), BINS)
def test_calibration_error_is_a_share_that_knows_no_order(
    example: tuple[Tensor, Tensor], num_bins: int, bins: str
) -> None:
    logits, labels = example
    found = metrics.calibration_error(logits, labels, num_bins=num_bins, bins=bins)
    assert 0 <= found <= 1
    reversed_ = metrics.calibration_error(logits.flip(0), labels.flip(0), num_bins=num_bins, bins=bins)
    assert reversed_ == pytest.approx(found, abs=1e-9)
    # Fewer bins cancel more of it: one bin leaves the distance of the two means.
    one_bin = metrics.calibration_error(logits, labels, num_bins=1, bins=bins)
    confidence = logits[labels != -1].softmax(-1).amax(-1).mean().item()
    assert one_bin == pytest.approx(abs(metrics.accuracy(logits, labels) - confidence), abs=1e-9)
    assert one_bin <= found + 1e-9


@quick
@given(examples(), st.floats(0.5, 20.0))
def test_a_network_follows_itself(example: tuple[Tensor, Tensor], temperature: float) -> None:
    logits, _ = example
    other = logits.flip(0)
    assert metrics.agreement(logits, logits) == 1.0
    assert metrics.agreement(logits, other) == metrics.agreement(other, logits)
    assert metrics.kl_from_teacher(logits, logits, temperature=temperature) == 0
    assert metrics.kl_from_teacher(logits, other, temperature=temperature) >= 0
    shifted = metrics.kl_from_teacher(logits + 3, other - 3, temperature=temperature)
    assert shifted == pytest.approx(metrics.kl_from_teacher(logits, other, temperature=temperature), abs=1e-9)


@quick
@given(seed_values, st.floats(-1e6, 1e6), st.floats(0.01, 0.99))
def test_the_interval_over_seeds_holds_the_mean_and_moves_with_the_values(
    values: list[float], shift: float, level: float
) -> None:
    found = intervals.over_seeds(values, level=level)
    assert found.low <= found.mean <= found.high
    moved = intervals.over_seeds([value + shift for value in values], level=level)
    assert moved.low == pytest.approx(found.low + shift, abs=1e-3, rel=1e-6)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-3, rel=1e-6)
    wider = intervals.over_seeds(values, level=(1 + level) / 2)
    assert wider.low <= found.low <= found.high <= wider.high


@quick
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=8))
def test_changing_sides_changes_the_sign_of_a_paired_difference(pairs: list[tuple[float, float]]) -> None:
    values, controls = map(list, zip(*pairs, strict=True))
    there, back = intervals.paired_difference(values, controls), intervals.paired_difference(controls, values)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low), abs=1e-6)
    assert intervals.paired_difference(values, values).high == 0


@quick
@given(st.data(), st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_the_bootstrap_interval_lies_within_the_differences(
    data: st.DataObject, n: int, seeds_a: int, seeds_b: int
) -> None:
    a, b = (torch.from_numpy(data.draw(arrays("bool", (seeds, n)))) for seeds in (seeds_a, seeds_b))
    found = intervals.bootstrap_difference(a, b, num_resamples=200, seed=0)
    difference = a.double().mean(0) - b.double().mean(0)
    assert found.mean == pytest.approx(difference.mean().item(), abs=1e-12)
    assert difference.min() - 1e-12 <= found.low <= found.high <= difference.max() + 1e-12
