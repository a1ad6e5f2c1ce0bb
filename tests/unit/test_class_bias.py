"""The bias that mends a student whose transfer set lacked a class."""

import pytest
import torch
from torch import nn

from instar import metrics
from instar.data import load_data, transfer_set
from instar.distillation import (
    LabelsInTargets,
    StoredLogits,
    Teacher,
    add_class_bias_,
    fit_class_bias,
    member_logits,
)
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.losses import LogitTargets
from instar.networks import build_network
from instar.training import fit
from small_fits import digits, perceptron

TRAIN = digits(200)
BIAS = torch.tensor([0.0, 2.0, 0.0, -1.0])


@pytest.mark.parametrize("has_bias", [True, False])
def test_folded_bias_is_added_to_the_logits(has_bias: bool) -> None:
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4, bias=has_bias))
    inputs = torch.randn(7, 5)
    before = network(inputs)
    add_class_bias_(network, BIAS, inputs)
    torch.testing.assert_close(network(inputs), before + BIAS)


def test_bias_is_refused_where_the_last_linear_layer_is_not_the_end() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    before = network[0].bias.detach().clone()
    with pytest.raises(UsageError, match="does not give the logits"):
        add_class_bias_(network, BIAS, torch.randn(3, 5))
    assert torch.equal(network[0].bias, before)
    with pytest.raises(UsageError, match="no last linear layer of 4 classes"):
        add_class_bias_(nn.Sequential(nn.Flatten()), BIAS, torch.randn(3, 5))


def test_what_cannot_be_fitted_is_refused() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 2, 2, 0, 2])
    with pytest.raises(UsageError, match="no example of class 'dog'"):
        fit_class_bias(logits, labels, classes=["dog"], class_names=["cat", "dog", "owl"])
    with pytest.raises(UsageError, match="name some of them, not all"):
        fit_class_bias(logits, labels, classes=[0, 1, 2])
    with pytest.raises(UsageError, match="unknown class '9'"):
        fit_class_bias(logits, labels, classes=[9])


def test_student_that_never_saw_a_three_learns_to_say_it() -> None:
    splits = load_data("digits")
    teacher = build_network("mlp:64x2", input_shape=(1, 8, 8), num_classes=10, seed=0)
    fit(teacher, splits.train, epochs=30, learning_rate=0.1)
    student = build_network("mlp:64x2", input_shape=(1, 8, 8), num_classes=10, seed=1)
    without = transfer_set(splits.train, drop_classes=["3"], labelled=0)
    fit(student, without, targets=Teacher(teacher, without, temperature=4.0), epochs=40, learning_rate=0.1)
    labels = splits.test.labels(splits.test.ids)
    before = predict_logits(student, splits.test)
    on_validation = predict_logits(student, splits.validation), splits.validation.labels(splits.validation.ids)
    bias = fit_class_bias(*on_validation, classes=["3"], class_names=splits.class_names)
    add_class_bias_(student, bias, splits.validation.gather(splits.validation.ids, 0))
    after = predict_logits(student, splits.test)
    assert bias[3] > 0
    assert metrics.errors(after, labels) < metrics.errors(before, labels)
    assert metrics.errors_by_class(after, labels, 10)[3] < 0.2 * (labels == 3).sum()


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_ensemble_asked_once_says_the_same_as_live(mean: str) -> None:
    members = [perceptron(seed=seed) for seed in (1, 2, 3)]
    teacher = Teacher(members, TRAIN, temperature=3.0, mean=mean)
    logits = member_logits(members, TRAIN)
    stored = StoredLogits(TRAIN.ids, logits, temperature=3.0, mean=mean)
    ids = TRAIN.ids[5:25]
    assert torch.equal(teacher(ids, 0).probs, stored(ids, 0).probs)
    assert stored(ids, 0).probs.shape == (20, TRAIN.num_classes)
    with pytest.raises(UsageError, match="no member"):
        Teacher([], TRAIN, temperature=3.0)


def test_labels_that_fill_the_targets_are_training_on_labels() -> None:
    plain, mixed = perceptron(seed=4), perceptron(seed=4)
    teacher = StoredLogits(TRAIN.ids, torch.zeros(len(TRAIN), TRAIN.num_classes), temperature=1.0)
    options = {"epochs": 2, "learning_rate": 0.1, "precision": "float32"}
    fit(plain, TRAIN, **options)
    fit(mixed, TRAIN, targets=LabelsInTargets(teacher, TRAIN, 1.0), **options)
    for own, other in zip(plain.parameters(), mixed.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
    assert not torch.equal(next(plain.parameters()), next(perceptron(seed=4).parameters()))


def test_labels_cannot_be_mixed_into_logits() -> None:
    matching = StoredLogits(TRAIN.ids, torch.zeros(len(TRAIN), TRAIN.num_classes), temperature=float("inf"))
    assert isinstance(matching(TRAIN.ids, 0), LogitTargets)
    with pytest.raises(UsageError, match="finite temperature"):
        LabelsInTargets(matching, TRAIN, 0.5)(TRAIN.ids, 0)
