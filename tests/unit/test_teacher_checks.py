"""What a teacher gives is looked at before the first step: values, repetition, inputs, order of the classes."""

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar import distill_study, evaluate, fit_class_bias, predict_logits
from instar.data import load_data, parse_views
from instar.distillation import SoftTargetStore, StoredLogits, distill, train
from instar.errors import DataWarning, InstarError, LearningWarning, TrainingError, UsageError
from instar.losses import LogitTargets, SoftTargets, soft_targets
from instar.recipes.distill.checks import check
from instar.recipes.distill.plan import Plan
from instar.recipes.distill.settings import DistillConfig
from instar.specialists import ClassSet, SpecialistEnsemble
from instar.teacher_checks import about_classes, order_of_classes
from small_fits import digits, perceptron, reordered_teacher

TRAIN, VALIDATION = digits(400), digits(100, start=400)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)
NAMES = TRAIN.class_names


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return train(perceptron(hidden=32), TRAIN, epochs=15, batch_size=32).network


class Around(nn.Module):
    """A teacher inside a module of the user."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor], *, first: bool = False) -> None:
        super().__init__()
        self.network, self.change, self.first = network, change, first

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(self.change(inputs)) if self.first else self.change(self.network(inputs))


def with_row(value: float) -> Callable[[Tensor], Tensor]:
    """One row of a batch gets a value."""
    return lambda logits: torch.cat([torch.full_like(logits[:1], value), logits[1:]])


WRONG: dict[str, tuple[Callable[[nn.Module], nn.Module], type[InstarError], str]] = {
    "softmax": (
        lambda net: nn.Sequential(net, nn.Softmax(1)),
        UsageError,
        "found probabilities .* leave out the soft",
    ),
    "half precision": (
        lambda net: Around(net, lambda z: z.softmax(1).bfloat16()),
        UsageError,
        "found probabilities",
    ),
    "votes of a tree": (
        lambda net: Around(net, lambda z: F.one_hot(z.argmax(1), 10).float()),
        UsageError,
        "probabil",
    ),
    "dropout": (
        lambda net: Around(net, lambda x: F.dropout(x, 0.5), first=True),
        TrainingError,
        "two passes .* differ",
    ),
    "noise": (lambda net: Around(net, lambda z: z + 0.01 * torch.randn_like(z)), TrainingError, "two passes"),
    "writes": (lambda net: Around(net, lambda x: x.mul_(2.0), first=True), TrainingError, "writes into its input"),
    "NaN": (
        lambda net: Around(net, with_row(math.nan)),
        TrainingError,
        "NaN or infinity in 1 of 128 rows.* row 0",
    ),
    "infinity": (lambda net: Around(net, with_row(math.inf)), TrainingError, "NaN or infinity in 1 of 128 rows"),
    "no class": (lambda net: Around(net, with_row(-math.inf)), TrainingError, "NaN or infinity in 1 of 128 rows"),
    "counts of votes": (
        lambda net: Around(
            net, lambda z: 7 * F.one_hot(z.argmax(1), 10) * (torch.arange(len(z)) > 2)[:, None].float()
        ),
        TrainingError,
        "nothing but zeros in 3 of 128 rows",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_teacher_that_no_student_should_learn_from_is_named_with_its_cure(
    teacher: nn.Module, name: str, tmp_path: Path
) -> None:
    wrap, kind, words = WRONG[name]
    wrong = wrap(teacher)
    before = TRAIN.gather(TRAIN.ids, 0)
    for data in (TRAIN, SHAKEN):
        with pytest.raises(kind, match=f"^the teacher.*{words}") as caught:
            distill(wrong, perceptron(), data, epochs=1)
        assert "\n" not in str(caught.value)
        with pytest.raises(kind, match=f"^teacher 1 of the ensemble.*{words}"):
            distill([teacher, wrong], perceptron(), data, epochs=1)
    with pytest.raises(kind, match=f"^teacher 'wrong'.*{words}"):
        SoftTargetStore.write(tmp_path / "store", {"right": teacher, "wrong": wrong}, TRAIN)
    assert not (tmp_path / "store").exists()
    assert torch.equal(TRAIN.gather(TRAIN.ids, 0), before)


def test_logarithms_of_probabilities_are_logits(teacher: nn.Module) -> None:
    states = []
    for network in (teacher, nn.Sequential(teacher, nn.LogSoftmax(1))):
        states.append(distill(network, perceptron(seed=1), TRAIN, epochs=2).network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=1e-4)
    masked = Around(teacher, lambda z: z.masked_fill(torch.arange(10) == 9, -math.inf))
    assert math.isfinite(distill(masked, perceptron(), TRAIN, epochs=1).metrics[-1]["train_loss"])
    with pytest.raises(TrainingError, match="NaN or infinity in 128 of 128"):  # there is no such logit to match
        distill(masked, perceptron(), TRAIN, epochs=1, temperature=math.inf)


def test_stored_logits_are_looked_at_as_a_whole(teacher: nn.Module) -> None:
    logits = predict_logits(teacher, TRAIN)
    wrong = {"softmax": logits.softmax(1), "rounded": (1000 * logits.softmax(1)).round() / 1000}
    wrong |= {"NaN": logits.clone(), "zeros": logits.abs()}
    wrong["NaN"][300, 2], wrong["zeros"][300:305] = math.nan, 0.0
    words = {"softmax": "probabilities", "rounded": "probabilities", "NaN": "is row 300", "zeros": "is row 300"}
    for name, values in wrong.items():
        for members in (values, torch.stack([logits, values])):
            with pytest.raises(InstarError, match=f"^the teacher's logits: .*{words[name]}"):
                StoredLogits(TRAIN.ids, members, temperature=4.0)
    StoredLogits(TRAIN.ids, torch.zeros_like(logits), temperature=4.0)  # as a whole that is a uniform teacher
    logits[300:304] = 0.0
    StoredLogits(TRAIN.ids, logits, temperature=4.0)  # 1 %
    logits[304] = 0.0
    with pytest.warns(
        DataWarning, match="the teacher's logits: nothing but zeros in 5 of 400 rows, the first is row 3"
    ):
        StoredLogits(TRAIN.ids, logits, temperature=4.0)


@pytest.mark.parametrize("temperature", [4.0, math.inf])
def test_a_teacher_without_biases_may_be_shown_a_blank_picture(temperature: float) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    inputs, labels = TRAIN.gather(TRAIN.ids, 0), TRAIN.labels(TRAIN.ids)
    teacher = train(teacher, (inputs, labels), epochs=5, batch_size=32).network
    inputs[7] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distill(teacher, perceptron(), (inputs, labels), epochs=1, temperature=temperature)
    inputs[10:100] = 0.0
    with pytest.warns(DataWarning, match="^the teacher's logits: nothing but zeros in 91 of 400"):
        distill(teacher, perceptron(), (inputs, labels), epochs=1)


def targets_that(change: Callable[[Tensor], Any], logits: Tensor) -> Callable[[Tensor, Tensor | int], Any]:
    order, rows = TRAIN.ids.sort()
    return lambda ids, views: change(logits[rows[torch.searchsorted(order, ids)]])


def test_a_function_of_the_user_gives_soft_targets(teacher: nn.Module) -> None:
    logits = predict_logits(teacher, TRAIN)
    wrong: dict[str, tuple[Callable[[Tensor], Any], str]] = {
        "logits": (lambda z: SoftTargets(z, 4.0), r"no probabilities in \d+ of 400 rows.*instar\.soft_targets"),
        "percent": (lambda z: SoftTargets(100 * z.softmax(1), 4.0), "which adds up to 100 "),
        "NaN": (lambda z: SoftTargets(with_row(math.nan)(z.softmax(1)), 4.0), "the soft targets: NaN in 4 of"),
        "zeros": (lambda z: SoftTargets(with_row(0.0)(z.softmax(1)), 4.0), "adds up to 0 "),
        "to match": (lambda z: LogitTargets(z.softmax(1)), "the logits to match: found probabilities"),
        "noise": (lambda z: soft_targets(z + torch.randn_like(z), 4.0), "the soft targets: two passes"),
    }
    for change, words in wrong.values():
        with pytest.raises(InstarError, match=words):
            distill(targets_that(change, logits), perceptron(), TRAIN, epochs=1)
    distill(targets_that(lambda z: soft_targets(z, 4.0), logits), perceptron(), TRAIN, epochs=1)


def test_a_network_that_ends_in_softmax_is_neither_trained_nor_scored(teacher: nn.Module) -> None:
    ends = nn.Sequential(perceptron(), nn.Softmax(1))
    for call in (lambda: train(ends, TRAIN, epochs=1), lambda: distill(teacher, ends, TRAIN, epochs=1)):
        with pytest.raises(UsageError, match="the network: found probabilities"):
            call()
    with pytest.raises(UsageError, match="the network: found probabilities"):
        evaluate(nn.Sequential(teacher, nn.Softmax(1)), VALIDATION)
    probs = predict_logits(teacher, VALIDATION).softmax(1)
    with pytest.raises(UsageError, match="fit_class_bias: found probabilities"):
        fit_class_bias(probs, VALIDATION.labels(VALIDATION.ids), classes=[3])
    sets, inputs = [ClassSet([1, 7], 10)], TRAIN.gather(TRAIN.ids[:4], 0)
    specialists = [nn.Sequential(perceptron(classes=3), nn.Softmax(1))]
    with pytest.raises(UsageError, match="specialist-0: found probabilities"):
        SpecialistEnsemble(teacher, specialists, sets, class_names=NAMES, example_inputs=inputs)


ORDER = [0, 1, 8, 9, 2, 3, 4, 5, 6, 7]  # of the outputs of `reordered`: that of class i is where i stands


def reordered(network: nn.Module) -> nn.Module:
    return Around(network, lambda z: z[:, ORDER])


def test_another_order_of_the_classes_is_said_in_words_and_nothing_is_permuted(
    teacher: nn.Module, tmp_path: Path
) -> None:
    cure = [ORDER.index(number) for number in range(10)]
    words = (
        rf"is right on \d+ of 400 labelled examples, and on 3\d\d if its classes are in another order than the \
data's \(output 4 is '2', 5 is '3', .*; reorder its outputs: logits\[:, \{cure}\]".replace("\\\n", "")
    )
    wrong = reordered(teacher)
    for data in (TRAIN, SHAKEN):
        with pytest.warns(DataWarning, match=f"^the teacher {words}") as told:
            distill(wrong, perceptron(), data, epochs=1)
        assert [one.category for one in told if one.category is not LearningWarning] == [DataWarning]
    with pytest.warns(DataWarning, match=f"^teacher 'one' {words}"):
        store = SoftTargetStore.write(tmp_path / "store", {"one": wrong}, TRAIN)
    assert torch.equal(store.logits(TRAIN.ids, 0)[0].argmax(1), predict_logits(wrong, TRAIN).argmax(1))
    with pytest.warns(DataWarning, match=f"^the teacher {words}"):
        distill(store.targets(TRAIN, temperature=4.0), perceptron(), TRAIN, epochs=1)
    mended = Around(wrong, lambda z: z[:, cure])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distill(mended, perceptron(), TRAIN, epochs=1)
        distill(wrong, perceptron(), TRAIN.without_labels(TRAIN.ids), hard_weight=0.0, epochs=1)  # nobody can tell


def planned(tmp_path: Path, **settings: Any) -> Plan:
    return Plan(DistillConfig(**settings), tmp_path / "run")


def test_the_command_looks_at_a_given_teacher_before_anything_is_trained(tmp_path: Path) -> None:
    given = {"network": "python:small_fits:softmax_teacher", "pretrained": True}
    with pytest.raises(UsageError, match=r"^the teacher: found probabilities"):
        check(planned(tmp_path, teacher=given))
    given["network"] = "python:small_fits:reordered_teacher"
    words = r"output 3 is '2', 2 is '3'\); reorder its outputs: logits\[:, \[0, 1, 3, 2, 4, 5, 6, 7, 8, 9\]\]"
    with pytest.warns(DataWarning, match=f"^the teacher .*{words}"):
        check(planned(tmp_path, teacher=given))
    splits = load_data("digits")
    with pytest.warns(DataWarning, match="^teacher 'one'"):
        SoftTargetStore.write(
            tmp_path / "store", {"one": reordered_teacher()}, splits.train.union(splits.validation)
        )
    with pytest.warns(DataWarning, match=f"^the teacher .*{words}"):
        check(planned(tmp_path, targets=str(tmp_path / "store")))


def answers(num_classes: int, *, right: float, each: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels, and answers of which a share is right and the others are drawn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (each * num_classes,), generator=generator)
    drawn = torch.randint(num_classes, labels.shape, generator=generator)
    return labels, torch.where(torch.rand(labels.shape, generator=generator) < right, labels, drawn)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_an_order_is_found_where_it_is_certain(num_classes: int) -> None:
    turned = torch.arange(num_classes).roll(1)
    labels, found = answers(num_classes, right=0.8, each=256 if num_classes == 2 else 20)
    assert order_of_classes(turned[found], labels, num_classes) == turned.tolist()
    swapped = torch.arange(num_classes)
    swapped[[0, 1]] = torch.tensor([1, 0])
    if num_classes <= 10:  # two of ten classes, found though four answers of five are right
        assert order_of_classes(swapped[found], labels, num_classes) == swapped.tolist()


@pytest.mark.parametrize("right", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_a_weak_teacher_has_no_other_order(num_classes: int, right: float) -> None:
    for seed in range(20):
        for each in (1, 5, 20):
            labels, found = answers(num_classes, right=right, each=each, seed=seed)
            assert order_of_classes(found, labels, num_classes) is None


def test_answers_that_vary_with_the_inputs_alone_are_no_other_order() -> None:
    """Labels that the inputs show, and a network that was never trained: its answers vary with the labels too."""
    inputs = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
    torch.manual_seed(5)
    untrained = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    predicted = untrained(inputs).argmax(1)
    assert order_of_classes(predicted, labels, 3) is None
    constant, rare = torch.ones(200, dtype=torch.long), (torch.arange(200) % 19 == 0).long()
    assert order_of_classes(constant, rare, 2) is None


def test_many_classes_are_not_all_listed() -> None:
    labels, found = answers(100, right=0.9)
    outputs = torch.eye(100)[(found + 1) % 100]
    said = about_classes(outputs, labels, [f"class {number}" for number in range(100)])
    assert "(output 1 is 'class 0', 2 is 'class 1', " in said
    assert said.endswith(", ...); reorder its outputs to the order of the data's class names")


def test_an_untrained_teacher_is_said_to_be_no_better_than_guessing(teacher: nn.Module) -> None:
    labels = TRAIN.labels(TRAIN.ids)
    said = about_classes(predict_logits(perceptron(), TRAIN), labels, NAMES)
    assert re.match(
        r"the teacher is right on \d+ of 400 labelled examples, where the commonest class alone is", said
    )
    assert about_classes(predict_logits(teacher, TRAIN), labels, NAMES) == ""
    assert about_classes(torch.zeros(400, 10), labels, NAMES) == ""  # uniform targets smooth the labels
    assert about_classes(predict_logits(perceptron(), TRAIN), torch.full_like(labels, -1), NAMES) == ""
    with pytest.warns(DataWarning, match="is it trained, for these classes"):
        distill(perceptron(), perceptron(seed=1), TRAIN, epochs=1)


@pytest.mark.slow
def test_the_result_and_the_page_of_the_command_say_another_order_first(tmp_path: Path) -> None:
    given = {"network": "python:small_fits:reordered_teacher", "pretrained": True}
    small = {"epochs": 1, "seeds": 1, "learning_rate": 0.1, "run_dir": tmp_path / "run"}
    with pytest.warns(DataWarning, match="reorder its outputs"):
        result = distill_study(teacher=given, student="mlp:8x1", **small)
    (said,) = result["details"]["class_order"]
    assert said.startswith("The teacher is right on ")
    assert "output 3 is '2', 2 is '3'" in said
    assert result["details"]["observations"][0] == said
    assert "reorder its outputs" in (tmp_path / "run" / "report.html").read_text()
