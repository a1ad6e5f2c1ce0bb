"""Teachers and students: where soft targets come from, and one call in a run directory."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from instar import distillation
from instar.data import parse_views
from instar.distillation import StoredLogits, Teacher, distill, train
from instar.errors import RunError, TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.losses import soft_targets
from instar.runs import DONE, LAST, Run
from instar.training import fit
from small_fits import digits, normalised_network, part_labelled, perceptron, same_bits

TRAIN, VALIDATION = digits(200), digits(100, start=200)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return fit(normalised_network(), TRAIN, epochs=3, learning_rate=0.3).network


def test_targets_are_the_teachers_softmax_at_the_temperature(teacher: nn.Module) -> None:
    ids = TRAIN.ids[torch.tensor([5, 3, 100])]
    expected = soft_targets(teacher(TRAIN.gather(ids, 0)).detach(), 3.0).probs
    targets = Teacher(teacher, TRAIN, temperature=3.0)(ids, 1)
    torch.testing.assert_close(targets.probs, expected)
    assert targets.temperature == 3.0


def test_remembered_and_live_targets_teach_the_same(teacher: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for remembered_bytes in (2**30, 0):
        monkeypatch.setattr(distillation.teachers, "REMEMBERED_BYTES", remembered_bytes)
        targets = Teacher(teacher, TRAIN, temperature=4.0)
        states.append(fit(perceptron(), TRAIN, epochs=2, targets=targets).network.state_dict())
    logits = predict_logits(teacher, TRAIN)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    stored = StoredLogits(TRAIN.ids[shuffled], logits[shuffled], temperature=4.0)
    states.append(fit(perceptron(), TRAIN, epochs=2, targets=stored).network.state_dict())
    assert same_bits(states[0], states[2])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


UNTRAINED = pytest.mark.filterwarnings("ignore:the teacher is right on:instar.errors.DataWarning")


@pytest.mark.parametrize("views", ["none", "crop:1"])
def test_a_teacher_that_computes_in_bfloat16_is_near_to_itself_in_float64(views: str) -> None:
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10)) for _ in range(2)]
    data = digits().with_views(parse_views(views), view_seed=0)
    ids, inputs = data.ids[:50], data.gather(data.ids[:50], 1)
    asked = Teacher(members, data, temperature=1.0, precision="bfloat16")(ids, 1)
    exact = torch.stack([member.double()(inputs.double()).softmax(-1) for member in members]).mean(0)
    away = (asked.probs.double() - exact).abs().max()
    assert asked.probs.dtype == torch.float32
    assert 1e-5 < away < 0.02  # rounded to eight bits, not more


def test_the_weights_of_a_frozen_teacher_are_cast_once() -> None:
    """autocast casts those that require no gradient at each call (findings/)."""
    network, casts = perceptron().requires_grad_(False), []
    for num_batches in (1, 3):
        data = digits().subset(digits().ids[: 50 * num_batches])
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            predict_logits(network, data, batch_size=50, precision="bfloat16")
        casts.append(len([one for one in seen.events() if one.name == "aten::_to_copy"]))
    assert casts[1] - casts[0] == 2 * 2  # the inputs and the logits of two more batches
    assert not any(value.requires_grad for value in network.parameters())


def test_a_teacher_computes_in_float32_unless_told(teacher: nn.Module) -> None:
    assert Teacher(teacher, digits(), temperature=1.0).precisions == ["float32"]
    with pytest.raises(UsageError, match="precision 'half' should be auto, float32 or bfloat16"):
        Teacher(teacher, digits(), temperature=1.0, precision="half")


@UNTRAINED
def test_a_teacher_is_asked_once_where_there_are_no_views() -> None:
    asked = []

    class Counting(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            asked.append(len(inputs))
            return super().forward(inputs.flatten(1))

    fit(perceptron(), TRAIN, epochs=3, targets=Teacher(Counting(64, 10), TRAIN, temperature=4.0))
    assert asked == [128, 128, 128, 72]  # the first batch twice, to look at the teacher; then all examples


@UNTRAINED
def test_teacher_and_student_see_the_same_view_at_each_step() -> None:
    seen: dict[str, list[Tensor]] = {"teacher": [], "student": []}

    class Watched(nn.Linear):
        def __init__(self, name: str) -> None:
            super().__init__(64, 10)
            self.name = name

        def forward(self, inputs: Tensor) -> Tensor:
            seen[self.name].append(inputs)
            return super().forward(inputs.flatten(1))

    fit(Watched("student"), SHAKEN, epochs=3, targets=Teacher(Watched("teacher"), SHAKEN, temperature=4.0))
    # The teacher is looked at before the fit, the student after it: whether it learned.
    for one, other in zip(seen["teacher"][-6:], seen["student"][:6], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen["student"][0].sum(), seen["student"][2].sum())


def test_targets_of_other_views_than_the_students_are_refused(teacher: nn.Module) -> None:
    remembered = Teacher(teacher, TRAIN, temperature=4.0)
    other_seed = Teacher(teacher, TRAIN.with_views(parse_views("jitter:1"), view_seed=4), temperature=4.0)
    stored = StoredLogits(TRAIN.ids, predict_logits(teacher, TRAIN), temperature=4.0)
    for targets in (remembered, other_seed, stored):
        with pytest.raises(TrainingError, match=r"the student sees jitter:1 \(view_seed 3\)"):
            fit(perceptron(), SHAKEN, epochs=1, targets=targets)
    fit(perceptron(), SHAKEN, epochs=1, targets=Teacher(teacher, SHAKEN, temperature=4.0))


def test_a_teacher_in_training_mode_is_refused_on_the_first_step() -> None:
    network = normalised_network().train()
    targets = Teacher(network, SHAKEN, temperature=4.0)
    assert not network.training  # it was put into evaluation mode
    network[1][3].train()
    with pytest.raises(TrainingError, match=r"the teacher is in training mode: call teacher.eval\(\)"):
        fit(perceptron(), SHAKEN, epochs=1, targets=targets)


def test_a_student_that_is_its_teacher_is_refused(teacher: nn.Module) -> None:
    with pytest.raises(TrainingError, match=r"share the tensor '0.0.weight'"):
        distill(teacher, teacher, TRAIN, epochs=1)


def test_a_teacher_of_another_order_of_classes_is_refused(teacher: nn.Module) -> None:
    names = (*TRAIN.class_names[1:], TRAIN.class_names[0])
    with pytest.raises(TrainingError, match="the same in another order"):
        fit(perceptron(), TRAIN, epochs=1, targets=Teacher(teacher, TRAIN, temperature=4.0, class_names=names))


def test_stored_logits_are_refused_for_other_data(teacher: nn.Module) -> None:
    logits = predict_logits(teacher, TRAIN)
    with pytest.raises(UsageError, match="100 of 100 ids are not in these stored soft targets"):
        fit(perceptron(), VALIDATION, epochs=1, targets=StoredLogits(TRAIN.ids, logits, temperature=4.0))
    with pytest.raises(UsageError, match="200 ids but 199 rows"):
        StoredLogits(TRAIN.ids, logits[1:], temperature=4.0)
    for temperature in (0.0, -1.0, -math.inf, math.nan):
        with pytest.raises(UsageError, match="temperature must be a finite number above 0"):
            StoredLogits(TRAIN.ids, logits, temperature=temperature)
        with pytest.raises(UsageError, match="temperature must be a finite number above 0"):
            distill(teacher, perceptron(), TRAIN, temperature=temperature, epochs=1)


def test_the_weights_of_the_terms_and_the_teacher_reach_the_loss(teacher: nn.Module) -> None:
    data = part_labelled(TRAIN)
    options: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-30, "temperature": 2.0, "batch_size": 200}
    result = distill(teacher, perceptron(), data, soft_weight=0.7, hard_weight=0.3, **options)
    (line,) = result.metrics
    probs = soft_targets(predict_logits(teacher, data), 2.0).probs
    log_probs = (predict_logits(perceptron(), data) / 2.0).log_softmax(1)
    soft = -4 * (probs * log_probs).sum(1).mean().item()
    assert line["train_soft_loss"] == pytest.approx(soft, rel=1e-5)
    assert line["train_loss"] == pytest.approx(0.7 * soft + 0.3 * line["train_hard_loss"], rel=1e-6)


def test_a_student_comes_nearer_to_its_teacher(teacher: nn.Module) -> None:
    student = perceptron()
    before = (predict_logits(student, TRAIN).softmax(1) - predict_logits(teacher, TRAIN).softmax(1)).abs().mean()
    distill(teacher, student, TRAIN, epochs=20, hard_weight=0.0, batch_size=32)
    after = (predict_logits(student, TRAIN).softmax(1) - predict_logits(teacher, TRAIN).softmax(1)).abs().mean()
    assert after < before / 4


# In a run directory


def test_the_same_call_again_reads_what_is_done(teacher: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 3, "validation": VALIDATION, "patience": 1, "run_dir": tmp_path / "run"}
    first = distill(teacher, perceptron(), TRAIN, **options)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = distill(teacher, perceptron(), TRAIN, device="cpu", checkpoint_seconds=1.0, **options)
    assert same_bits(again.network.state_dict(), first.network.state_dict())
    assert (again.metrics, again.num_steps, again.best_epoch) == (first.metrics, first.num_steps, first.best_epoch)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == times


def test_a_call_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    class CutOffError(RuntimeError):
        pass

    def told(fraction: float, latest: dict[str, Any]) -> None:
        raise CutOffError

    class Slow(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            time.sleep(pause_seconds)
            return super().forward(inputs)

    pause_seconds = 0.3
    options: dict[str, Any] = {"epochs": 2, "batch_size": 50, "checkpoint_seconds": 0.0, "run_dir": tmp_path}
    with pytest.raises(CutOffError):
        train(Slow(*perceptron()), TRAIN, progress=told, **options)
    assert (tmp_path / LAST).exists()
    pause_seconds = 0.0
    resumed = train(Slow(*perceptron()), TRAIN, **options)
    assert (tmp_path / DONE).exists()
    assert "resumed from epoch 0, step" in (tmp_path / "log.txt").read_text()
    alone = train(perceptron(), TRAIN, epochs=2, batch_size=50)
    assert same_bits(resumed.network.state_dict(), alone.network.state_dict())
    assert resumed.metrics == alone.metrics


def test_a_call_with_anything_else_is_refused_by_name(teacher: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "validation": VALIDATION, "run_dir": tmp_path / "run"}
    distill(teacher, perceptron(), TRAIN, **options)
    other_teacher = fit(normalised_network(3), TRAIN, epochs=1).network
    changed: dict[str, tuple[nn.Module, nn.Module, Any, dict[str, Any]]] = {
        "temperature is 4.0 there and 8.0 here": (teacher, perceptron(), TRAIN, {"temperature": 8.0}),
        "epochs is 1 there and 2 here": (teacher, perceptron(), TRAIN, {"epochs": 2}),
        "learning_rate is 0.1 there and 0.2 here": (teacher, perceptron(), TRAIN, {"learning_rate": 0.2}),
        "teacher": (other_teacher, perceptron(), TRAIN, {}),
        "network": (teacher, perceptron(hidden=9), TRAIN, {}),
        "data.fingerprint": (teacher, perceptron(), part_labelled(TRAIN), {}),
        "data.views is None there": (teacher, perceptron(), SHAKEN, {}),
        "validation.fingerprint": (
            teacher,
            perceptron(),
            TRAIN,
            {"validation": VALIDATION.subset(VALIDATION.ids[:50])},
        ),
    }
    for words, (its_teacher, student, data, change) in changed.items():
        with pytest.raises(RunError, match=f"another configuration: config.{words}"):
            distill(its_teacher, student, data, **{**options, **change})


def test_an_unknown_option_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "run"):
        with pytest.raises(UsageError, match="unknown option of train 'lr'; did you mean learning_rate"):
            train(perceptron(), TRAIN, lr=0.1, run_dir=folder)
    assert not (tmp_path / "run").exists()


def test_precision_is_decided_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "run_dir": tmp_path}
    train(perceptron(), TRAIN, precision="bfloat16", **options)
    assert Run.read(tmp_path).config["precision"] == "bfloat16"
    assert train(perceptron(), TRAIN, precision="auto", **options).num_steps == 2
