"""Which fits count as ones that failed to learn."""

import math
import warnings

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from instar import intervals
from instar.data import InMemoryDataset
from instar.distillation import distill, train
from instar.errors import LearningWarning, UsageError
from instar.evaluation import predict_logits, why_not_learned
from instar.training import fit
from small_fits import blots, part_labelled, perceptron


@pytest.mark.parametrize(("n", "commonest"), [(50, 5), (204, 51), (1000, 10), (5000, 4900)])
def test_chance_is_a_one_sided_binomial_bound(n: int, commonest: int) -> None:
    least = next(k for k in range(n + 1) if stats.binom.sf(k - 1, n, commonest / n) <= 0.01)
    found = [intervals.is_above_chance(right, n, commonest) for right in range(n + 1)]
    assert found == [right >= least for right in range(n + 1)]


def test_few_examples_and_one_class_do_not_show_that_a_fit_failed() -> None:
    assert intervals.is_above_chance(4, 4, 2)  # no error, though luck gives that once in sixteen
    assert not intervals.is_above_chance(3, 4, 2)
    assert intervals.is_above_chance(90, 100, 100)  # one class: guessing it is always right
    for counts in ((5, 4, 2), (-1, 4, 2), (1, 4, 0), (1, 4, 5)):
        with pytest.raises(UsageError, match="is_above_chance"):
            intervals.is_above_chance(*counts)


@pytest.mark.parametrize("rate", [1e-7, 300.0])
def test_a_learning_rate_that_is_too_small_or_too_large_fails_to_learn(rate: float) -> None:
    result = train(perceptron(), blots(), epochs=3, learning_rate=rate, gradient_clip=1.0)
    assert "of its transfer set, where the commonest class alone is right on" in result.failed_to_learn


def test_one_that_learns_has_no_reason() -> None:
    assert train(perceptron(), blots(), epochs=20, learning_rate=0.1).failed_to_learn == ""


def dataset(inputs: Tensor, labels: Tensor) -> InMemoryDataset:
    names = [str(number) for number in range(int(labels.max()) + 1)]
    return InMemoryDataset(inputs.float(), labels, class_names=names)


def test_a_hard_task_with_few_right_answers_is_learned() -> None:
    """A hundred classes of which one in twenty is right: five times chance."""
    labels = torch.arange(4000) % 100
    answers = torch.where(torch.arange(4000) % 20 == 0, labels, (labels + 1) % 100)
    data = dataset(nn.functional.one_hot(answers, 100), labels)
    assert why_not_learned(nn.Identity(), data, data.ids) == ""
    wrong = dataset(nn.functional.one_hot((labels + 1) % 100, 100), labels)
    assert why_not_learned(nn.Identity(), wrong, wrong.ids).startswith("right on 0 of 4,000 examples")


def test_always_the_commonest_class_is_not_learned() -> None:
    """On 9 of 10 examples of one class, 90 % right is nothing."""
    labels = (torch.arange(1000) % 10 == 0).long()
    data = dataset(torch.zeros(1000, 3), labels)
    constant = nn.Linear(3, 2)
    with torch.no_grad():
        constant.bias.copy_(torch.tensor([5.0, -5.0]))
    assert why_not_learned(constant, data, data.ids).startswith("right on 900 of 1,000")


def rare_class(n: int = 1000) -> InMemoryDataset:
    """One example of twenty is of class 1: more where the first input is large, hardly ever every second."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 6, generator=generator)
    return dataset(inputs, (torch.rand(n, generator=generator) < torch.sigmoid(inputs[:, 0] - 3.5)).long())


def test_a_fit_that_never_answers_a_rare_class_has_learned_where_its_likelihood_says_so() -> None:
    data = rare_class()
    labels = data.labels(data.ids)
    result = train(nn.Linear(6, 2), data, epochs=30, learning_rate=0.05)
    nll = nn.functional.cross_entropy(predict_logits(result.network, data), labels, reduction="none")
    num_right = 1000 - result.metrics[-1]["train_errors"]
    assert not intervals.is_above_chance(num_right, 1000, 1000 - int(labels.sum()))
    assert intervals.is_likelier_than_shares(nll, labels)
    assert result.failed_to_learn == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a teacher that is no guess, at any temperature
        warnings.simplefilter("ignore", LearningWarning)  # one epoch
        for temperature in (1.0, 4.0, math.inf):
            distill(result.network, nn.Linear(6, 2), data, epochs=1, temperature=temperature)
    shuffled = dataset(data.gather(data.ids, 0), labels.roll(7))
    assert why_not_learned(result.network, shuffled, shuffled.ids) != ""


def test_no_constant_prediction_is_likelier_than_the_shares() -> None:
    labels = rare_class().labels(rare_class().ids)
    for share in (0.5, 1 - float(labels.double().mean()), 0.99):
        probs = torch.tensor([share, 1 - share], dtype=torch.float64).repeat(1000, 1)
        assert not intervals.is_likelier_than_shares(
            nn.functional.nll_loss(probs.log(), labels, reduction="none"), labels
        )
    assert not intervals.is_likelier_than_shares(torch.zeros(1), torch.zeros(1).long())
    with pytest.raises(UsageError, match=r"is_likelier_than_shares: expected \(examples,\) twice"):
        intervals.is_likelier_than_shares(torch.zeros(3), torch.zeros(2).long())


def test_dropout_and_a_short_first_epoch_do_not_hide_that_a_network_learned() -> None:
    """Training errors of the only epoch, with most units dropped, are at chance; the network itself is not."""
    result = train(perceptron(dropout=0.9, hidden=64), blots(2000), epochs=1, learning_rate=0.02)
    line = result.metrics[-1]
    assert not intervals.is_above_chance(2000 - line["train_errors"], 2000, 230)
    assert result.failed_to_learn == ""


def test_a_moving_average_that_stayed_at_the_start_failed_though_training_went_well() -> None:
    result = fit(perceptron(), blots(), epochs=40, learning_rate=0.1, ema_decay=0.99999, seed=0)
    assert result.metrics[-1]["train_errors"] < 100
    assert result.failed_to_learn


def test_without_labels_a_student_is_judged_by_what_it_was_taught() -> None:
    teacher = train(perceptron(7), blots(), epochs=40, learning_rate=0.1).network
    data = blots().without_labels(blots().ids)
    learned = distill(teacher, perceptron(1), data, hard_weight=0.0, epochs=40, learning_rate=0.1)
    assert learned.failed_to_learn == ""
    failed = distill(teacher, perceptron(1), data, hard_weight=0.0, epochs=2, learning_rate=1e-7)
    assert "of 200 examples" in failed.failed_to_learn
    some = distill(teacher, perceptron(1), part_labelled(blots()), epochs=2, learning_rate=1e-7)
    assert "of 200 examples" in some.failed_to_learn


def test_a_finished_run_directory_keeps_the_reason(tmp_path) -> None:
    first = train(perceptron(), blots(), epochs=1, learning_rate=1e-7, run_dir=tmp_path / "fit")
    again = train(perceptron(), blots(), epochs=1, learning_rate=1e-7, run_dir=tmp_path / "fit")
    assert first.failed_to_learn == again.failed_to_learn != ""
