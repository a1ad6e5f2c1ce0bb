"""The training loop: the same bits again, what each option does, and what it refuses."""

import copy
import dataclasses
import inspect
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar.data import InMemoryDataset, id_batches, parse_views, shuffled
from instar.errors import DataError, InstarError, RunError, TrainingError, UsageError
from instar.evaluation import evaluate, predict_logits
from instar.fit_options import FitOptions
from instar.losses import SoftTargets
from instar.optimisation import decide_precision, learning_rate_factor, make_optimiser
from instar.runs import LAST, Run
from instar.training import fit
from small_fits import digits, normalised_network, part_labelled, perceptron, same_bits, state_of

TRAIN, VALIDATION = digits(200), digits(100, start=200)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)
EVERYTHING: dict[str, Any] = {
    "epochs": 3,
    "validation": VALIDATION,
    "batch_size": 64,
    "ema_decay": 0.9,
    "weight_decay": 0.01,
    "warmup_epochs": 0.5,
    "gradient_clip": 1.0,
    "max_norm": 2.0,
}


def fitted(network: nn.Module, data: InMemoryDataset = TRAIN, **options: Any) -> dict[str, Tensor]:
    """The state that a fit ends with."""
    return fit(network, data, **{"epochs": 2, "batch_size": 64, **options}).network.state_dict()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def uniform_targets(ids: Tensor, views: Tensor | int) -> SoftTargets:
    return SoftTargets(torch.full((len(ids), 10), 0.1), 2.0)


# The same bits


class FunctionalDropout(nn.Module):
    """Its dropout is no module that anybody could find."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(F.dropout(inputs, 0.5, self.training))


@pytest.mark.parametrize("make", [normalised_network, FunctionalDropout])
def test_a_fit_depends_on_its_seed_and_not_on_the_global_random_state(make: Callable[[], nn.Module]) -> None:
    networks = [make() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    states = []
    for number, network in enumerate(networks):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        states.append(fitted(network, SHAKEN, seed=5, **EVERYTHING))
        assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(*states)


def test_the_global_random_state_is_untouched_by_a_fit_that_fails() -> None:
    before = torch.get_rng_state()
    with pytest.raises(TrainingError):
        fit(perceptron(), TRAIN, epochs=9, learning_rate=1e30)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides_the_order_and_the_dropout() -> None:
    assert distance(fitted(perceptron(), seed=0), fitted(perceptron(), seed=1)) > 1e-3
    whole = {"batch_size": 200}  # where the order does not matter
    assert distance(fitted(perceptron(), seed=0, **whole), fitted(perceptron(), seed=1, **whole)) < 1e-5
    noisy = [fitted(perceptron(dropout=0.5), seed=seed, **whole) for seed in (0, 1)]
    assert distance(*noisy) > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_fits_as_this_one_does_and_seeds_its_dropout() -> None:
    steady = {"epochs": 1, "precision": "float32"}
    here, there = (fitted(perceptron(), SHAKEN, device=device, **steady) for device in ("cpu", "cuda"))
    assert distance(here, {name: value.cpu() for name, value in there.items()}) < 1e-4
    one, other = (fitted(perceptron(dropout=0.5), device="cuda") for _ in range(2))
    assert same_bits(one, other)
    assert distance(one, fitted(perceptron(dropout=0.1), device="cuda")) > 1e-3


def test_dropout_differs_from_step_to_step() -> None:
    masks: list[Tensor] = []

    class Watched(nn.Dropout):
        def forward(self, inputs: Tensor) -> Tensor:
            masks.append(super().forward(torch.ones(64)) == 0)
            return super().forward(inputs)

    network = perceptron()
    network[3] = Watched(0.5)
    fit(network, TRAIN, epochs=1, batch_size=50)
    assert len(masks) == 4
    assert len({tuple(mask.tolist()) for mask in masks}) == 4


def test_gradients_that_were_there_before_are_not_used() -> None:
    network = perceptron()
    network(torch.rand(5, 64)).sum().backward()
    assert same_bits(fitted(network), fitted(perceptron()))


# Each option against a second opinion


def bare_fit(network: nn.Module, rates: list[float], *, decay: float = 0.0, clip: float = math.inf,
             max_norm: float = math.inf, ema: float = 0.0, adam: bool = False) -> dict[str, Tensor]:  # fmt: skip
    """Written from the definitions, over the same order of the data."""
    network.train()
    weights = [network[1].weight, network[4].weight]
    optimiser: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)
    if adam:
        groups = [{"params": weights, "weight_decay": decay}, {"params": [network[1].bias, network[4].bias]}]
        optimiser = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0)
    average = state_of(network)
    orders = [shuffled(TRAIN.ids, seed=7, epoch=epoch) for epoch in range(len(rates) // 4)]
    for rate, ids in zip(rates, [ids for order in orders for ids in id_batches(order, 50)], strict=True):
        loss = F.cross_entropy(network(TRAIN.gather(ids, 0)), TRAIN.labels(ids))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient * min(1.0, clip / norm.item())
            if parameter.ndim > 1 and not adam:
                parameter.grad += decay * parameter.detach()
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        with torch.no_grad():
            for row in network[1].weight:
                row *= min(1.0, max_norm / row.norm().item())
            for name, value in network.state_dict().items():
                average[name] = ema * average[name] + (1 - ema) * value
    return average


COSINE = [0.1 * 0.5 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
SECOND_OPINIONS: dict[str, tuple[dict[str, Any], list[float], dict[str, Any]]] = {
    "cosine": ({}, COSINE, {}),
    "constant": ({"schedule": "constant"}, 12 * [0.1], {}),
    "step": ({"schedule": "step:1,2.5"}, 4 * [0.1] + 6 * [0.01] + 2 * [0.001], {}),
    "warm-up": ({"schedule": "constant", "warmup_epochs": 1}, [0, 0.025, 0.05, 0.075] + 8 * [0.1], {}),
    "weight decay": ({"weight_decay": 0.1}, COSINE, {"decay": 0.1}),
    "gradient clip": ({"gradient_clip": 0.3}, COSINE, {"clip": 0.3}),
    "max-norm": ({"max_norm": 0.5}, COSINE, {"max_norm": 0.5}),
    "average": ({"ema_decay": 0.8}, COSINE, {"ema": 0.8}),
    "adamw": ({"optimiser": "adamw", "weight_decay": 0.1}, COSINE, {"adam": True, "decay": 0.1}),
}


@pytest.mark.parametrize("name", SECOND_OPINIONS)
def test_options_do_what_their_definitions_say(name: str) -> None:
    options, rates, bare_options = SECOND_OPINIONS[name]
    ours = fitted(perceptron(), epochs=3, batch_size=50, seed=7, **options)
    bare = bare_fit(perceptron(), rates, **bare_options)
    assert distance(ours, bare) < 2e-6
    if options:
        assert distance(ours, fitted(perceptron(), epochs=3, batch_size=50, seed=7)) > 1e-4


def test_schedules_are_refused_that_are_none() -> None:
    for name, warmup, words in (
        ("linear", 0, "cosine, constant or step"),
        ("cosine:3", 0, "cosine, constant or step"),
        ("step:", 0, "step:E1,E2"),
        ("step:1,x", 0, "step:E1,E2"),
        ("cosine", 3, r"warmup_epochs is 3, expected at least 0 and less than epochs \(3\)"),
        ("cosine", -1, "warmup_epochs is -1"),
    ):
        with pytest.raises(UsageError, match=words):
            learning_rate_factor(name, 3, warmup)


def test_max_norm_binds_every_layer_but_the_last() -> None:
    network = normalised_network()
    fit(network, TRAIN, epochs=3, learning_rate=0.5, max_norm=0.5)
    norms = [network[i][j].weight.flatten(1).norm(dim=1).max().item() for i, j in ((0, 0), (1, 2), (2, 1))]
    assert norms[0] == pytest.approx(0.5, abs=1e-5)
    assert norms[1] == pytest.approx(0.5, abs=1e-5)
    assert norms[2] > 0.6


def test_max_norm_does_not_bind_the_last_layer_where_another_one_is_frozen() -> None:
    network = perceptron()
    network[4].requires_grad_(False)
    fit(network, TRAIN, epochs=1, max_norm=0.3)
    assert network[1].weight.norm(dim=1).max().item() <= 0.3 + 1e-6


def test_early_stop_goes_back_to_the_best_epoch() -> None:
    noise = InMemoryDataset(
        VALIDATION.gather(VALIDATION.ids, 0), torch.arange(100) % 10, class_names=VALIDATION.class_names
    )
    options: dict[str, Any] = {"batch_size": 50, "schedule": "constant"}
    stopped = fit(perceptron(), TRAIN, epochs=30, patience=3, validation=noise, **options)
    errors = [line["validation_errors"] for line in stopped.metrics]
    best = errors.index(min(errors)) + 1
    assert stopped.best_epoch == best
    assert len(errors) == best + 3 < 30
    shorter = fit(perceptron(), TRAIN, epochs=best, **options)
    assert same_bits(stopped.network.state_dict(), shorter.network.state_dict())


def test_each_epoch_sees_its_own_view_and_targets_are_asked_for_the_same() -> None:
    seen, asked = [], []

    class Watched(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return super().forward(inputs.flatten(1))

    def targets(ids: Tensor, views: Tensor | int) -> SoftTargets:
        asked.append((ids, views))
        return uniform_targets(ids, views)

    fit(Watched(64, 10), SHAKEN, epochs=2, targets=targets, batch_size=150)
    asked = asked[-4:]  # before that they are looked at
    assert [views for _, views in asked] == [0, 0, 1, 1]
    for inputs, (ids, views) in zip(seen[:4], asked, strict=True):  # what follows asks whether it learned
        assert torch.equal(inputs, SHAKEN.gather(ids, views))
    assert torch.equal(torch.cat([ids for ids, _ in asked[:2]]).sort().values, TRAIN.ids.sort().values)


# Precision


def test_bfloat16_trains_and_leaves_float32_weights() -> None:
    half, single = (fitted(perceptron(), precision=precision) for precision in ("bfloat16", "float32"))
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert 0 < distance(half, single) < 0.05


def test_automatic_precision_is_float32_for_a_small_network() -> None:
    assert decide_precision("auto", perceptron(), "cpu") == "float32"
    assert decide_precision("bfloat16", perceptron(), "cpu") == "bfloat16"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has_hardware = "avx512_bf16" in flags or "amx_bf16" in flags
    if flags:
        expected = "bfloat16" if has_hardware else "float32"
        assert decide_precision("auto", nn.Linear(1000, 1000), "cpu") == expected
        assert decide_precision("auto", nn.Conv2d(16, 32, 3), "cpu") == expected  # few weights, many products


# What is measured


def test_metrics_are_means_over_the_data() -> None:
    result = fit(perceptron(), TRAIN, epochs=1, batch_size=64, learning_rate=1e-30, validation=VALIDATION)
    network = perceptron()
    trained, validated = evaluate(network, TRAIN), evaluate(network, VALIDATION)
    (line,) = result.metrics
    assert line == {
        "epoch": 1,
        "step": 4,
        "train_loss": pytest.approx(trained["nll"], rel=1e-6),
        "train_errors": trained["errors"],
        "validation_errors": validated["errors"],
        "validation_nll": validated["nll"],
    }


def test_the_hard_term_and_errors_are_over_the_labelled_examples() -> None:
    data = part_labelled(TRAIN)
    options: dict[str, Any] = {"targets": uniform_targets, "hard_weight": 0.5, "learning_rate": 1e-30}
    (line,) = fit(perceptron(), data, epochs=1, batch_size=64, **options).metrics
    scored = evaluate(perceptron(), data)
    logits = predict_logits(perceptron(), TRAIN)
    soft = -4 * (logits / 2).log_softmax(1).mean(1).mean().item()
    assert line["train_errors"] == scored["errors"]
    assert line["train_hard_loss"] == pytest.approx(scored["nll"], rel=1e-6)
    assert line["train_soft_loss"] == pytest.approx(soft, rel=1e-6)
    sizes = [64, 64, 64, 8]
    hard_of_batches = 0.0
    for ids, size in zip(id_batches(shuffled(data.ids, seed=0, epoch=0), 64), sizes, strict=True):
        hard_of_batches += size / 200 * evaluate(perceptron(), data.subset(ids))["nll"]
    assert line["train_loss"] == pytest.approx(soft + 0.5 * hard_of_batches, rel=1e-6)


def test_logits_come_in_the_order_of_the_ids_and_the_network_stays_in_its_mode() -> None:
    network = normalised_network().train()
    network[0].eval()
    logits = predict_logits(network, TRAIN, batch_size=70)
    assert [network.training, network[0].training, network[1][3].training] == [True, False, True]
    network.eval()
    torch.testing.assert_close(logits, network(TRAIN.gather(TRAIN.ids, 0)))
    assert not logits.requires_grad
    shaken = predict_logits(network, SHAKEN, view=2)
    torch.testing.assert_close(shaken, network(SHAKEN.gather(SHAKEN.ids, 2)))
    assert not torch.allclose(shaken, logits)


def test_progress_is_told_now_and_then() -> None:
    told: list[tuple[float, dict[str, Any]]] = []

    class Slow(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            time.sleep(0.15)
            return super().forward(inputs.flatten(1))

    fit(Slow(64, 10), TRAIN, epochs=2, batch_size=50, progress=lambda *news: told.append(news))
    assert 1 <= len(told) <= 3
    assert 0 < told[0][0] < told[-1][0] <= 1 or len(told) == 1
    assert told[-1][1]["epoch"] == 1


# Stopped and gone on with


class Interrupting(nn.Module):
    """Gets a signal in the middle of a step, a number of times."""

    def __init__(self, at_step: int, times: int = 1) -> None:
        super().__init__()
        self.layers = normalised_network()
        self.steps_left, self.times = at_step, times

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.steps_left -= 1
            for _ in range(self.times if self.steps_left == 0 else 0):
                os.kill(os.getpid(), signal.SIGINT)
        return self.layers(inputs)


def test_ctrl_c_ends_after_the_step_with_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    alone = fit(Interrupting(0), SHAKEN, **EVERYTHING)
    for at_step in (2, 4, 7):
        with Run(tmp_path / str(at_step), recipe="fit", config={}) as run:
            with pytest.raises(KeyboardInterrupt):
                fit(Interrupting(at_step), SHAKEN, run=run, **EVERYTHING)
            loaded = run.load_checkpoint()
            assert loaded is not None
            assert loaded[1]["step"] == at_step
            resumed = fit(Interrupting(0), SHAKEN, run=run, **EVERYTHING)
        assert same_bits(resumed.network.state_dict(), alone.network.state_dict())
        assert resumed.metrics == alone.metrics
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with Run(tmp_path, recipe="fit", config={}) as run:
        with pytest.raises(KeyboardInterrupt):
            fit(Interrupting(3, times=2), TRAIN, run=run, **EVERYTHING)
        assert run.load_checkpoint() is None  # of half a step there is none


def test_a_fit_in_another_thread_than_the_main_one_works() -> None:
    states: list[dict[str, Tensor]] = []
    thread = threading.Thread(target=lambda: states.append(fitted(perceptron())))
    thread.start()
    thread.join()
    assert same_bits(states[0], fitted(perceptron()))


def test_a_run_that_is_done_is_not_fitted_again(tmp_path: Path) -> None:
    with Run(tmp_path, recipe="fit", config={}) as run:
        run.finish(fit(perceptron(), TRAIN, epochs=1, run=run).metrics[0])
        before = run.metrics()
        with pytest.raises(RunError, match="is done"):
            fit(perceptron(), TRAIN, epochs=1, run=run)
        assert run.metrics() == before


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    with Run(tmp_path, recipe="fit", config={}) as run:
        fit(perceptron(hidden=7), TRAIN, epochs=1, run=run, checkpoint_seconds=0.0)
        with pytest.raises(DataError, match=r"checkpoint in .* is of another architecture .*\(7, 64\)") as caught:
            fit(perceptron(hidden=8), TRAIN, epochs=1, run=run)
        assert "\n" not in str(caught.value)


# Guards


class Dead(nn.Module):
    """Its logits have a gradient, which is zero for all that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.rand(10) + 0 * self.layer(inputs.flatten(1))


class Unused(Dead):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :10]


class Sequence(Dead):
    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.flatten(2))


def broken_network() -> nn.Module:
    network = perceptron()
    network[1].weight.data[0, 0] = math.nan
    return network


def nothing(ids: Tensor, views: Tensor | int) -> SoftTargets:
    return SoftTargets(torch.zeros(len(ids), 10), 1.0)


def nine_classes(ids: Tensor, views: Tensor | int) -> SoftTargets:
    return SoftTargets(torch.full((len(ids), 9), 1 / 9), 1.0)


class OfOthers:
    """Targets of other classes, other views or of networks."""

    def __init__(self, **about: Any) -> None:
        self.__dict__.update(about)

    def __call__(self, ids: Tensor, views: Tensor | int) -> SoftTargets:
        return uniform_targets(ids, views)


NAMES = TRAIN.class_names
UNLABELLED = InMemoryDataset(TRAIN.gather(TRAIN.ids, 0), None, class_names=NAMES)
GUARDS: dict[str, tuple[nn.Module, dict[str, Any], type[InstarError], str]] = {
    "narrower network": (perceptron(classes=9), {}, UsageError, r"gives \(64, 9\) .* expected logits \(64, 10\)"),
    "no logits": (Sequence(), {}, UsageError, r"gives \(64, 1, 10\)"),
    "narrower teacher": (perceptron(), {"targets": nine_classes}, UsageError, "same examples and classes"),
    "other order": (
        perceptron(),
        {"targets": OfOthers(class_names=NAMES[::-1])},
        TrainingError,
        r"teacher's classes are 9, 8, 7, 6, 5, ... \(10\), the data's 0, .*the same in another order",
    ),
    "other classes": (
        perceptron(),
        {"targets": OfOthers(class_names=("cat", "dog"))},
        TrainingError,
        "use data of the same classes",
    ),
    "other views": (
        perceptron(),
        {"targets": OfOthers(views=(parse_views("jitter:1"), 3))},
        TrainingError,
        r"for views jitter:1 \(view_seed 3\), the student sees none",
    ),
    "loss 0": (perceptron(), {"targets": nothing}, TrainingError, "first step is exactly 0"),
    "loss NaN": (broken_network(), {}, TrainingError, "first step is nan"),
    "loss NaN later": (
        perceptron(),
        {"learning_rate": 1e30},
        TrainingError,
        "no longer finite at step .*: lower the learning rate",
    ),
    "gradient zero": (Dead(), {}, TrainingError, "gets no gradient"),
    "gradient none": (Unused(), {}, TrainingError, "gets no gradient"),
    "frozen": (perceptron().requires_grad_(False), {}, UsageError, "nothing to fit"),
    "no labels": (perceptron(), {"data": UNLABELLED}, UsageError, "no example has a label"),
    "no labels in validation": (perceptron(), {"validation": UNLABELLED}, UsageError, "nothing to validate on"),
    "no targets": (perceptron(), {"soft_weight": 1.0}, UsageError, "needs soft targets"),
    "negative weight": (perceptron(), {"hard_weight": -1.0}, UsageError, "hard_weight must be a finite number"),
    "no weights": (perceptron(), {"hard_weight": 0.0}, UsageError, "both 0"),
    "epochs": (perceptron(), {"epochs": 0}, UsageError, "epochs is 0, expected at least 1"),
    "batch_size": (perceptron(), {"batch_size": 0}, UsageError, "batch_size is 0"),
    "learning_rate": (perceptron(), {"learning_rate": 0.0}, UsageError, "learning_rate is 0.0, expected positive"),
    "learning_rate NaN": (perceptron(), {"learning_rate": math.nan}, UsageError, "learning_rate is nan"),
    "momentum": (perceptron(), {"momentum": 1.0}, UsageError, r"momentum is 1.0, expected in \[0, 1\)"),
    "weight_decay": (perceptron(), {"weight_decay": -0.1}, UsageError, "weight_decay is -0.1"),
    "warmup_epochs": (perceptron(), {"warmup_epochs": 2}, UsageError, "warmup_epochs is 2"),
    "gradient_clip": (perceptron(), {"gradient_clip": 0.0}, UsageError, "gradient_clip is 0.0"),
    "max_norm": (perceptron(), {"max_norm": -1.0}, UsageError, "max_norm is -1.0"),
    "ema_decay": (perceptron(), {"ema_decay": 1.0}, UsageError, "ema_decay is 1.0"),
    "patience": (perceptron(), {"patience": 0, "validation": VALIDATION}, UsageError, "patience is 0"),
    "patience alone": (perceptron(), {"patience": 1}, UsageError, "needs validation data"),
    "schedule": (perceptron(), {"schedule": "linear"}, UsageError, "cosine, constant or step"),
    "optimiser": (perceptron(), {"optimiser": "adam"}, UsageError, "optimiser 'adam' should be sgd or adamw"),
    "precision": (perceptron(), {"precision": "float16"}, UsageError, "auto, float32 or bfloat16"),
    "unknown option": (
        perceptron(),
        {"lr": 0.1},
        UsageError,
        "option of fit 'lr'; did you mean learning_rate",
    ),
}


@pytest.mark.parametrize("name", GUARDS)
def test_what_cannot_work_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    network, options, kind, words = GUARDS[name]
    options = {"epochs": 2, "batch_size": 64, **options}
    data = options.pop("data", TRAIN)
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        with pytest.raises(kind, match=words) as caught:
            fit(copy.deepcopy(network), data, run=run, checkpoint_seconds=0.0, **options)
        assert "\n" not in str(caught.value)
        loaded = run.load_checkpoint()  # what is lost is not saved
    assert loaded is None or all(value.isfinite().all() for value in loaded[0].values())


def test_a_batch_has_an_example_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.training.ranks", lambda: (0, 2))
    with pytest.raises(UsageError, match="batch_size is 1, expected an example for each of 2 processes"):
        fit(perceptron(), TRAIN, epochs=1, batch_size=1)


def test_a_teacher_that_shares_a_tensor_with_its_student_is_refused() -> None:
    student = perceptron()
    teacher = nn.Sequential(nn.Flatten(), student[1], nn.ReLU(), nn.Linear(12, 10))
    with pytest.raises(TrainingError, match=r"share the tensor '1.weight': give the student a copy"):
        fit(student, TRAIN, epochs=1, targets=OfOthers(networks=(teacher,)))
    fit(student, TRAIN, epochs=1, targets=OfOthers(networks=(copy.deepcopy(teacher),)))


def test_a_first_batch_without_labels_is_no_reason_to_stop() -> None:
    first = id_batches(shuffled(TRAIN.ids, seed=0, epoch=0), 64)[0]
    labels = TRAIN.labels(TRAIN.ids)
    labels[torch.isin(TRAIN.ids, first)] = -1
    data = InMemoryDataset(TRAIN.gather(TRAIN.ids, 0), labels, class_names=NAMES, ids=TRAIN.ids)
    assert fit(perceptron(), data, epochs=1, batch_size=64).num_steps == 4
    with pytest.raises(TrainingError, match="gets no gradient"):
        fit(Dead(), data, epochs=1, batch_size=64)


def test_a_loss_that_reaches_0_later_is_no_reason_to_stop(tmp_path: Path) -> None:
    inputs = torch.tensor([[1.0], [-1.0]]).repeat(8, 1)
    labels = torch.tensor([0, 1]).repeat(8)
    options: dict[str, Any] = {"learning_rate": 1e4, "schedule": "constant", "epochs": 4}
    with Run(tmp_path, recipe="fit", config={}) as run:
        network = nn.Linear(1, 2)
        result = fit(network, (inputs, labels), run=run, checkpoint_seconds=0.0, **options)
        assert result.metrics[-1]["train_loss"] == 0
        assert (tmp_path / LAST).exists()
        fit(network, (inputs, labels), run=run, **{**options, "epochs": 6})


def test_the_signature_names_every_option_and_each_is_described() -> None:
    named = inspect.signature(fit).parameters
    options = [field.name for field in dataclasses.fields(FitOptions)]
    assert list(named) == ["network", "data", *options]
    assert named["learning_rate"].default == 0.1
    assert [name for name in options if f" {name}: " not in str(FitOptions.__doc__)] == ["soft_weight"]
    assert "soft_weight, hard_weight: " in str(FitOptions.__doc__)


def test_a_layer_may_be_left_out_of_a_step() -> None:
    """Its momentum begins with its first gradient; the fused step of torch failed there."""
    found = []
    for make in (
        lambda weights: make_optimiser("sgd", weights, 0.1, 0.9, 0.0),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, foreach=False),
    ):
        weights = [nn.Parameter(torch.arange(4.0) + place) for place in range(2)]
        optimiser = make(weights)
        for used in ([0], [0, 1], [1], [0, 1]):
            optimiser.zero_grad()
            torch.stack([weights[place].square().sum() for place in used]).sum().backward()
            optimiser.step()
        found.append(torch.stack([value.detach() for value in weights]))
    torch.testing.assert_close(found[0], found[1])


FITS = """
import sys
from instar.runs import Run
from instar.training import fit
from small_fits import blots, perceptron
for optimiser in ("sgd", "adamw"):
    for time in range(2):
        with Run(f"{sys.argv[1]}/{optimiser}", recipe="fit", config={}) as run:
            options = {"batch_size": 10, "optimiser": optimiser, "gradient_clip": 1.0}
            fit(perceptron(dropout=0.1), blots(40), epochs=2, run=run, checkpoint_seconds=0.0, **options)
assert "resumed" in (run.path / "log.txt").read_text()
print([name for name in sys.modules if name == "torch._dynamo"])
"""


def test_a_fit_does_not_import_the_compiler(tmp_path: Path) -> None:
    """It takes over a second, in every process that fits."""
    command = [sys.executable, "-c", FITS, str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
