"""What decides the numbers is in the identity: of networks, data, fits, stores; and what is not, on a list."""

import dataclasses
import functools
import inspect
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import instar
from instar.data import half_special, parse_views, shuffled
from instar.distillation import LabelsInTargets, StoredLogits, Teacher
from instar.distillation.hints import Hint
from instar.distillation.run_config import NOT_WRITTEN, written
from instar.errors import RunError, UsageError
from instar.fit_options import FitOptions
from instar.identity import first_difference, plain, sketch
from instar.losses import soft_targets
from instar.networks import network_fingerprint, network_identity
from instar.runs import Run, run_hash
from small_fits import digits, normalised_network, perceptron, same_bits

TRAIN, VALIDATION = digits(80), digits(40, start=300)
EXAMPLES = TRAIN.examples()

# Sketches


def test_a_sketch_knows_tensors_up_to_rounding() -> None:
    torch.manual_seed(0)
    values = [torch.randn(300, 400), torch.randn(7)]
    known = sketch(values)
    assert first_difference(known, sketch([one + 1e-6 * torch.randn_like(one) for one in values])) is None
    for number in (0, 1):
        changed = [one.clone() for one in values]
        changed[number].view(-1)[3] += 5
        assert first_difference(known, sketch(changed), "weights") is not None
    swapped = values[0].clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert first_difference(known, sketch([swapped, values[1]])) is not None
    assert first_difference(sketch([torch.tensor([torch.nan])]), sketch([torch.tensor([torch.nan])])) is None
    assert "weights is about [" in str(first_difference(known, sketch(values[1:]), "weights"))


# Networks


class Written(nn.Module):
    """A network whose code is in its forward pass; a number or a function of it is changed."""

    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu, p: float = 0.0, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = perceptron()
        self.act, self.p, self.shift = act, p, shift

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.act(self.layers[1](inputs.flatten(1) - self.shift))
        if self.training and self.shift == 0.25:
            hidden = hidden * 2
        return self.layers[4](F.dropout(hidden, self.p, self.training))


def frozen(network: nn.Module) -> nn.Module:
    network.get_parameter("1.weight").requires_grad_(False)
    return network


class Scaled(torch.autograd.Function):
    """The identity, with a factor on the gradient."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return inputs.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        return gradients[0] * context.factor, None


class Backwards(nn.Module):
    """A network whose first layer gets another gradient, and that computes the same."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.layers, self.factor = perceptron(), factor

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.factor != 0):
            hidden = self.layers[:3](inputs)
        return self.layers[3:](Scaled.apply(hidden, self.factor))


class Noisy(nn.Module):
    """Noise in training, of a scale that is no buffer; it keeps its features."""

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        self.layers, self.scales = perceptron(), {"of the input": torch.tensor(scale)}
        self.features = torch.rand(int(1000 * scale))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            inputs = inputs + self.scales["of the input"] * torch.randn_like(inputs)
        self.features = self.layers[:3](inputs)
        return self.layers[3:](self.features)


def masked(seed: int) -> nn.Module:
    """Its outputs are zero at first, and the mask of its attention is larger than all its weights."""
    network = perceptron(seed)
    nn.init.zeros_(network.get_parameter("4.weight"))
    nn.init.zeros_(network.get_parameter("4.bias"))
    network.register_buffer("mask", torch.full((8, 8), -1e9))
    return network


def hooked(network: nn.Module) -> nn.Module:
    network.get_parameter("1.weight").register_hook(lambda gradient: 0.5 * gradient)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "two layers": Backwards,
    "the first without a gradient": lambda: Backwards(0.0),
    "the first with the reverse gradient": lambda: Backwards(-1.0),
    "perceptron with half a gradient": lambda: hooked(perceptron()),
    "noise": Noisy,
    "more of it": lambda: Noisy(2.0),
    "masked": lambda: masked(0),
    "masked, with another seed": lambda: masked(1),
    "perceptron": perceptron,
    "another seed": lambda: perceptron(1),
    "another dropout": lambda: perceptron(dropout=0.1),
    "frozen": lambda: frozen(perceptron()),
    "in double precision": lambda: perceptron().double(),
    "written": Written,
    "tanh": lambda: Written(torch.tanh),
    "relu6, which is the same on these examples": lambda: Written(F.relu6),
    "dropout in the forward pass": lambda: Written(p=0.3),
    "a little more of it": lambda: Written(p=0.35),
    "another preprocessing": lambda: Written(shift=0.1),
    "normalised": normalised_network,
    "with another momentum": lambda: momentum(normalised_network()),
}


def momentum(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
    return network


def identity_of(network: nn.Module) -> dict[str, Any]:
    return network_identity(network, EXAMPLES.to(next(network.parameters()).dtype))


def test_networks_are_known_by_their_weights_and_their_code() -> None:
    known = {name: identity_of(make()) for name, make in NETWORKS.items()}
    again = {name: identity_of(make()) for name, make in NETWORKS.items()}
    for one in NETWORKS:
        assert first_difference(known[one], again[one]) is None, one
        for other in NETWORKS:
            assert one == other or first_difference(known[one], known[other]) is not None, (one, other)


def attentive(dropout: float) -> nn.Module:
    """All kinds of layers with dropout, and momentum of as much."""
    torch.manual_seed(0)
    recurrent = nn.LSTM(8, 8, 2, batch_first=True, dropout=dropout)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([recurrent, layer, nn.BatchNorm1d(8, momentum=dropout), nn.Linear(64, 10)])

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.layers[1](self.layers[0](inputs.flatten(1, 2))[0])
            return self.layers[3](F.dropout(self.layers[2](hidden), dropout, self.training).flatten(1))

    return Attentive()


def test_of_a_teacher_only_what_it_is_in_evaluation_mode_counts() -> None:
    def known(network: nn.Module) -> dict[str, Any]:
        return network_identity(network, EXAMPLES, trained=False)

    for one, other in ((perceptron(), frozen(perceptron())), (attentive(0.1), attentive(0.2))):
        assert first_difference(known(one), known(other)) is None
        assert first_difference(identity_of(one), identity_of(other)) is not None
    names = ("written", "tanh", "relu6, which is the same on these examples", "another preprocessing")
    teachers = [known(NETWORKS[name]()) for name in names]
    for number, one in enumerate(teachers):
        for other in teachers[:number]:
            assert first_difference(one, other) is not None


class Skips(nn.Module):
    """A network that leaves a layer out at random in training; the random numbers are numpy's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = perceptron()
        self.more = nn.Linear(10, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.layers(inputs)
        skips = self.training and np.random.rand() < 0.5  # noqa: NPY002
        return logits if skips else logits + self.more(logits)


def test_a_network_that_draws_from_numpy_is_recognised(tmp_path: Path) -> None:
    first = instar.train(Skips(), TRAIN, epochs=1, run_dir=tmp_path)
    for _ in range(5):
        assert instar.train(Skips(), TRAIN, epochs=1, run_dir=tmp_path).metrics == first.metrics


def test_to_be_recognised_changes_nothing() -> None:
    network = normalised_network().train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    identity_of(network)
    assert same_bits(network.state_dict(), before)
    assert [module.training for module in network] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state()) == states[2]  # noqa: NPY002


ELSEWHERE = """
import json, torch
from instar.networks import build_network, network_identity
from instar.data import load_data, parse_views
data = load_data("digits").train.with_views(parse_views("affine:12,0.15,0.15,2"), view_seed=0)
found = {"data": data.identity}
for name in ("mlp:300x2", "convnet:8", "resnet:8", "convnet:8x4"):
    network = build_network(name, input_shape=(1, 8, 8), num_classes=10, seed=0)
    found[name] = network_identity(network, data.examples())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_processor_recognises_what_this_one_wrote() -> None:
    """Other instructions and threads give other last bits, also of first weights that are drawn from a seed."""
    found = []
    for capability, threads in (("default", "1"), ("avx2", "2"), ("", "1")):
        settings = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "ONEDNN_MAX_CPU_ISA": "SSE41" if capability else "ALL",
        }
        settings |= {"ATEN_CPU_CAPABILITY": capability} if capability else {}
        done = subprocess.run([sys.executable, "-c", ELSEWHERE], env=settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] != found[1]  # the bits differ
    for other in found[1:]:
        assert first_difference(found[0], other) is None


# Teachers without weights


class Forest(nn.Module):
    """A wrapper round something that is no module."""

    def __init__(self, sign: float, fingerprint: str | None = None) -> None:
        super().__init__()
        self.sign = sign
        if fingerprint is not None:
            self.fingerprint = fingerprint

    def forward(self, inputs: Tensor) -> Tensor:
        return self.sign * inputs.flatten(1)[:, 20:30]


def test_a_teacher_without_weights_is_known_by_what_it_states(tmp_path: Path) -> None:
    student = functools.partial(perceptron, 3)
    for use in (
        lambda: instar.SoftTargetStore.write(tmp_path / "store", {"forest": Forest(1.0)}, TRAIN),
        lambda: instar.distill(Forest(1.0), student(), TRAIN, epochs=1, run_dir=tmp_path / "run"),
    ):
        with pytest.raises(UsageError, match=r"Forest has no weights .* an attribute `fingerprint`"):
            use()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"Forest.fingerprint should be a text, found int"):
        network_fingerprint(Forest(1.0, 3))  # type: ignore[arg-type]
    instar.SoftTargetStore.write(tmp_path / "store", {"forest": Forest(1.0, "one")}, TRAIN)
    for other, key in ((Forest(-1.0, "two"), "teachers.forest"), (Forest(-1.0, "one"), "answers.forest")):
        with pytest.raises(UsageError, match=rf"a store with other settings: {key} is"):
            instar.SoftTargetStore.write(tmp_path / "store", {"forest": other}, TRAIN)
    run = {"epochs": 1, "run_dir": tmp_path / "run"}
    instar.distill(Forest(1.0, "one"), student(), TRAIN, **run)
    for other, key in ((Forest(1.0, "two"), "fingerprint"), (Forest(-1.0, "one"), "outputs")):
        with pytest.raises(RunError, match=rf"config.teacher.{key} is"):
            instar.distill(other, student(), TRAIN, **run)


def test_a_store_knows_a_teacher_whose_preprocessing_was_mended(tmp_path: Path) -> None:
    store = instar.SoftTargetStore.write(tmp_path, {"teacher": Written()}, TRAIN)
    store.check_teachers({"teacher": Written()}, TRAIN)
    with pytest.raises(UsageError, match="'teacher' has the same weights, and answers otherwise than when"):
        store.check_teachers({"teacher": Written(shift=0.5)}, TRAIN)
    for teacher, data in ((Written(shift=0.5), TRAIN), (Written(), scaled())):
        with pytest.raises(UsageError, match=r"other settings: answers.teacher is about \["):
            instar.SoftTargetStore.write(tmp_path, {"teacher": teacher}, data)


# Fits in a run directory: every option


def scaled() -> instar.InMemoryDataset:
    inputs, labels = TRAIN.gather(TRAIN.ids, 0), TRAIN.labels(TRAIN.ids)
    return instar.InMemoryDataset(inputs, labels, class_names=TRAIN.class_names, ids=TRAIN.ids, mean=[0.5])


def every_other(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
    return shuffled(ids, seed=seed, epoch=epoch)[::2]


class Repeated:
    """A sampler that is an object."""

    def __init__(self, times: int) -> None:
        self.times, self.fingerprint = times, f"{times} times"

    def __call__(self, ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        return shuffled(ids, seed=seed, epoch=epoch).repeat(self.times)


class Auxiliary(nn.Module):
    """A further term of the loss."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__()
        self.fingerprint = fingerprint

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean()


SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=1)
TARGETS = StoredLogits(TRAIN.ids, 4 * torch.eye(10)[TRAIN.labels(TRAIN.ids)], temperature=2.0)

CHANGED: dict[str, list[Any]] = {
    "data": [VALIDATION, scaled(), SHAKEN, SHAKEN.with_views(SHAKEN.views, view_seed=2),
             SHAKEN.with_views(SHAKEN.views, view_seed=1, num_views=2)],
    "network": [NETWORKS["another seed"](), NETWORKS["tanh"](), NETWORKS["another dropout"](),
                frozen(perceptron())],
    "epochs": [3, np.int64(4)],
    "targets": [TARGETS, Teacher(perceptron(5), TRAIN, temperature=2.0),
                Teacher(perceptron(6), TRAIN, temperature=2.0),
                Teacher(perceptron(5), TRAIN, temperature=3.0), Teacher(Written(), TRAIN, temperature=2.0),
                Teacher(Written(shift=0.5), TRAIN, temperature=2.0),
                LabelsInTargets(TARGETS, TRAIN, 0.2), LabelsInTargets(TARGETS, TRAIN, 0.3)],
    "soft_weight": [0.5],
    "hard_weight": [0.5, np.float32(0.25)],
    "soft_loss": ["dist"],
    "auxiliary": [Auxiliary("one"), Auxiliary("two")],
    "validation": [VALIDATION, digits(41, start=300)],
    "sampler": [half_special(TRAIN.ids[:30]), half_special(TRAIN.ids[:31]), every_other, Repeated(2), Repeated(3)],
    "batch_size": [32, np.int32(16)],
    "optimiser": ["adamw"],
    "learning_rate": [0.2, np.float32(0.001)],
    "learning_rate_factors": [{"1.weight": 0.5}, {"1.weight": np.float64(0.25)}],
    "momentum": [0.5],
    "weight_decay": [0.1],
    "schedule": ["constant"],
    "warmup_epochs": [1],
    "gradient_clip": [1.0],
    "max_norm": [1.0],
    "ema_decay": [0.5],
    "patience": [1],
    "precision": ["bfloat16"],
    "seed": [1, np.int64(2)],
}  # fmt: skip
"""Other values of every argument of `fit`, in which `train` and `distill` run."""


def options_with(name: str, value: Any) -> tuple[nn.Module, Any, dict[str, Any]]:
    options: dict[str, Any] = {"epochs": 2, "seed": 0, "precision": "float32"}
    if name == "network":
        return value, TRAIN, options
    if name == "data":
        return perceptron(), value, options
    more = {"validation": VALIDATION} if name == "patience" else {}
    return perceptron(), TRAIN, options | more | {name: value}


def test_every_option_of_a_fit_is_in_its_identity_or_on_a_list_with_the_reason(tmp_path: Path) -> None:
    names = ["network", "data", *(field.name for field in dataclasses.fields(FitOptions))]
    assert {*CHANGED, *NOT_WRITTEN} == set(names)
    instar.train(*options_with("seed", 0)[:2], run_dir=tmp_path, **options_with("seed", 0)[2])
    for name, values in CHANGED.items():
        configs = [Run.read(tmp_path).config]
        for value in values:
            network, data, options = options_with(name, value)
            configs.append(plain(config_of(network, data, options)))
            with pytest.raises(RunError, match=r"belongs to another configuration: config\.\S+ is .* there and"):
                fitted(network, data, {**options, "run_dir": tmp_path})
        for number, one in enumerate(configs):
            for other in configs[:number]:
                assert first_difference(one, other) is not None, name


def fitted(network: nn.Module, data: Any, options: dict[str, Any]) -> None:
    instar.train(network, data, **options)


def test_train_and_distill_know_soft_targets_by_the_same(tmp_path: Path) -> None:
    teachers = [Teacher(perceptron(seed), TRAIN, temperature=2.0) for seed in (5, 6)]
    options = {"epochs": 1, "soft_weight": 1.0, "hard_weight": 0.1}
    instar.train(perceptron(), TRAIN, targets=teachers[0], run_dir=tmp_path / "train", **options)
    instar.distill(teachers[0], perceptron(), TRAIN, run_dir=tmp_path / "distill", **options)
    trained, distilled = (Run.read(tmp_path / name) for name in ("train", "distill"))
    assert first_difference(trained.config, distilled.config) is None
    with pytest.raises(RunError, match=r"config\.targets\.\S+ is .* there and"):
        instar.train(perceptron(), TRAIN, targets=teachers[1], run_dir=trained.path, **options)
    with pytest.raises(UsageError, match="run_dir: the soft targets are a lambda"):
        instar.train(
            perceptron(), TRAIN, targets=lambda ids, views: teachers[0](ids, views), run_dir=tmp_path / "new"
        )
    assert not (tmp_path / "new").exists()


def config_of(network: nn.Module, data: Any, options: dict[str, Any]) -> dict[str, Any]:
    from instar.distillation.run_config import describe_targets, fit_config

    about = {"targets": describe_targets(options["targets"], data)} if "targets" in options else {}
    return {**fit_config(network, data, options), **about}


TEACHERS = [perceptron(5), Written(), Written(shift=0.5), [perceptron(7)], [perceptron(8), perceptron(7)]]
OF_DISTILL: dict[str, list[Any]] = {
    "teacher": TEACHERS,
    "student": CHANGED["network"],
    "train": CHANGED["data"][:3],
    "temperature": [2.0, np.float32(3.0)],
    "label_weight": [0.5],
    "ensemble_mean": ["geometric"],
    "ensemble_weights": [[0.25, 0.75], [0.75, 0.25]],
    "hints": [[Hint("4", "4")], [Hint("4", "4", weight=2.0)]],
    **{name: CHANGED[name] for name in ("validation", "soft_weight", "hard_weight", "epochs", "seed")},
}


def test_every_argument_of_distill_is_in_the_identity(tmp_path: Path) -> None:
    names = set(inspect.signature(instar.distill).parameters) - {"run_dir", "device", "options"}
    assert names == set(OF_DISTILL)
    members, alone = [perceptron(7), perceptron(8)], perceptron(7)

    def distilled(folder: str, **changed: Any) -> None:
        first = {"teacher": alone if folder == "hints" else members, "student": perceptron(), "train": TRAIN}
        instar.distill(**{**first, "epochs": 2, "run_dir": tmp_path / folder, **changed})

    for folder in ("hints", "others"):
        distilled(folder)
        distilled(folder, device=torch.device("cpu"))
    for name, values in OF_DISTILL.items():
        for value in values:
            with pytest.raises(RunError, match=r"another configuration: config\.\S+ is .* there and"):
                distilled("hints" if name == "hints" else "others", **{name: value})


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    numbers = {
        "epochs": np.int32(2),
        "seed": np.int64(1),
        "learning_rate": np.float64(0.05),
        "batch_size": np.int16(20),
    }
    first = instar.train(perceptron(), TRAIN, run_dir=tmp_path, **numbers)
    again = instar.train(
        perceptron(), TRAIN, run_dir=tmp_path, epochs=2, seed=1, learning_rate=0.05, batch_size=20
    )
    assert first.metrics == again.metrics
    assert Run.read(tmp_path).config["seed"] == 1
    assert run_hash("fit", {"seed": np.int64(1)}) == run_hash("fit", {"seed": 1})
    views = parse_views("jitter:1")
    one, other = (TRAIN.with_views(views, view_seed=seed, num_views=seed) for seed in (3, np.int64(3)))
    assert first_difference(one.identity, other.identity) is None
    store = instar.SoftTargetStore.write(
        tmp_path / "store",
        {"one": perceptron()},
        other,
        views=np.int64(3),
        top_k=np.int8(2),
        temperatures=np.array([2.0]),
    )
    assert store.num_views == 3


def samplers() -> Iterator[tuple[Any, str]]:
    def inner(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        return shuffled(ids, seed=seed, epoch=epoch)

    class Plain:
        def __call__(self, ids: Tensor, *, seed: int, epoch: int) -> Tensor:
            return shuffled(ids, seed=seed, epoch=epoch)

    yield lambda ids, *, seed, epoch: ids, "sampler is a lambda"
    yield inner, r"sampler is a function inside another one \(inner\)"
    yield Plain(), "sampler is an object of class Plain"
    yield functools.partial(shuffled, seed=lambda: 3), "sampler.seed is a lambda"


def test_what_cannot_be_written_down_is_refused_where_there_is_a_run_directory(tmp_path: Path) -> None:
    for sampler, says in samplers():
        with pytest.raises(UsageError, match=f"run_dir: {says}, which cannot be written down"):
            instar.train(perceptron(), TRAIN, epochs=1, sampler=sampler, run_dir=tmp_path / "run")
    instar.train(perceptron(), TRAIN, epochs=1, sampler=next(samplers())[0])  # without one it is used

    def targets(ids: Tensor, views: Any) -> Any:
        return soft_targets(4 * torch.eye(10)[TRAIN.labels(ids)], 2.0)

    with pytest.raises(UsageError, match=r"soft targets are a function inside another one .* `fingerprint`"):
        instar.distill(targets, perceptron(), TRAIN, epochs=1, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    targets.fingerprint = "labels"  # type: ignore[attr-defined]
    instar.distill(targets, perceptron(), TRAIN, epochs=1, run_dir=tmp_path / "run")
    assert Run.read(tmp_path / "run").config["targets"]["fingerprint"] == "labels"


def test_what_is_written_of_functions_and_objects() -> None:
    assert written("sampler", every_other) == f"{__name__}:every_other"
    partial = written("sampler", functools.partial(every_other, seed=3))
    assert partial == {"function": f"{__name__}:every_other", "arguments": [], "seed": 3}
    assert written("views", parse_views("jitter:2")) == {"kind": "Jitter", "pixels": 2}
