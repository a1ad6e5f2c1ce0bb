"""The bias that mends a student whose transfer set lacked a class."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar import metrics
from instar.data import InMemoryDataset, load_data, parse_views, transfer_set
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
from instar.losses import LogitTargets, SoftTargets, targets_of_members
from instar.networks import build_network
from instar.training import fit
from small_fits import digits, perceptron, same_bits

TRAIN = digits(200)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)
BIAS = torch.tensor([0.0, 2.0, 0.0, -1.0])


@pytest.mark.parametrize("has_bias", [True, False])
def test_folded_bias_is_added_to_the_logits(has_bias: bool) -> None:
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4, bias=has_bias))
    network.train()[1].eval()
    inputs = torch.randn(7, 5)
    before, layers = network(inputs), list(network.modules())
    add_class_bias_(network, BIAS, inputs)
    torch.testing.assert_close(network(inputs), before + BIAS)
    assert list(network.modules()) == layers
    assert [layer.training for layer in network] == [True, False, True]


def test_frozen_layers_stay_frozen_and_others_learn_on() -> None:
    for is_frozen in (True, False):
        network = nn.Sequential(nn.Linear(5, 4)).requires_grad_(not is_frozen)
        add_class_bias_(network, BIAS, torch.randn(3, 5))
        assert [parameter.requires_grad for parameter in network.parameters()] == [not is_frozen] * 2


def test_bias_is_refused_where_the_last_linear_layer_is_not_the_end() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    before = network[0].bias.detach().clone()
    with pytest.raises(UsageError, match="do not come straight from the last linear layer"):
        add_class_bias_(network, BIAS, torch.randn(3, 5))
    assert torch.equal(network[0].bias, before)
    without = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh())
    with pytest.raises(UsageError, match="do not come straight from the last linear layer"):
        add_class_bias_(without, BIAS, torch.randn(3, 5))
    assert without[0].bias is None
    for wrong in (nn.Sequential(nn.Flatten()), nn.Linear(5, 3)):
        with pytest.raises(UsageError, match="no last linear layer of 4 classes"):
            add_class_bias_(wrong, BIAS, torch.randn(3, 5))
    with pytest.raises(UsageError, match=r"expected a bias \(4,\), found \(4, 1\)"):
        add_class_bias_(nn.Linear(5, 4), BIAS[:, None], torch.randn(3, 5))


def test_without_an_example_nothing_says_which_layer_gives_the_logits() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    before = network[0].bias.detach().clone()
    with pytest.raises(UsageError, match="no example input"):
        add_class_bias_(network, BIAS, torch.zeros(0, 5))
    assert torch.equal(network[0].bias, before)


class WithAuxiliaryHead(nn.Module):
    """The linear layer that comes last by name is not the one that gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.auxiliary = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs)


def test_bias_is_refused_where_another_linear_layer_is_the_last_by_name() -> None:
    network = WithAuxiliaryHead()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UsageError, match="do not come straight from the last linear layer"):
        add_class_bias_(network, BIAS, torch.randn(3, 5))
    assert same_bits(network.state_dict(), before)


def test_what_cannot_be_fitted_is_refused() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 2, 2, 0, 2])
    with pytest.raises(UsageError, match="no example of class 'dog'"):
        fit_class_bias(logits, labels, classes=["dog"], class_names=["cat", "dog", "owl"])
    with pytest.raises(UsageError, match="name some of them, but not all"):
        fit_class_bias(logits, labels, classes=[0, 1, 2])
    with pytest.raises(UsageError, match="0 of 3 classes are named; name some"):
        fit_class_bias(logits, labels, classes=[])
    with pytest.raises(UsageError, match="found the text '02'"):
        fit_class_bias(logits, labels, classes="02")
    for unknown in (9, -1, "9"):
        with pytest.raises(UsageError, match=f"unknown class '{unknown}'"):
            fit_class_bias(logits, labels, classes=[unknown])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, r"expected logits \(n, 2\).*found \(3, 2\) and \(2,\)"),
        ({"labels": torch.tensor([[0], [1], [0]])}, r"found \(3, 2\) and \(3, 1\)"),
        ({"labels": torch.tensor([0, 1, 2])}, "label 2 is not one of the 2 classes"),
        ({"labels": torch.tensor([-1, -1, -1])}, "no example of class '1'"),
        ({"class_names": ["cat", "dog", "owl"]}, r"expected logits \(n, 3\) for 3 class names"),
        ({"logits": torch.tensor([[0.0, 1.0], [1.0, torch.nan], [0.0, 0.0]])}, "NaN or infinity"),
        ({"logits": torch.tensor([[0.0, 1.0], [1.0, -torch.inf], [0.0, 0.0]])}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], message: str) -> None:
    fitting = {"logits": torch.zeros(3, 2), "labels": torch.tensor([0, 1, -1]), "classes": [1]}
    with pytest.raises(UsageError, match=message):
        fit_class_bias(**{**fitting, **change})


def test_examples_without_a_label_have_no_say() -> None:
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 9.0]])
    bias = fit_class_bias(logits, torch.tensor([0, 1, 0, -1]), classes=[1])
    assert bias.tolist() == [0.0, 1.5]


def test_equal_logits_are_not_made_worse() -> None:
    """The first of equal logits wins, which is right here and which no shift keeps."""
    logits, labels = torch.tensor([[0.0, 0.0, -9.0], [-9.0, 0.0, 0.0]]), torch.tensor([0, 1])
    for shared in (True, False):
        assert not fit_class_bias(logits, labels, classes=[1], shared=shared).any()


def test_a_shift_is_one_that_float32_can_tell_from_its_neighbours() -> None:
    """Between 16384 and the next number lies the shift without an error, but no number in float32."""
    below, above = 16384.0, 16384.0 + 2**-9
    logits = torch.tensor([[below, 0.0], [above, 0.0]])
    labels = torch.tensor([1, 0])
    bias = fit_class_bias(logits, labels, classes=[1])
    assert bias.tolist() in ([0.0, below - 0.5], [0.0, above + 0.5])
    assert metrics.errors(logits + bias, labels) == 1


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


MEANS = ("arithmetic", "geometric")


@pytest.mark.parametrize("mean", MEANS)
def test_ensemble_asked_once_says_the_same_as_live(mean: str) -> None:
    members = [perceptron(seed=seed) for seed in (1, 2, 3)]
    teacher = Teacher(members, TRAIN, temperature=3.0, mean=mean)
    logits = member_logits(members, TRAIN)
    stored = StoredLogits(TRAIN.ids, logits, temperature=3.0, mean=mean)
    ids = TRAIN.ids[5:25]
    assert torch.equal(teacher(ids, 0).probs, stored(ids, 0).probs)
    assert stored(ids, 0).probs.shape == (20, TRAIN.num_classes)


@pytest.mark.parametrize("temperature", [3.0, float("inf")])
@pytest.mark.parametrize("mean", MEANS)
def test_ensemble_asked_at_each_step_says_what_its_members_say_of_the_view(mean: str, temperature: float) -> None:
    members = [perceptron(seed=seed) for seed in (1, 2, 3)]
    live = Teacher(members, SHAKEN, temperature=temperature, mean=mean)
    for view in (0, 2):
        logits = member_logits(members, SHAKEN, view=view)
        stored = StoredLogits(SHAKEN.ids, logits, temperature=temperature, mean=mean)
        torch.testing.assert_close(values(live(SHAKEN.ids[5:25], view)), values(stored(SHAKEN.ids[5:25], 0)))
        torch.testing.assert_close(
            values(stored(SHAKEN.ids, 0)), values(targets_of_members(logits, temperature, mean=mean))
        )
    seen = [values(live(SHAKEN.ids, view)) for view in (0, 2)]
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def values(targets: SoftTargets | LogitTargets) -> Tensor:
    return targets.logits if isinstance(targets, LogitTargets) else targets.probs


def test_the_two_means_of_an_ensemble_differ() -> None:
    members = [perceptron(seed=seed) for seed in (1, 2, 3)]
    found = [values(Teacher(members, TRAIN, temperature=1.0, mean=mean)(TRAIN.ids, 0)) for mean in MEANS]
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("data", [TRAIN, SHAKEN], ids=["asked once", "asked at each step"])
def test_a_wrong_ensemble_is_refused_before_the_first_step(data: InMemoryDataset) -> None:
    members = [perceptron(seed=seed) for seed in (1, 2)]
    with pytest.raises(UsageError, match="an ensemble has no member"):
        Teacher([], data, temperature=3.0)
    with pytest.raises(UsageError, match="mean is 'arithmetic' or 'geometric', not 'median'"):
        Teacher(members, data, temperature=3.0, mean="median")
    for temperature in (0.0, -1.0, -float("inf"), float("nan")):
        with pytest.raises(UsageError, match="temperature must be a finite number above 0"):
            Teacher(members, data, temperature=temperature)


@pytest.mark.parametrize("data", [TRAIN, SHAKEN], ids=["asked once", "asked at each step"])
def test_members_of_other_classes_are_refused(data: InMemoryDataset) -> None:
    with pytest.raises(UsageError, match=r"members of an ensemble have \[10, 9\] classes"):
        Teacher([perceptron(), perceptron(classes=9)], data, temperature=3.0)(data.ids, 1)


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
