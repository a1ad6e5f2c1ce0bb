"""Networks as named layers: what they are, how they begin, where they are cut, and that frozen means frozen."""

import copy
import json
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from instar.errors import DataError, TrainingError, UsageError
from instar.networks import (
    assert_frozen,
    build_network,
    channels_last_,
    cut,
    evaluation_mode,
    freeze_,
    initialise_,
    layers_of,
    load_weights_,
    network_fingerprint,
    state_hashes,
)
from instar.runs import Run
from instar.training import fit
from small_fits import digits, normalised_network, perceptron, same_bits, state_of

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def build(name: str, shape: tuple[int, ...] = MNIST, **options: object) -> nn.Module:
    return build_network(name, **{"input_shape": shape, "num_classes": 10, "seed": 0, **options})  # type: ignore[arg-type]


class Tangled(nn.Module):
    """Defined in another order than the data meets it; one ReLU in two places; steps that are no module."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4 * 9, 5)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(3, 4, 3)
        self.never = nn.Linear(2, 2)
        self.first = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.max_pool2d(self.relu(self.first(inputs - 0.5)), 2)
        hidden = self.relu(self.second(F.pad(hidden, (0, 1, 0, 1))))
        hidden = F.dropout(hidden, 0.5, self.training)
        return self.head(hidden.flatten(1))


class Skipping(nn.Module):
    """A skip connection from the first stage over the second, and one from the inputs to the logits."""

    def __init__(self, *, from_inputs: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.from_inputs = from_inputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs)
        logits = self.three(torch.relu(self.two(hidden)) + hidden)
        return logits + inputs if self.from_inputs else logits


class WithPositions(nn.Module):
    """Blocks in a list, and an embedding that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(3, 4))
        self.scale = nn.Parameter(torch.ones(2))
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(12, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs + self.positions
        for block in self.blocks:
            hidden = torch.relu(block(hidden))
        return self.head(hidden.flatten(1)) * self.scale


# What the names say

SIZES = {
    ("mlp:1200x2", MNIST): 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 10 + 10,
    ("mlp:800x2", MNIST): 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10,
    ("mlp:300-100", MNIST): 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10,
    # 3x3 convolutions to 32, 64, 64, 64, 64 channels, pooled to 4x4, then 256, 256, 10
    ("convnet:8", CIFAR): (27 * 32 + 32) + (288 * 64 + 64) + 3 * (576 * 64 + 64)
    + (1024 * 256 + 256) + (256 * 256 + 256) + (2560 + 10),
    # stem; blocks of two 3x3 convolutions, each with a normalisation, projected where they widen; head
    ("resnet:8", CIFAR): (27 * 16 + 32) + (2 * 144 * 16 + 64) + (144 * 32 + 288 * 32 + 128 + 16 * 32 + 64)
    + (288 * 64 + 576 * 64 + 256 + 32 * 64 + 128) + (640 + 10),
    # pairs of 3x3 convolutions to 4, 8 and 16 channels, each with a normalisation, pooled to 3x3; then 32, 10
    ("vgg:8x4", MNIST): (36 + 144 + 16) + (288 + 576 + 32) + (1152 + 2304 + 64) + (144 * 32 + 64) + (320 + 10),
}  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), SIZES)
def test_a_name_gives_these_weights_and_one_logit_for_each_class(name: str, shape: tuple[int, ...]) -> None:
    network = build(name, shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == SIZES[name, shape]
    with evaluation_mode(network):
        assert network(torch.zeros(2, *shape)).shape == (2, 10)


def test_layers_have_the_papers_names() -> None:
    names = {
        name: [layer.name for layer in layers_of(build(name, CIFAR))] for name in ("mlp:9x2", "convnet:8", "vgg:4")
    }
    assert names["mlp:9x2"] == ["fc1", "fc2", "fc3"]
    assert names["convnet:8"] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    assert names["vgg:4"] == ["conv1", "conv2", "fc3", "fc4"]


def test_dropout_is_on_the_inputs_and_after_each_hidden_layer() -> None:
    network = build("mlp:9x2", dropout=0.5, input_dropout=0.2)
    kinds = [[type(step).__name__ for step in layer.module.children()] for layer in layers_of(network)]
    assert kinds == [
        ["Flatten", "Dropout", "Linear", "ReLU", "Dropout"],
        ["Linear", "ReLU", "Dropout"],
        ["Linear"],
    ]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]


def test_a_small_picture_is_pooled_no_further_than_it_goes() -> None:
    assert build("convnet:5", (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert build("convnet:5", (1, 2, 3))(torch.zeros(2, 1, 2, 3)).shape == (2, 10)


@pytest.mark.parametrize(
    ("kind", "first"),
    [("convnet:8", "conv1.0.weight"), ("resnet:8", "stem.0.weight"), ("vgg:6", "conv1.0.weight")],
)
def test_a_name_may_say_the_channels_of_the_first_convolution(kind: str, first: str) -> None:
    networks = [build(kind, (3, 8, 8)), build(f"{kind}x12", (3, 8, 8))]
    assert [network.state_dict()[first].shape[0] for network in networks] == [
        16 if kind == "resnet:8" else 32,
        12,
    ]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mpl:12", {}, "did you mean mlp:800x2"),
        ("mlp:", {}, "mlp:UNITSxLAYERS"),
        ("mlp:0x2", {}, "mlp:UNITSxLAYERS"),
        ("mlp:30x0", {}, "mlp:UNITSxLAYERS"),
        ("convnet:²", {}, "convnet:DEPTH"),
        ("convnet:3", {}, "at least 4 layers"),
        ("resnet:9", {}, "6k \\+ 2"),
        ("resnet:8", {"input_shape": (64,)}, "needs images"),
        ("vgg:7", {}, "the depth should be even"),
        ("vgg:2", {}, "the depth should be even"),
        ("vgg:12", {}, "halves an image 5 times, this one has 28 x 28 pixels"),
        ("vgg:8", {"input_shape": (64,)}, "needs images"),
        ("vgg:8x9999", {}, "take [0-9]+ GiB, this machine has [0-9]+ GiB of memory: take a smaller one"),
        ("mlp:9999999x2", {}, "take [0-9,]+ GiB, this machine has [0-9]+ GiB of memory: take a smaller one"),
        ("resnet:8", {"input_dropout": 0.1}, "no input dropout"),
        ("mlp:9x1", {"dropout": 1.0}, "should be in \\[0, 1\\)"),
        ("mlp:9x1", {"initialiser": "he-nromal"}, "did you mean he-normal"),
        ("mlp:9x1", {"initialiser": "gaussian:-1"}, "SD above 0"),
        ("mlp:9x1", {"initialiser": "gaussian:nan"}, "SD above 0"),
        ("mlp:9x1@nowhere.safetensors", {}, "no weights file at nowhere.safetensors"),
        ("python:small_fits:users_network", {"dropout": 0.5}, "set dropout to 0"),
        ("python:small_fits:digits", {}, "should return a torch.nn.Module"),
        ("python:small_fits", {}, "python:MODULE:FUNCTION"),
    ],
)
def test_a_wrong_name_or_option_is_named(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(name, **options)


def test_a_users_function_gets_what_it_takes() -> None:
    network = build("python:small_fits:users_network", (1, 8, 8), num_classes=3)
    assert network(torch.zeros(5, 1, 8, 8)).shape == (5, 3)
    again = build("python:small_fits:users_network", (1, 8, 8), num_classes=3)
    assert same_bits(network.state_dict(), again.state_dict())


# How they begin


@pytest.mark.parametrize("name", ["he-normal", "glorot-uniform", "lecun-uniform", "gaussian:0.01"])
def test_initial_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    one = build("convnet:5", CIFAR, initialiser=name)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = build("convnet:5", CIFAR, initialiser=name)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(one.state_dict(), two.state_dict())
    other = build("convnet:5", CIFAR, initialiser=name, seed=1)
    assert not any(
        torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.ndim > 1
    )


def test_initialisers_have_the_spread_of_their_equations() -> None:
    network = nn.Sequential(nn.Linear(500, 300), nn.Conv2d(20, 30, 5))
    spreads = {"he-normal": (2 / 500, 2 / 500), "gaussian:0.3": (0.09, 0.09)}
    spreads |= {"glorot-uniform": (2 / 800, 2 / (50 * 25)), "lecun-uniform": (1 / 500, 1 / 500)}
    for name, variances in spreads.items():
        initialise_(network, name, seed=0)
        for layer, variance in zip(network, variances, strict=True):
            assert layer.weight.var().item() == pytest.approx(variance, rel=0.05), name
            assert layer.bias.abs().max() == 0
            if "uniform" in name:
                assert layer.weight.abs().max() <= (3 * variance) ** 0.5 * 1.0001


def test_initialising_anew_forgets_what_normalisation_has_learned() -> None:
    network = normalised_network()
    fit(network, digits(), epochs=1)
    initialise_(network, "he-normal", seed=3)
    assert same_bits(network.state_dict(), initialise_(normalised_network(7), "he-normal", seed=3).state_dict())


# Their weights in files


def test_weights_from_files_of_both_kinds(tmp_path: Path) -> None:
    source = build("mlp:7x2", seed=5)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    wrapped = {f"module.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "published.pth")
    for name in ("weights.safetensors", "published.pth"):
        network = build(f"mlp:7x2@{tmp_path / name}")
        assert same_bits(network.state_dict(), source.state_dict())


def saved(folder: Path) -> tuple[dict[str, Tensor], dict[str, Path]]:
    """A state dict, and the files of it that trainers leave."""
    state = build("mlp:7x2", seed=5).state_dict()

    def prefixed(prefix: str) -> dict[str, Tensor]:
        return {prefix + name: value for name, value in state.items()}

    contents: dict[str, object] = {
        "ddp.pt": prefixed("module."),
        "ddp.safetensors": prefixed("module."),
        "compiled.pt": prefixed("_orig_mod."),
        "both.pt": prefixed("module._orig_mod."),
        "lightning.ckpt": {"state_dict": prefixed("model."), "epoch": 1},
        "tutorial.pt": {"model_state_dict": state, "epoch": 1},
        "named.pt": {"model": state, "optimizer": {}},
        "half.safetensors": {name: value.half() for name, value in state.items()},
    }
    for name, content in contents.items():
        save = save_file if name.endswith("safetensors") else torch.save
        save(content, folder / name)
    first, *rest = state
    save_file({first: state[first]}, folder / "a.safetensors")
    save_file({name: state[name] for name in rest}, folder / "b.safetensors")
    index = {"weight_map": {name: "a.safetensors" if name == first else "b.safetensors" for name in state}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return state, {name: folder / name for name in [*contents, "model.safetensors.index.json"]}


def test_weights_as_trainers_save_them(tmp_path: Path) -> None:
    state, files = saved(tmp_path)
    for name, path in files.items():
        expected = {key: value.half().float() for key, value in state.items()} if "half" in name else state
        assert same_bits(build(f"mlp:7x2@{path}", seed=1).state_dict(), expected), name


def test_a_prefix_that_the_network_has_too_stays(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    save_file(
        {f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "twice.safetensors"
    )
    with pytest.raises(DataError, match=r"has no 'module\.weight'"):
        load_weights_(network, tmp_path / "twice.safetensors", "mine")


def test_weights_that_a_network_cannot_hold_are_refused(tmp_path: Path) -> None:
    state = build("mlp:7x2", seed=5).state_dict()
    first = next(iter(state))
    odd = {
        "NaN or infinity in 1 of": {**state, first: state[first].clone().index_fill_(0, torch.tensor(0), 1.0)},
        "integers without their scale": {**state, first: (50 * state[first]).round().to(torch.int8)},
        "would lose digits as torch.float32": {**state, first: state[first].double() / 3},
    }
    odd["NaN or infinity in 1 of"][first].view(-1)[0] = math.nan
    for words, content in odd.items():
        save_file(content, tmp_path / "odd.safetensors")
        with pytest.raises(DataError, match=words):
            build(f"mlp:7x2@{tmp_path / 'odd.safetensors'}")
    (tmp_path / "a.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "odd.safetensors"}}))
    with pytest.raises(DataError, match="lacks 'x'"):
        build(f"mlp:7x2@{tmp_path / 'a.safetensors.index.json'}")


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (eval, ("open('was_here', 'w').close()",))


def test_damaged_or_foreign_weights_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = build("mlp:7x2", seed=5).state_dict()
    save_file(state, "whole.safetensors")
    whole = Path("whole.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-5])
    Path("empty.safetensors").write_bytes(b"")
    Path("empty.pth").write_bytes(b"")
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save([1, 2], "list.pth")
    save_file({**state, "fc9.0.bias": torch.zeros(3)}, "more.safetensors")
    save_file({name: value for name, value in state.items() if name != "fc2.0.bias"}, "less.safetensors")
    expected = {
        "cut.safetensors": "cannot be read as weights",
        "empty.safetensors": "cannot be read as weights",
        "empty.pth": "empty.pth",
        "evil.pth": "evil.pth",
        "list.pth": "no state dict of tensors",
        "more.safetensors": "has 'fc9.0.bias' that mlp:7x2 lacks",
        "less.safetensors": "has no 'fc2.0.bias'",
    }
    for name, words in expected.items():
        with pytest.raises(DataError, match=words) as caught:
            build(f"mlp:7x2@{name}")
        assert "\n" not in str(caught.value)
    assert not Path("was_here").exists()
    network = build("mlp:8x2")
    before = state_of(network)
    with pytest.raises(DataError, match=r"fc1\.1\.weight is \(7, 784\), expected \(8, 784\)"):
        load_weights_(network, Path("whole.safetensors"), "mlp:8x2")
    assert same_bits(network.state_dict(), before)


# Layers and cuts


def test_layers_of_a_module_come_in_the_order_of_the_data() -> None:
    network = Tangled().train()
    network.second.eval()
    names = [layer.name for layer in layers_of(network, torch.rand(2, 1, 8, 8))]
    assert names == ["first", "relu", "second", "head"]
    assert network.training
    assert not network.second.training
    assert [layer.name for layer in layers_of(WithPositions(), torch.rand(2, 3, 4))] == [
        "blocks.0",
        "blocks.1",
        "head",
    ]


def test_a_module_that_stands_twice_in_a_sequential_is_two_layers() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(3, 3), relu, nn.Linear(3, 3), relu)
    assert [layer.name for layer in layers_of(network)] == ["0", "1", "2", "3"]
    inputs = torch.randn(4, 3)
    assert torch.equal(cut(network, 3).rest(cut(network, 3).prefix(inputs)), network(inputs))


def test_a_sequential_with_a_forward_of_its_own_is_no_chain() -> None:
    class Backwards(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            return self[0](self[1](inputs))

    network = Backwards(nn.Linear(3, 2), nn.Linear(4, 3))
    assert [layer.name for layer in layers_of(network, torch.rand(2, 4))] == ["1", "0"]
    with pytest.raises(UsageError, match="pass an example_input"):
        layers_of(network)


def test_a_module_without_stages_has_no_layers() -> None:
    with pytest.raises(UsageError, match="calls none of its 0 modules"):
        layers_of(nn.Linear(2, 2), torch.rand(1, 2))


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp:9x3", MNIST), ("convnet:6", CIFAR), ("resnet:8", (1, 8, 8)), ("vgg:6x4", MNIST)]
)
def test_both_parts_together_are_the_network_at_every_cut(name: str, shape: tuple[int, ...]) -> None:
    network, inputs = build(name, shape).eval(), torch.rand(3, *shape)
    expected = network(inputs)
    for n in range(len(layers_of(network)) + 1):
        parts = cut(network, n)
        assert parts.cacheable
        assert torch.equal(parts.rest(parts.prefix(inputs)), expected)
        assert [*parts.prefix.parameters(), *parts.rest.parameters()] == list(network.parameters())


def test_both_parts_of_a_module_that_is_no_chain_are_the_network_at_every_cut() -> None:
    network, example, inputs = Tangled().eval(), torch.rand(2, 1, 8, 8), torch.rand(5, 1, 8, 8)
    expected = network(inputs)
    for n in range(5):
        parts = cut(network, n, example)
        assert parts.cacheable
        assert torch.equal(parts.rest(parts.prefix(inputs)), expected)
        assert torch.equal(network(inputs), expected)  # it is as it was
    counts = [sum(p.numel() for p in cut(network, 3, example).prefix.parameters())]
    counts.append(sum(p.numel() for p in cut(network, 3, example).rest.parameters()))
    assert counts == [(9 * 3 + 3) + (27 * 4 + 4), 36 * 5 + 5]


def test_a_part_of_a_module_follows_its_own_mode() -> None:
    parts = cut(Tangled().eval(), 3, torch.rand(2, 1, 8, 8))
    features = parts.prefix(torch.rand(64, 1, 8, 8))
    assert torch.equal(parts.rest(features), parts.rest(features))
    parts.rest.train()  # its forward has a dropout that is no module
    assert not torch.equal(parts.rest(features), parts.rest(features))


def test_a_cut_under_a_skip_connection_is_not_cacheable_and_its_rest_refuses() -> None:
    inputs = torch.rand(3, 4)
    cacheable = [cut(Skipping(), n, inputs).cacheable for n in range(4)]
    assert cacheable == [True, True, False, True]
    assert [cut(Skipping(from_inputs=True), n, inputs).cacheable for n in range(4)] == [True, False, False, False]
    parts = cut(Skipping(), 2, inputs)
    with pytest.raises(UsageError, match="after 'two' need more than its features"):
        parts.rest(parts.prefix(inputs))


@pytest.mark.parametrize("channels", [4, 12, 16])
@pytest.mark.parametrize("own", [True, False])
def test_narrow_strided_convolutions_have_their_gradient_in_the_faster_layout(own: bool, channels: int) -> None:
    """oneDNN (issue 6035 there) crashes, hangs or errs for strided 1x1 convolutions of few channels."""
    foreign = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 8, 1, stride=2), nn.Flatten())
    network = build(f"resnet:8x{channels}", CIFAR) if own else foreign
    pixels = torch.randn(32, 32, 32, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    inputs = pixels if own else pixels.contiguous()
    exact = copy.deepcopy(network).double()
    channels_last_(network, inputs[:2])
    for one, given in ((network, inputs), (exact, inputs.double())):
        one(given).square().mean().backward()
    for (name, found), expected in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert (found.grad - expected.grad).norm() < 0.05 * expected.grad.norm(), name  # a ReLU may turn


def test_a_cut_or_freeze_beyond_the_layers_is_refused() -> None:
    for n in (-1, 6):
        with pytest.raises(UsageError, match=f"cut after {n} layers: Sequential has 5"):
            cut(perceptron(), n)
        with pytest.raises(UsageError, match=f"freeze {n} layers: Sequential has 5"):
            freeze_(perceptron(), n)
    with pytest.raises(UsageError, match="pass an example_input"):
        cut(Skipping(), 1)


# Frozen


@pytest.mark.parametrize("dropout", [True, False])
def test_frozen_layers_keep_every_bit_in_training(dropout: bool) -> None:
    network = normalised_network()
    fit(network, digits(), epochs=1)  # so that the statistics are not those of a new network
    freeze_(network, 2, dropout=dropout)
    network = copy.deepcopy(network)
    before = state_hashes(network[:2])
    head = state_of(network[2])
    fit(network, digits(), epochs=2, weight_decay=0.1, momentum=0.9, max_norm=0.1, ema_decay=0.5)
    assert len(before) == 12
    assert_frozen(before, state_hashes(network[:2]))
    assert not torch.equal(network[2][1].weight, head["1.weight"])
    network.train()
    inputs = digits().gather(digits().ids, 0)
    features = network[:2](inputs)
    assert torch.equal(network[:2](inputs), features) is not dropout  # the paper's dropout stays on


def test_without_freezing_the_same_training_changes_weights_and_buffers() -> None:
    network = normalised_network()
    before = state_hashes(network[:2])
    fit(network, digits(), epochs=1)
    changed = [name for name, value in state_hashes(network[:2]).items() if value != before[name]]
    assert changed == list(before)
    with pytest.raises(
        TrainingError, match=r"changed in training: 0\.0\.weight, 0\.1\.weight, 0\.1\.bias and 9 more"
    ):
        assert_frozen(before, state_hashes(network[:2]))


def test_the_optimiser_holds_nothing_for_frozen_layers(tmp_path: Path) -> None:
    network = normalised_network()
    freeze_(network, 2)
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        fit(network, digits(), epochs=1, optimiser="adamw", weight_decay=0.1, run=run, checkpoint_seconds=0.0)
        checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    shapes = {name: tuple(value.shape) for name, value in checkpoint[0].items() if name.startswith("optimiser.")}
    assert sorted(shapes) == [f"optimiser.{i}.{key}" for i in (0, 1) for key in ("exp_avg", "exp_avg_sq", "step")]
    assert sorted(set(shapes.values())) == [(), (10,), (10, 12)]


def test_an_embedding_of_no_layer_is_frozen_where_the_features_need_it() -> None:
    example = torch.rand(2, 3, 4)
    none, some = WithPositions(), WithPositions()
    freeze_(none, 0, example_input=example)
    freeze_(some, 1, example_input=example)
    assert all(parameter.requires_grad for parameter in none.parameters())
    trained = [name for name, parameter in some.named_parameters() if parameter.requires_grad]
    assert trained == ["scale", "blocks.1.weight", "blocks.1.bias", "head.weight", "head.bias"]


def test_hashes_cover_weights_and_buffers_even_those_that_are_not_saved() -> None:
    network = nn.BatchNorm1d(2)
    network.register_buffer("table", torch.zeros(2), persistent=False)
    before, fingerprint = state_hashes(network), network_fingerprint(network)
    assert network_fingerprint(copy.deepcopy(network)) == fingerprint
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "table"):
        changed = copy.deepcopy(network)
        changed.get_buffer(name).add_(1) if name not in ("weight", "bias") else changed.get_parameter(
            name
        ).data.add_(1)
        assert [key for key, value in state_hashes(changed).items() if value != before[key]] == [name]
        assert network_fingerprint(changed) != fingerprint
    with pytest.raises(TrainingError, match="changed in training: weight"):
        assert_frozen(before, {name: value for name, value in before.items() if name != "weight"})


def test_a_mixture_of_experts_is_the_gates_mean_of_its_experts_and_all_of_it_learns() -> None:
    mixture = build("mixture:3/mlp:8x1/mlp:4x1")
    inputs = torch.randn(6, *MNIST)
    gate = torch.softmax(mixture.gate(inputs), 1)  # type: ignore[operator]
    experts = torch.stack([torch.softmax(expert(inputs), 1) for expert in mixture.experts], 1)  # type: ignore[union-attr]
    torch.testing.assert_close(mixture(inputs).exp(), (gate[:, :, None] * experts).sum(1))
    F.cross_entropy(mixture(inputs), torch.arange(6)).backward()
    assert all(bool(value.grad.any()) for name, value in mixture.named_parameters() if "weight" in name)


@pytest.mark.parametrize("name", ["mixture:2/mlp:8x1", "mixture:0/mlp:8x1/mlp:8x1", "mixture:mlp:8x1", "mixture:"])
def test_a_mixture_is_experts_an_expert_and_a_gate(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"should be mixture:EXPERTS/EXPERT/GATE, mixture:4/convnet:8/convnet:8x8 for"
    ):
        build(name)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embeddings_are_drawn_as_torch_draws_them_from_a_seed(kind: type[nn.Module]) -> None:
    one, same, other = (initialise_(kind(200, 50, padding_idx=3), "he-normal", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert not one.weight[3].any()
    assert abs(float(one.weight.detach().std()) - 1) < 0.03
