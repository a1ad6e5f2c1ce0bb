"""K networks fitted together: each ends as `fit` alone leaves it; what cannot be stacked is refused."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar.data import parse_views
from instar.distillation import StoredLogits, Teacher
from instar.errors import RunError, TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.losses import LogitTargets, distillation_loss, soft_targets
from instar.networks import NetworkStack, build_network, stacking_pays
from instar.runs import Run
from instar.stacked import fit_stacked
from instar.stacked_loss import stacked_distillation_loss
from instar.training import FitResult, Targets, fit
from small_fits import digits, part_labelled, same_bits

TRAIN, VALIDATION = digits(200), digits(100, start=200)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)
SEEDS = (4, 5, 6)


def networks(count: int = 3) -> list[nn.Sequential]:
    make = {"input_shape": (1, 8, 8), "num_classes": 10}
    return [build_network("mlp:12x2", seed=seed, **make) for seed in range(count)]


def stored(temperature: float, seed: int = 0) -> StoredLogits:
    """Targets of some teacher: at infinity, its logits to match."""
    logits = 3 * torch.randn(len(TRAIN), 10, generator=torch.Generator().manual_seed(seed))
    return StoredLogits(TRAIN.ids, logits, temperature=temperature)


def distance(one: FitResult, other: FitResult) -> float:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def both(
    data: Any = TRAIN,
    targets: Sequence[Targets] | None = None,
    learning_rate: float | Sequence[float] = 0.1,
    **options: Any,
) -> tuple[list[FitResult], list[FitResult]]:
    """Together, and one by one."""
    options = {"epochs": 3, "batch_size": 64, "validation": VALIDATION, **options}
    stacked = fit_stacked(networks(), data, seeds=SEEDS, targets=targets, learning_rate=learning_rate, **options)
    rates = [learning_rate] * 3 if isinstance(learning_rate, float) else learning_rate
    alone = [
        fit(network, data, seed=seed, targets=targets and targets[k], learning_rate=rates[k], **options)
        for k, (network, seed) in enumerate(zip(networks(), SEEDS, strict=True))
    ]
    return stacked, alone


CASES: dict[str, dict[str, Any]] = {
    "labels": {},
    "momentum 0, constant": {"momentum": 0.0, "schedule": "constant"},
    "weight decay, warm-up, a step, a rate for each": {
        "weight_decay": 0.05, "warmup_epochs": 0.5, "schedule": "step:2", "learning_rate": (0.1, 0.02, 0.1),
    },
    "views": {"data": SHAKEN},
    "soft targets at several temperatures and labels": {
        "targets": [stored(1.0), stored(4.0, 1), stored(20.0, 1)], "hard_weight": 0.3, "learning_rate": 0.02,
    },
    "soft targets alone": {"targets": [stored(2.0), stored(2.0, 1), stored(3.0)], "learning_rate": 0.02},
    "logits to match": {"targets": [stored(float("inf"), k) for k in range(3)], "learning_rate": 0.02},
    "part-labelled": {"data": part_labelled(TRAIN, every=5), "batch_size": 7, "learning_rate": 0.02},
    "part-labelled with soft targets": {
        "data": part_labelled(TRAIN), "targets": [stored(2.0), stored(5.0), stored(8.0, 1)], "hard_weight": 2.0,
        "learning_rate": 0.01,
    },
    "live teachers on views": {
        "data": SHAKEN, "learning_rate": 0.02,
        "targets": [Teacher(network, SHAKEN, temperature=2.0 + k) for k, network in enumerate(networks(6)[3:])],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_member_ends_as_fit_alone_leaves_it(name: str) -> None:
    stacked, alone = both(**CASES[name])
    for one, other in zip(stacked, alone, strict=True):
        assert distance(one, other) < 1e-4
        assert one.num_steps == other.num_steps
        assert not one.network.training
        for line, expected in zip(one.metrics, other.metrics, strict=True):
            assert line == pytest.approx(expected, rel=1e-4)
            assert list(line) == list(expected)
    assert distance(stacked[0], stacked[1]) > 0.01


@pytest.mark.parametrize("name", CASES)
def test_a_few_steps_differ_by_rounding_alone(name: str) -> None:
    stacked, alone = both(**{**CASES[name], "epochs": 1, "batch_size": 64, "warmup_epochs": 0.0})
    assert max(distance(one, other) for one, other in zip(stacked, alone, strict=True)) < 2e-6


def test_a_member_does_not_depend_on_the_others() -> None:
    others = networks()
    with torch.no_grad():
        for parameter in others[2].parameters():
            parameter.mul_(2)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 64, "seeds": SEEDS}
    one, other = fit_stacked(networks(), TRAIN, **options), fit_stacked(others, TRAIN, **options)
    assert same_bits(one[0].network.state_dict(), other[0].network.state_dict())
    assert distance(one[2], other[2]) > 0.01


def test_the_loss_is_that_of_each_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teachers = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).unbind()
    logits.requires_grad_()
    labels = torch.tensor([[0, 1, 2, 3, 0], [1, -1, -1, 2, -1], [-1, -1, -1, -1, -1]])
    soft = [soft_targets(teacher, T) for teacher, T in zip(teachers, (0.5, 3.0, 20.0), strict=True)]
    for targets in (soft, [LogitTargets(teacher) for teacher in teachers]):
        for weights in ((1.0, 0.0), (0.7, 0.3), (0.0, 1.0)):
            named = dict(zip(("soft_weight", "hard_weight"), weights, strict=True))
            together = stacked_distillation_loss(logits, targets, labels, **named)
            alone = [distillation_loss(*three, **named) for three in zip(logits, targets, labels, strict=True)]
            expected = torch.autograd.grad(sum(loss.total for loss in alone), logits)
            for terms, own in zip(together, zip(*alone, strict=True), strict=True):
                torch.testing.assert_close(terms, torch.stack(own), rtol=1e-12, atol=1e-12)
            found = torch.autograd.grad(together.total.sum(), logits)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_members_share_no_memory_and_no_gradient_afterwards() -> None:
    first, second = (result.network for result in fit_stacked(networks(2), TRAIN, epochs=1, seeds=(0, 1)))
    sizes = {parameter.untyped_storage().nbytes() == 4 * parameter.numel() for parameter in first.parameters()}
    assert sizes == {True}
    assert all(parameter.grad is None and parameter.requires_grad for parameter in second.parameters())
    before = predict_logits(second, VALIDATION)
    with torch.no_grad():
        first[0][1].weight.zero_()
    assert torch.equal(predict_logits(second, VALIDATION), before)


# Run directories


def test_every_run_gets_what_fit_would_leave_there(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name, recipe="fit", config={}) for name in ("stack", "a", "b", "alone")]
    options: dict[str, Any] = {"epochs": 2, "batch_size": 64, "validation": VALIDATION}
    with runs[0], runs[1], runs[2], runs[3]:
        results = fit_stacked(
            networks(2), TRAIN, seeds=(4, 5), run=runs[0], member_runs=runs[1:3], checkpoint_seconds=0, **options
        )
        alone = fit(networks(1)[0], TRAIN, seed=4, run=runs[3], **options)
        for run, result in zip(runs[1:3], results, strict=True):
            assert same_bits(run.load_weights()[0], result.network.state_dict())
            lines = [{key: line[key] for key in line if key != "seconds"} for line in run.metrics()]
            assert lines == result.metrics
        assert [list(line) for line in runs[1].metrics()] == [list(line) for line in runs[3].metrics()]
        about, expected = runs[1].load_weights()[1], runs[3].load_weights()[1]
        assert {**about, "seconds": 0} == {**expected, "seconds": 0}
        assert alone.metrics[-1]["epoch"] == 2

        runs[0].finish({})
        with pytest.raises(RunError, match="stack is done"):
            fit_stacked(networks(2), TRAIN, seeds=(4, 5), run=runs[0], **options)


def test_a_checkpoint_of_another_stack_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path, recipe="fit", config={}) as run:
        fit_stacked(networks(2), TRAIN, epochs=1, seeds=(0, 1), run=run, checkpoint_seconds=0)
        with pytest.raises(RunError, match="of another stack"):
            fit_stacked(networks(3), TRAIN, epochs=1, seeds=SEEDS, run=run)


# What is refused


def sequence(*layers: nn.Module) -> list[nn.Module]:
    return [nn.Sequential(nn.Flatten(), *copy.deepcopy(layers)) for _ in range(2)]


def frozen() -> list[nn.Module]:
    pair: list[nn.Module] = [*networks(2)]
    next(pair[1].parameters()).requires_grad_(False)
    return pair


REFUSED: dict[str, tuple[list[nn.Module], str]] = {
    "none": ([], "one network or more"),
    "one twice": (networks(1) * 2, "an object of its own"),
    "of two sizes": ([*networks(1), nn.Linear(64, 10)], "network 1 is built otherwise than network 0: fit these"),
    "dropout": (sequence(nn.Dropout(0.5), nn.Linear(64, 10)), "Dropout is not possible.*fit these one by one"),
    "normalisation": (sequence(nn.Linear(64, 10), nn.BatchNorm1d(10)), "BatchNorm1d is not possible"),
    "no bias": (sequence(nn.Linear(64, 10, bias=False)), "without bias is not possible"),
    "double precision": (sequence(nn.Linear(64, 10).double()), "is of torch.float64, which is not possible"),
    "frozen": (frozen(), r"fc1.1.weight of network 1 is frozen"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_cannot_be_stacked_are_refused(name: str) -> None:
    pair, words = REFUSED[name]
    with pytest.raises(UsageError, match=words):
        fit_stacked(pair, TRAIN, epochs=1, seeds=range(len(pair)))


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "seeds": ({"seeds": (0, 1)}, UsageError, "2 seeds for 3 networks"),
    "rates": ({"learning_rate": (0.1, 0.1)}, UsageError, "2 learning_rate for 3 networks"),
    "rate": ({"learning_rate": (0.1, 0.1, -1.0)}, UsageError, "learning_rate is -1.0"),
    "mixed targets": ({"targets": [stored(2.0), stored(2.0), stored(float("inf"))]}, UsageError, "two stacks"),
    "no weight": ({"hard_weight": 0.0}, UsageError, "both 0"),
    "no targets": ({"soft_weight": 1.0}, UsageError, "needs soft targets"),
    "classes": ({"targets": 3 * [StoredLogits(TRAIN.ids, torch.zeros(200, 9), temperature=2.0)]}, UsageError,
                "expected the student's shape"),
    "diverges": ({"learning_rate": (0.1, 1e30, 0.1), "epochs": 9}, TrainingError, "loss of member 1 is"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    options, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        fit_stacked(networks(), TRAIN, **{"epochs": 1, "seeds": SEEDS, **options})


def test_a_teacher_that_is_a_student_is_refused() -> None:
    students = networks()
    teachers = [Teacher(network, SHAKEN, temperature=2.0) for network in (*networks(2), students[2])]
    with pytest.raises(TrainingError, match="share the tensor"):
        fit_stacked(students, SHAKEN, epochs=1, seeds=SEEDS, targets=teachers)


def test_a_stack_computes_what_its_members_do() -> None:
    members = networks()
    inputs = torch.rand(3, 7, 1, 8, 8)
    expected = torch.stack([member(own) for member, own in zip(members, inputs, strict=True)])
    stack = NetworkStack(members)
    torch.testing.assert_close(stack(inputs), expected)
    with torch.no_grad():
        for parameter in members[1].parameters():
            parameter.zero_()
    zeroed: Tensor = stack(inputs)
    assert not zeroed[1].any()
    assert torch.equal(zeroed[0], stack(inputs)[0])


def test_stacking_pays_for_small_perceptrons() -> None:
    make = {"input_shape": (1, 28, 28), "num_classes": 10, "seed": 0}
    pays = {name: stacking_pays(build_network(name, **make)) for name in ("mlp:30x2", "mlp:800x2", "convnet:4")}
    assert pays == {"mlp:30x2": True, "mlp:800x2": False, "convnet:4": False}
