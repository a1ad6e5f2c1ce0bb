"""Hints: the student learns from intermediate layers, through projectors that are no part of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from instar import distill
from instar.data import InMemoryDataset, as_dataset
from instar.distillation import Hint, HintLoss
from instar.errors import TrainingError, UsageError
from instar.runs import FINAL

INPUTS = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
DATA = as_dataset((INPUTS, torch.arange(40) % 3))
assert isinstance(DATA, InMemoryDataset)


def convnet(channels: int, stride: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    head = nn.Linear(channels, 3)
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, stride=stride), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )


def output(network: nn.Sequential, layer: int) -> Tensor:
    return network[: layer + 1](INPUTS).detach().double()


def test_the_terms_follow_their_equations() -> None:
    teacher, student = convnet(6, 1, seed=1), convnet(4, 2, seed=2)
    hints = [Hint("1", "1"), Hint("1", "1", "attention", weight=3.0), Hint("3", "3", weight=0.5)]
    loss = HintLoss(teacher, student, hints, DATA, seed=5)
    student(INPUTS)
    found = float(loss(INPUTS).detach())

    pooled = torch.nn.functional.adaptive_avg_pool2d(output(teacher, 1), 3)
    conv, linear = (loss.projectors[number].weight.detach().double() for number in (0, 2))
    mapped = torch.einsum("nchw,dc->ndhw", output(student, 1), conv[:, :, 0, 0])
    features = (mapped - pooled).square().sum() / pooled.square().sum()
    maps = [one.square().sum(1).flatten(1) for one in (output(student, 1), pooled)]
    unit = [one / one.norm(dim=1, keepdim=True) for one in maps]
    attention = (unit[0] - unit[1]).square().sum(1).mean()
    vectors = output(teacher, 3)
    flat = (output(student, 3) @ linear.T - vectors).square().sum() / vectors.square().sum()
    assert found == pytest.approx(float(features + 3 * attention + 0.5 * flat), rel=1e-5)


def test_a_hint_brings_the_features_of_the_student_to_those_of_the_teacher() -> None:
    hints = [Hint("3", "3", weight=5.0)]
    result = distill(
        convnet(6, 1, seed=1),
        convnet(6, 1, seed=2),
        DATA,
        hints=hints,
        epochs=40,
        learning_rate=0.05,
        batch_size=8,
    )
    first, last = (
        line["train_loss"] - line["train_soft_loss"] - 0.1 * line["train_hard_loss"]
        for line in (result.metrics[0], result.metrics[-1])
    )
    assert 0 < last < 0.1 * first


@pytest.mark.slow
def test_projectors_are_trained_checkpointed_and_left_out_of_the_student(tmp_path: Path) -> None:
    teacher = convnet(6, 1, seed=1)

    def run(folder: Path, stop_after: int | None = None) -> nn.Module:
        calls = 0

        def stop(fraction: float, metrics: object) -> None:
            nonlocal calls
            calls += 1
            if stop_after is not None and calls > stop_after:
                raise KeyboardInterrupt

        student = convnet(4, 1, seed=2)
        options = {"checkpoint_seconds": 0.0, "progress": stop, "batch_size": 8}
        distill(teacher, student, DATA, hints=[Hint("1", "1")], epochs=60, run_dir=folder, **options)
        assert not student[1]._forward_hooks
        return student

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=0)
    resumed = run(tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert set(load_file(tmp_path / "whole" / FINAL)) == set(whole.state_dict())


WRONG = {
    "an unknown layer": (Hint("11", "1"), "layer of the teacher.*'11'"),
    "outputs of different kinds": (Hint("1", "3"), r"outputs of one kind.*found \(6, 6, 6\) and \(4,\)"),
    "attention of vectors": (Hint("3", "3", "attention"), "needs a height and a width"),
}


@pytest.mark.parametrize(("hint", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong_hints_are_one_clear_error(hint: Hint, expected: str) -> None:
    teacher, student = convnet(6, 1, seed=1), convnet(4, 1, seed=2)
    with pytest.raises(UsageError, match=expected):
        distill(teacher, student, DATA, hints=[hint], epochs=1)


def test_hints_of_an_ensemble_are_refused() -> None:
    with pytest.raises(UsageError, match="one network"):
        distill([convnet(6, 1, seed=1)] * 2, convnet(4, 1, seed=2), DATA, hints=[Hint("1", "1")], epochs=1)
    with pytest.raises(UsageError, match="kind is one of"):
        Hint("1", "1", "atention")


def test_a_layer_is_seen_before_the_next_one_writes_into_it() -> None:
    torch.manual_seed(1)
    teacher = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    student = convnet(4, 1, seed=2)
    loss = HintLoss(teacher, student, [Hint("0", "0")], DATA)
    student(INPUTS)
    found = float(loss(INPUTS).detach())
    plain, weight = teacher[0](INPUTS).detach(), loss.projectors[0].weight.detach()
    mapped = torch.nn.functional.conv2d(student[0](INPUTS).detach(), weight)
    assert plain.min() < 0
    assert found == pytest.approx(float((mapped - plain).square().mean() / plain.square().mean()), rel=1e-5)
    teacher.train()
    with pytest.raises(TrainingError, match="training mode"):
        loss(INPUTS)


def test_hints_may_be_pairs_and_a_wrong_one_leaves_nothing_behind() -> None:
    teacher, student = convnet(6, 1, seed=1), convnet(4, 1, seed=2)
    for wrong in ([("1", "nowhere")], ["11"], 3):
        with pytest.raises(UsageError):
            distill(teacher, student, DATA, hints=wrong, epochs=1)
    assert not any(module._forward_hooks for network in (teacher, student) for module in network.modules())
    for right in ([("1", "1")], Hint("1", "1")):
        distill(teacher, student, DATA, hints=right, epochs=1)
