"""Networks as people write them: they work, with the numbers of a plain network, or are refused in one line."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import instar
from instar.data import InMemoryDataset, load_data
from instar.deploy import cost_of, multiplications_at
from instar.errors import TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.guards import try_fit, try_forward
from instar.networks import (
    as_logits,
    build_network,
    channels_last_,
    cut,
    initialise_,
    input_type,
    name_logits_,
    network_fingerprint,
    prefix_state,
)
from instar.runs import Run
from instar.training import fit
from instar.transfer import Treatment, apply_treatment_
from small_fits import digits, normalised_network, perceptron, same_bits, state_of

TRAIN, VALIDATION = digits(128), digits(100, start=200)
FEW = TRAIN.gather(TRAIN.ids[:4], 0)


def metrics_of(network: nn.Module, data: InMemoryDataset = TRAIN, **options: Any) -> list[dict[str, Any]]:
    """What a fit of it measures."""
    return fit(network, data, **{"epochs": 2, "batch_size": 64, "validation": VALIDATION, **options}).metrics


def close(one: list[dict[str, Any]], other: list[dict[str, Any]], rel: float = 1e-3) -> bool:
    names = ("train_loss", "validation_nll")
    return all(
        a[name] == pytest.approx(b[name], rel=rel) for a, b in zip(one, other, strict=True) for name in names
    )


# Memory layouts


class LeNet(nn.Module):
    """As in most tutorials: `view` after a convolution."""

    def __init__(self, flat: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 16, 3), nn.Linear(256, 10)
        self.flat = flat

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fc(self.flat(F.relu(self.conv2(F.relu(self.conv1(inputs))))))


def viewed(values: Tensor) -> Tensor:
    return values.view(len(values), -1)


def strided(values: Tensor) -> Tensor:
    """Reads the memory as it lies: in another layout it gives other numbers, and no error."""
    return torch.as_strided(values, (len(values), 256), (256, 1), values.storage_offset())


@pytest.mark.parametrize("flat", [viewed, strided])
def test_a_network_that_does_not_bear_another_layout_keeps_its_own(flat: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    plain = LeNet(lambda values: values.flatten(1))
    own = LeNet(flat)
    own.load_state_dict(plain.state_dict())
    expected = plain(FEW)
    channels_last_(plain, FEW)
    assert plain.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(predict_logits(own, TRAIN.subset(TRAIN.ids[:4])), expected, atol=1e-6)
    assert close(metrics_of(own), metrics_of(plain))
    assert own.conv2.weight.is_contiguous()
    store = {"one": own, "other": plain}
    for network in store.values():
        evaluated = predict_logits(network, VALIDATION)
    assert torch.allclose(evaluated, predict_logits(own, VALIDATION), atol=1e-3)


def test_trying_a_layout_leaves_no_trace() -> None:
    network = normalised_network().train()
    before, random_state = state_of(network), torch.get_rng_state()
    seen = FEW.clone()
    channels_last_(network, FEW)
    assert same_bits(before, network.state_dict())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(FEW, seen)
    assert all(module.training for module in network.modules())


# Outputs


class Output(NamedTuple):
    logits: Tensor
    auxiliary: Tensor


class Headed(nn.Module):
    """A perceptron that gives its logits in some form."""

    def __init__(self, form: Callable[[Tensor], Any], layers: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.form = layers or perceptron(), form

    def forward(self, inputs: Tensor) -> Any:
        return self.form(self.layers(inputs))


FORMS: dict[str, tuple[Callable[[Tensor], Any], str | int | None]] = {
    "a dict with logits": (lambda z: {"features": z.exp(), "logits": z}, None),
    "a named tuple": (lambda z: Output(z, z.exp()), None),
    "an object": (lambda z: SimpleNamespace(logits=z), None),
    "a tuple of one": (lambda z: (z,), None),
    "a key that is named": (lambda z: {"aux": z.exp(), "out": z}, "out"),
    "a place that is named": (lambda z: (z.exp(), z), 1),
    "a place from the end": (lambda z: [z.exp(), z], -1),
}


@pytest.mark.parametrize("name", FORMS)
def test_logits_are_found_in_what_a_network_gives(name: str, tmp_path: Path) -> None:
    form, key = FORMS[name]
    headed, plain = Headed(form), perceptron()
    if key is not None:
        name_logits_(headed, key)
    headed = copy.deepcopy(headed)
    assert torch.equal(predict_logits(headed, TRAIN), predict_logits(plain, TRAIN))
    assert instar.evaluate(headed, VALIDATION) == instar.evaluate(plain, VALIDATION)
    pupils = [instar.distill(teacher, perceptron(1), TRAIN, epochs=1).metrics for teacher in (headed, plain)]
    assert pupils[0] == pupils[1]
    stores = [
        instar.SoftTargetStore.write(tmp_path / str(number), {"one": teacher}, TRAIN)
        for number, teacher in enumerate((headed, plain))
    ]
    found = [store.soft_targets(TRAIN.ids, 0, 2.0).probs for store in stores]
    assert torch.equal(found[0], found[1])
    parts = cut(headed, 1, FEW)
    assert torch.equal(parts.rest(parts.prefix(FEW)), plain(FEW))
    assert metrics_of(headed) == metrics_of(plain)


def test_a_rest_after_a_cut_gives_the_logits_that_were_named() -> None:
    class Two(nn.Linear):
        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return inputs, super().forward(inputs)

    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Two(8, 10))
    name_logits_(network, 1)
    parts = cut(network, 2)
    assert torch.equal(as_logits(parts.rest(parts.prefix(FEW)), parts.rest), network(FEW)[1])


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a tuple": (lambda z: (z, z), r"Headed gives a tuple of \(4, 10\), \(4, 10\), of which none is called logits"),
    "a dict": (
        lambda z: {"out": z, "aux": z},
        r"a dict of 'out' \(4, 10\), 'aux' .*name_logits_\(network, 'out'\)",
    ),
    "no logits": (lambda z: SimpleNamespace(logits=None), "gives SimpleNamespace, .* return the logits alone"),
    "nothing": (lambda z: None, "gives NoneType"),
    "places": (
        lambda z: z[..., None, None],
        r"\(4, 10, 1, 1\) .* expected logits \(4, \w+\): end it with nn.Flatten",
    ),
    "a map": (
        lambda z: z[..., None, None].expand(-1, -1, 2, 2),
        r"logits at every place; .*flatten\(2\).mean\(2\)",
    ),
    "one number": (lambda z: z[:, 0], "one number for each example is no logits"),
    "a column": (lambda z: z[:, :1], "one number for each example is no logits"),
    "a sequence": (
        lambda z: z[:, None].expand(-1, 7, -1),
        r"each of 7 positions .*output\[:, -1\].*output.mean\(1\)",
    ),
    "the batch second": (lambda z: z.expand(7, *z.shape), "batch_first=True"),
    "other classes": (lambda z: z[:, :9], r"\(4, 9\) for 4 examples of 10 classes, expected logits \(4, 10\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_row_of_logits_is_refused_with_its_cure(name: str, tmp_path: Path) -> None:
    form, words = REFUSED[name]
    network = Headed(form)
    for what, call in (
        ("the network", lambda: instar.train(network, TRAIN, epochs=1, run_dir=tmp_path / "run")),
        ("the student", lambda: instar.distill(perceptron(), network, TRAIN, epochs=1, run_dir=tmp_path / "run")),
        ("", lambda: instar.evaluate(network, TRAIN.subset(TRAIN.ids[:4]))),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            call()
        assert str(caught.value).startswith(what)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_named_part_that_is_not_there_is_refused_by_name() -> None:
    network = Headed(lambda z: {"out": z})
    name_logits_(network, "logit")
    with pytest.raises(UsageError, match="with no logits at 'logit'"):
        predict_logits(network, TRAIN)


# A last batch of one


def test_a_last_example_joins_the_batch_before_it_where_a_network_normalises() -> None:
    data = digits(129)
    joined = fit(normalised_network(), data, epochs=1, batch_size=128)
    assert same_bits(
        joined.network.state_dict(), fit(normalised_network(), data, epochs=1, batch_size=129).network.state_dict()
    )
    assert joined.num_steps == 1
    assert fit(perceptron(), data, epochs=1, batch_size=128).num_steps == 2  # others keep it


@pytest.mark.parametrize(("num", "batch_size"), [(1, 64), (10, 1)])
def test_batches_of_one_are_refused_where_a_network_normalises(num: int, batch_size: int) -> None:
    with pytest.raises(UsageError, match="normalises over the batch, for which each process needs two"):
        fit(normalised_network(), digits(num), epochs=1, batch_size=batch_size)


def test_one_example_whose_batch_was_squeezed_away_counts() -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = perceptron()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layers(inputs).squeeze()

    data = digits(129)
    assert torch.equal(predict_logits(Squeezing(), data), predict_logits(perceptron(), data))
    assert metrics_of(Squeezing(), data, batch_size=128) == metrics_of(perceptron(), data, batch_size=128)


# Number types


def test_a_network_in_float64_learns_as_one_in_float32() -> None:
    network = normalised_network().double()
    assert close(metrics_of(network), metrics_of(normalised_network()), rel=1e-4)
    assert all(value.dtype == torch.float64 for value in network.parameters())
    assert predict_logits(network, TRAIN).dtype == torch.float32


class WithScale(nn.Module):
    """A network with a scale in float64 before its first layer, cast in the forward pass."""

    def __init__(self, shape: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape, dtype=torch.float64))
        self.network = perceptron(1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs) * self.scale.to(inputs.dtype)


@pytest.mark.parametrize("shape", [(), (1,), (10,), (1, 10)])
def test_a_scale_in_another_type_does_not_decide_that_of_the_inputs(shape: tuple[int, ...]) -> None:
    network = WithScale(shape)
    assert close(metrics_of(network), metrics_of(perceptron(1)), rel=0.2)
    assert input_type(network) == torch.float32
    network.network.half()
    assert input_type(network) == torch.float16
    assert predict_logits(network, TRAIN).isfinite().all()
    assert input_type(network.double()) == torch.float64
    head = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3).half())
    assert input_type(head) == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_teacher_in_another_type_teaches_the_same(dtype: torch.dtype) -> None:
    teacher = perceptron(1)
    expected = instar.distill(teacher, perceptron(), TRAIN, epochs=1).metrics[-1]["train_loss"]
    views = TRAIN.with_views(instar.parse_views("jitter:1"), view_seed=0)  # asked at each step
    in_views = instar.distill(teacher, perceptron(), views, epochs=1).metrics[-1]["train_loss"]
    other = perceptron(1).to(dtype)
    assert instar.distill(other, perceptron(), TRAIN, epochs=1).metrics[-1]["train_loss"] == pytest.approx(
        expected, rel=1e-3
    )
    assert instar.distill(other, perceptron(), views, epochs=1).metrics[-1]["train_loss"] == pytest.approx(
        in_views, rel=1e-3
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_student_in_half_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(
        UsageError, match=r"1.weight is torch.\w+, in which most steps are rounded away.*float\(\)"
    ):
        instar.train(perceptron().to(dtype), TRAIN, epochs=1)


def test_layers_are_copied_and_counted_in_float64() -> None:
    base, network = perceptron(1).double(), perceptron(2).double()
    names = apply_treatment_(network, Treatment("A", "B", 2), base, example_input=FEW)
    assert torch.equal(network[1].weight, base[1].weight)
    assert names == ["1.weight", "1.bias"]
    assert multiplications_at(network, list(network), (1, 8, 8))[-1] == 64 * 12 + 12 * 10
    assert cost_of(network, (1, 8, 8), repeats=1).bytes == 8 * (64 * 12 + 12 + 12 * 10 + 10)


# Lazy modules, extra state, tied weights


def lazy() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(12), nn.ReLU(), nn.LazyLinear(10))


def test_lazy_modules_get_their_weights_from_one_batch() -> None:
    torch.manual_seed(5)
    called = lazy()
    called(FEW)
    torch.manual_seed(5)
    found = instar.train(lazy(), TRAIN, epochs=1)
    assert same_bits(found.network.state_dict(), instar.train(called, TRAIN, epochs=1).network.state_dict())


def test_lazy_networks_of_a_function_depend_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    built = [
        build_network("python:test_modules:lazy", input_shape=(1, 8, 8), num_classes=10, seed=seed).state_dict()
        for seed in (3, 3, 4)
    ]
    assert same_bits(built[0], built[1])
    assert not same_bits(built[0], built[2])


def test_a_lazy_network_without_weights_has_no_fingerprint() -> None:
    with pytest.raises(UsageError, match="Sequential has lazy modules without weights: run it on a batch first"):
        network_fingerprint(lazy())


class Scaled(nn.Linear):
    """Keeps a number beside its weights."""

    def __init__(self, scale: Any) -> None:
        super().__init__(12, 10)
        self.scale = scale

    def get_extra_state(self) -> Any:
        return {"scale": self.scale}

    def set_extra_state(self, state: Any) -> None:
        self.scale = state["scale"]

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and isinstance(self.scale, float):
            self.scale += 1.0
        return super().forward(inputs)


def with_extra_state(scale: Any = 0.0) -> nn.Sequential:
    network = perceptron()
    network[4] = Scaled(scale)
    torch.nn.init.constant_(network[4].weight, 0.1)
    torch.nn.init.zeros_(network[4].bias)
    return network


def test_extra_state_is_written_and_read(tmp_path: Path) -> None:
    first = instar.train(with_extra_state(), TRAIN, epochs=2, batch_size=64, run_dir=tmp_path / "run")
    scale = first.network[4].scale
    assert scale >= 4.0  # counts the steps
    again = with_extra_state()
    instar.train(again, TRAIN, epochs=2, batch_size=64, run_dir=tmp_path / "run")
    assert again[4].scale == scale
    assert network_fingerprint(again) != network_fingerprint(with_extra_state())
    state, _ = Run.read(tmp_path / "run").load_weights()
    assert state["4._extra_state"] == {"scale": scale}


def test_early_stop_goes_back_to_the_extra_state_of_its_epoch(tmp_path: Path) -> None:
    network = with_extra_state()
    found = fit(network, TRAIN, epochs=6, batch_size=64, validation=VALIDATION, patience=1, learning_rate=3.0)
    assert found.best_epoch is not None
    assert found.num_steps == 2 * len(found.metrics) > 2 * found.best_epoch
    assert network[4].scale == 2 * found.best_epoch


def test_extra_state_that_needs_pickle_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"4._extra_state is dict, expected a tensor, or numbers, .*no pickle"):
        instar.train(with_extra_state(b"bytes"), TRAIN, epochs=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    instar.train(with_extra_state(b"bytes"), TRAIN, epochs=1)  # nothing is written


def test_tied_weights_stay_tied_in_training_and_in_files(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
            self.head = nn.Linear(64, 10)
            self.last.weight = self.first.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.last(F.relu(self.first(inputs.flatten(1)))))

    network = Tied()
    again = copy.deepcopy(network)
    for one in (network, again):  # the second time it is read
        instar.train(one, TRAIN, epochs=1, run_dir=tmp_path / "run")
    assert network.last.weight is network.first.weight
    assert same_bits(again.state_dict(), network.state_dict())


class Wrapped(nn.Module):
    """A module that is no chain, gives a dict, and keeps extra state."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 12), nn.Linear(12, classes)

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 3}

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": self.second(F.relu(self.first(inputs.flatten(1))))}


def wrapped(num_classes: int) -> nn.Module:
    return Wrapped(num_classes)


def test_specialists_that_are_modules_of_a_user_are_saved_with_what_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    generalist, specialist = wrapped(10), wrapped(4)
    specialist.first.load_state_dict(generalist.first.state_dict())
    ensemble = instar.SpecialistEnsemble(
        generalist,
        [specialist],
        [instar.ClassSet([1, 4, 7], 10)],
        class_names=TRAIN.class_names,
        example_inputs=FEW,
        architecture={"name": "python:test_modules:wrapped", "input_shape": [1, 8, 8]},
    )
    assert ensemble.num_shared == 1
    ensemble.save(tmp_path)
    assert (tmp_path / "ensemble.safetensors").stat().st_size < 2 * 4 * 64 * 12  # the first layer is there once
    loaded = instar.SpecialistEnsemble.load(tmp_path)
    assert torch.equal(loaded.predict(TRAIN).probs, ensemble.predict(TRAIN).probs)


# Compiled, exported, scripted


def compiled(network: nn.Module, how: str) -> nn.Module:
    torch._dynamo.reset()
    if how == "in place":
        network.compile(backend="eager")
        return network
    return torch.compile(network, backend="eager")


@pytest.mark.parametrize("how", ["wrapped", "in place"])
@pytest.mark.parametrize("called", [False, True])
def test_a_compiled_network_is_frozen_trained_and_saved_as_the_module_it_is(
    how: str, called: bool, tmp_path: Path
) -> None:
    plain, network = normalised_network(), compiled(normalised_network(), how)
    if called:  # torch compiles at the first call
        random_state = torch.get_rng_state()
        for one in (plain, network):
            torch.set_rng_state(random_state)
            one(FEW)
    fresh = copy.deepcopy(plain)
    for one in (plain, network, fresh):
        instar.freeze_(one, 1, example_input=FEW)
    before = instar.state_hashes(network)
    frozen = prefix_state(network, 1, example_input=FEW)
    assert len(frozen) == 6
    found = instar.train(network, TRAIN, epochs=2, validation=VALIDATION, run_dir=tmp_path / "run")
    expected = instar.train(plain, TRAIN, epochs=2, validation=VALIDATION)
    assert found.network is network
    assert close(found.metrics, expected.metrics)
    after = instar.state_hashes(network)
    assert [name for name in frozen if after[name] != before[name]] == []
    assert after["2.1.weight"] != before["2.1.weight"]
    assert set(Run.read(tmp_path / "run").load_weights()[0]) == set(plain.state_dict())
    instar.train(fresh, TRAIN, epochs=2, validation=VALIDATION, run_dir=tmp_path / "run")  # reads what is there
    assert network_fingerprint(fresh) == network_fingerprint(network)


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_the_layers_of_a_compiled_module_are_those_of_the_module(how: str) -> None:
    plain = LeNet(viewed)
    network = compiled(copy.deepcopy(plain), how)
    network(FEW)
    assert [layer.name for layer in instar.layers_of(network, FEW)] == ["conv1", "conv2", "fc"]
    parts = cut(network, 2, FEW)
    assert torch.allclose(parts.rest(parts.prefix(FEW)), plain(FEW), atol=1e-6)
    stages = [layer.module for layer in instar.layers_of(network, FEW)]
    assert multiplications_at(network, stages, (1, 8, 8)) == [6 * 9 * 36, 6 * 9 * 36 + 96 * 9 * 16, 18328]


def exported(network: nn.Module) -> nn.Module:
    batch = torch.export.Dim("batch", min=2)
    return torch.export.export(network, (FEW,), dynamic_shapes=({0: batch},)).module()


def test_an_exported_network_teaches_and_is_not_trained() -> None:
    network = exported(normalised_network().eval())
    expected = [predict_logits(normalised_network(), TRAIN), instar.evaluate(normalised_network(), VALIDATION)]
    assert torch.allclose(predict_logits(network, TRAIN), expected[0], atol=1e-5)
    assert instar.evaluate(network, VALIDATION) == pytest.approx(expected[1], rel=1e-4)
    pupils = [
        instar.distill(teacher, perceptron(), TRAIN, epochs=1).metrics
        for teacher in (exported(normalised_network().eval()), normalised_network())
    ]
    assert close(
        [{**one, "validation_nll": 0} for one in pupils[0]], [{**one, "validation_nll": 0} for one in pupils[1]]
    )
    with pytest.raises(
        UsageError, match=r"was exported .* keeps the mode .*: train the module that it was exported"
    ):
        instar.train(network, TRAIN, epochs=1)


def test_a_network_that_was_exported_in_training_mode_is_refused() -> None:
    network = exported(normalised_network().train())
    for call in (
        lambda: predict_logits(network, TRAIN),
        lambda: instar.distill(network, perceptron(), TRAIN, epochs=1),
    ):
        with pytest.raises(UsageError, match=r"exported in training mode \(aten.\w+.default\): call eval"):
            call()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_network_learns_as_the_module_it_is() -> None:
    scripted = torch.jit.script(normalised_network())
    assert close(metrics_of(scripted), metrics_of(normalised_network()))
    with pytest.raises(UsageError, match="max_norm: RecursiveScriptModule shows no linear or convolutional layer"):
        metrics_of(torch.jit.script(perceptron()), max_norm=1.0)
    with pytest.raises(UsageError, match="has no stages"):
        instar.freeze_(scripted, 1, example_input=FEW)


# Weights that are computed from others

NORMS: dict[str, Callable[..., nn.Module]] = {
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "weight norm": nn.utils.parametrizations.weight_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "old spectral norm": nn.utils.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*eacher.* is right on:instar.errors.DataWarning"
    ),  # none of them is trained
]


def normed(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    norm = NORMS[name]
    return nn.Sequential(nn.Flatten(), norm(nn.Linear(64, 12)), nn.ReLU(), norm(nn.Linear(12, 10)))


@pytest.mark.parametrize("name", NORMS)
def test_a_frozen_layer_keeps_every_bit_of_what_its_weight_is_computed_from(name: str, tmp_path: Path) -> None:
    network = normed(name)
    network(FEW)
    instar.freeze_(network, 2)
    before, weight = instar.state_hashes(network), network.eval()[1].weight.clone()
    instar.train(network, TRAIN, epochs=2, batch_size=32, run_dir=tmp_path / "run")
    after = instar.state_hashes(network)
    assert [key for key in before if after[key] != before[key] and key.startswith("1.")] == []
    assert [key for key in before if after[key] != before[key] and key.startswith("3.")] != []
    assert torch.equal(network.eval()(FEW) is not None and network[1].weight, weight)
    again = normed(name)
    again(FEW)
    instar.freeze_(again, 2)
    instar.train(again, TRAIN, epochs=2, batch_size=32, run_dir=tmp_path / "run")
    assert torch.equal(again(FEW), network(FEW))


@pytest.mark.parametrize("name", NORMS)
def test_what_cannot_be_done_with_a_computed_weight_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"max_norm: 1.weight is computed from other parameters"):
        metrics_of(normed(name), max_norm=1.0)
    network = normed(name)
    if name.startswith("old"):
        with pytest.raises(UsageError, match=r"computed .* by a hook, and cannot be initialised"):
            initialise_(network, "he-normal", seed=1)
        return
    before = network[1].weight.clone()
    initialise_(network, "he-normal", seed=1)
    assert not torch.allclose(network[1].weight, before)
    plain = initialise_(nn.Linear(64, 12), "he-normal", seed=1)
    if name == "weight norm":
        assert torch.allclose(network[1].weight, plain.weight, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_the_cost_of_a_computed_weight_is_known(name: str) -> None:
    network = normed(name)
    network(FEW).sum().backward()
    cost = cost_of(network, (1, 8, 8), repeats=1)
    assert cost.parameters == sum(value.numel() for value in network.parameters())
    assert json.dumps(cost.latency_ms)


# One batch, before anything is trained


def test_a_trial_changes_nothing() -> None:
    network = normed("spectral norm")
    network.append(nn.BatchNorm1d(10))
    before, random_state = state_of(network.train()), torch.get_rng_state()
    try_fit(network, "it", FEW, 10, temperature=4.0)
    try_forward(network, "it", FEW, 10)
    assert same_bits(before, network.state_dict())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in network.modules())


class FailsBackward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron()

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.layers(inputs).exp()
        return logits.add_(1)  # the backward pass of exp needs what it gave


def infinite() -> nn.Module:
    network = perceptron()
    network[4].bias.data[0] = torch.inf
    return network


TRIALS: dict[str, tuple[nn.Module, type[Exception], str]] = {
    "another shape": (
        nn.Linear(99, 10),
        UsageError,
        r"it cannot take the examples of digits, \(1, 8, 8\): mat1 and",
    ),
    "no backward pass": (
        FailsBackward(),
        UsageError,
        "it cannot take the examples of digits, .*inplace operation",
    ),
    "other classes": (perceptron(classes=7), UsageError, r"it: .*expected logits \(4, 10\)"),
    "no gradient": (Headed(lambda z: z.detach()), TrainingError, "it: the network gets no gradient"),
    "not finite": (infinite(), TrainingError, "it: the loss of the first step is nan"),
    "nothing to train": (perceptron().requires_grad_(False), UsageError, "it: .*nothing to fit"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_network_that_cannot_learn_is_refused_in_one_line(name: str) -> None:
    network, kind, words = TRIALS[name]
    with pytest.raises(kind, match=words) as caught:
        try_fit(network, "it", FEW, 10, data_name="digits")
    assert "\n" not in str(caught.value)


def test_a_student_is_tried_before_its_teacher_runs(tmp_path: Path) -> None:
    def never(ids: Tensor, views: Tensor | int) -> Any:
        raise AssertionError

    with pytest.raises(UsageError, match="the student cannot take the examples of the data"):
        instar.distill(never, nn.Linear(99, 10), TRAIN, epochs=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_digits_are_learned_by_a_network_of_each_kind() -> None:
    """What all this is for: the same errors as a plain network, from the same first weights."""
    splits = load_data("digits")
    data = splits.train.subset(splits.train.ids[:512])

    def errors(network: nn.Module) -> float:
        instar.train(network, data, epochs=3)
        return instar.evaluate(network, splits.validation)["errors"]

    expected = errors(normalised_network())
    for other in (
        normalised_network().double(),
        Headed(lambda z: {"logits": z}, normalised_network()),
        compiled(normalised_network(), "wrapped"),
    ):
        assert abs(errors(other) - expected) <= 3
