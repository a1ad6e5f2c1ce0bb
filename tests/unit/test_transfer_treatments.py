"""Treatments: what is copied, what is frozen, and that somebody who un-freezes it is found out."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import transfer_networks
from instar.errors import TrainingError, UsageError
from instar.networks import (
    assert_frozen,
    build_network,
    check_same_path,
    cut,
    freeze_,
    layers_of,
    name_layers_,
    prefix_state,
    state_hashes,
)
from instar.runs import Run
from instar.training import fit
from instar.transfer import Treatment, apply_treatment_, calibrate_statistics_, frozen_hashes, treatments_of
from small_fits import digits, normalised_network, perceptron, state_of

EXAMPLE = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
A3B = Treatment("A", "B", 3)


def network_of(name: str, seed: int) -> nn.Module:
    if name in ("mlp:9x3", "convnet:5", "resnet:8"):
        return build_network(name, input_shape=(1, 8, 8), num_classes=10, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = getattr(transfer_networks, name)(10)
        return network


def trained(name: str) -> nn.Module:
    """Weights and statistics that no new network has."""
    network = network_of(name, seed=1)
    fit(network, digits(), epochs=1)
    return network


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other)


# Names


def test_treatments_have_the_papers_names() -> None:
    made = treatments_of(["BnB", "AnB+", "RnB"], [1, 3])
    assert [one.name for one in made] == [
        *("B1B" if target == "B" else "A1A" for target in "AB"), *("A3A", "B3B"),
        *("B1A+", "A1B+", "B3A+", "A3B+"), *("R1A", "R1B", "R3A", "R3B"),
    ]  # fmt: skip
    assert [one.kind for one in made] == ["BnB"] * 4 + ["AnB+"] * 4 + ["RnB"] * 4
    with pytest.raises(UsageError, match="unknown treatment 'AnC'; did you mean"):
        treatments_of(["AnC"], [1])


@pytest.mark.parametrize("arguments", [("A", "B", 0), ("C", "B", 1), ("A", "C", 1)])
def test_a_treatment_that_cannot_be_is_refused(arguments: tuple[str, str, int]) -> None:
    with pytest.raises(UsageError, match="expected n of at least 1, and tasks A and B"):
        Treatment(*arguments)
    with pytest.raises(UsageError, match="random layers that are trained are the base"):
        Treatment(None, "B", 1, fine_tune=True)


# Copies


@pytest.mark.parametrize("name", ["mlp:9x3", "convnet:5", "resnet:8", "normalised", "positioned"])
@pytest.mark.parametrize("fine_tune", [False, True])
def test_the_first_layers_are_the_bases_and_the_rest_is_the_initialisers(name: str, fine_tune: bool) -> None:
    base, network = trained(name), network_of(name, seed=2)
    before = state_of(network)
    names = apply_treatment_(network, Treatment("A", "B", 2, fine_tune), base, example_input=EXAMPLE)
    after, given = network.state_dict(), base.state_dict()
    for key in after:
        source = given if key in names else before
        assert same(after[key], source[key]), key
    differing = [key for key in names if not same(before[key], given[key])]
    assert len(differing) >= 2
    assert all(value.requires_grad is (fine_tune or key not in names) for key, value in network.named_parameters())
    features = [cut(one.eval(), 2, EXAMPLE).prefix(EXAMPLE) for one in (network, base)]
    assert torch.allclose(*features, rtol=1e-5, atol=1e-6)  # a trained one computes in channels_last


def test_what_belongs_to_no_layer_is_copied_and_frozen_where_the_features_need_it() -> None:
    base, network = trained("positioned"), network_of("positioned", seed=2)
    assert [layer.name for layer in layers_of(network, EXAMPLE)] == ["blocks.0", "blocks.1", "head"]
    names = apply_treatment_(network, Treatment("A", "B", 1), base, example_input=EXAMPLE)
    assert names == ["positions", "blocks.0.weight", "blocks.0.bias"]
    assert same(network.positions, base.positions)
    assert not same(network.scale, base.scale)


def test_upper_layers_are_paired_by_seed() -> None:
    """B2B, A2B and R2B of a seed begin with the same upper layers."""
    bases: list[nn.Module | None] = [trained("mlp:9x3"), network_of("mlp:9x3", seed=8), None]
    begun = []
    for base, source in zip(bases, ("B", "A", None), strict=True):
        network = network_of("mlp:9x3", seed=2)
        apply_treatment_(network, Treatment(source, "B", 2), base)
        begun.append(network.state_dict())
    for key in (key for key in begun[0] if key.endswith("weight")):
        is_upper = key.startswith(("fc3", "fc4"))
        assert [same(begun[0][key], other[key]) for other in begun[1:]] == [is_upper, is_upper], key


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (
            "mlp:8x3",
            r"A3B: the base has another architecture: fc1\.1\.weight is \(8, 64\) there, expected \(9, 64\)",
        ),
        ("mlp:9x2", r"fc3\.0\.weight is \(10, 9\) there, expected \(9, 9\)"),
        ("convnet:5", r"fc1\.1\.weight is missing there"),
    ],
)
def test_a_base_of_another_architecture_is_refused_and_nothing_is_copied(base: str, words: str) -> None:
    network = network_of("mlp:9x3", seed=2)
    before = state_hashes(network)
    with pytest.raises(UsageError, match=words):
        apply_treatment_(network, A3B, build_network(base, input_shape=(1, 8, 8), num_classes=10, seed=0))
    assert state_hashes(network) == before
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("n", [4, 9])
def test_n_out_of_range_says_the_range_and_the_layers(n: int) -> None:
    network = network_of("mlp:9x3", seed=2)
    with pytest.raises(UsageError, match=rf"n is {n}, expected 1 to 3: .* 4 layers \(fc1, fc2, fc3, fc4\)"):
        apply_treatment_(network, Treatment("A", "B", n), trained("mlp:9x3"))


def test_a_base_goes_with_copied_layers_and_with_no_others() -> None:
    for treatment, base in ((A3B, None), (Treatment(None, "B", 3), trained("mlp:9x3"))):
        with pytest.raises(UsageError, match="copied layers need a base, and random layers take none"):
            apply_treatment_(network_of("mlp:9x3", seed=2), treatment, base)


# Frozen, and proven to be


def frozen_network(name: str, n: int = 2, **options: bool) -> tuple[nn.Module, dict[str, str]]:
    network = network_of(name, seed=2)
    names = apply_treatment_(network, Treatment("A", "B", n), trained(name), example_input=EXAMPLE, **options)
    return network, frozen_hashes(network, names)


@pytest.mark.parametrize("name", ["convnet:5", "resnet:8", "normalised", "positioned"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_frozen_prefix_is_the_same_to_the_bit_after_training(name: str, optimiser: str) -> None:
    network, before = frozen_network(name)
    rest = {key: value for key, value in state_of(network).items() if key not in before}
    options = {
        "optimiser": optimiser,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "ema_decay": 0.5,
        "max_norm": 0.5,
    }
    fit(network, digits(), epochs=2, **options)
    assert_frozen(before, frozen_hashes(network, before))
    learned = [key for key, value in rest.items() if not same(network.state_dict()[key], value)]
    assert set(learned) >= {key for key in rest if "weight" in key}


def switch_statistics_on(module: nn.Module, _: object) -> None:
    module.training = True


def test_somebody_who_unfreezes_a_batchnorm_is_found_out() -> None:
    """A hook after freezing lets its statistics move again; the fit itself has nothing against it."""
    network, before = frozen_network("normalised")
    norm = network.get_submodule("one.1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.register_forward_pre_hook(switch_statistics_on)
    result = fit(network, digits(), epochs=1)
    assert result.num_steps > 0
    with pytest.raises(TrainingError, match=r"frozen layers changed in training: one\.1\.running_mean"):
        assert_frozen(before, frozen_hashes(network, before))


def test_somebody_who_takes_away_what_keeps_the_mode_is_found_out() -> None:
    network, before = frozen_network("resnet:8")
    for module in network.modules():
        module.__dict__.pop("train", None)
    fit(network, digits(), epochs=1)
    with pytest.raises(TrainingError, match=r"changed in training: stem\.1\.running_mean, .* and 6 more"):
        assert_frozen(before, frozen_hashes(network, before))


def test_a_stage_that_normalises_by_hand_is_found_out() -> None:
    network, before = frozen_network("unfreezing")
    fit(network, digits(), epochs=1)
    with pytest.raises(TrainingError, match=r"one\.1\.norm\.running_mean"):
        assert_frozen(before, frozen_hashes(network, before))


@pytest.mark.parametrize("name", ["one.0.weight", "two.0.bias"])
def test_a_frozen_weight_that_would_learn_is_found_before_the_fit(name: str) -> None:
    network, before = frozen_network("normalised")
    network.get_parameter(name).requires_grad_(True)
    with pytest.raises(TrainingError, match=f"{name} is in a frozen layer and requires a gradient"):
        frozen_hashes(network, before)


def test_a_frozen_weight_that_was_changed_by_hand_is_found_out() -> None:
    network, before = frozen_network("normalised")
    with torch.no_grad():
        network.get_parameter("two.0.weight")[0, 0].nextafter_(torch.tensor(9.0))
    with pytest.raises(TrainingError, match=r"changed in training: two\.0\.weight$"):
        assert_frozen(before, frozen_hashes(network, before))


def test_the_optimiser_holds_the_rest_and_nothing_else(tmp_path: Path) -> None:
    network, before = frozen_network("normalised")
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        fit(network, digits(), epochs=1, weight_decay=0.1, run=run, checkpoint_seconds=0.0)
        checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    held = sorted(tuple(value.shape) for key, value in checkpoint[0].items() if key.startswith("optimiser."))
    assert held == sorted(tuple(value.shape) for key, value in network.named_parameters() if key not in before)


def test_the_weights_of_the_optimiser_are_those_without_freezing_too(tmp_path: Path) -> None:
    """The test above can fail: with nothing frozen the optimiser holds all."""
    network = network_of("normalised", seed=2)
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        fit(network, digits(), epochs=1, run=run, checkpoint_seconds=0.0)
        checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    held = [key for key in checkpoint[0] if key.startswith("optimiser.")]
    assert len(held) == len(list(network.parameters()))


# Dropout and normalisation


def test_dropout_in_frozen_layers_stays_on_or_goes_off_as_asked() -> None:
    base = normalised_network(1)
    fit(base, digits(), epochs=1)
    inputs = digits().gather(digits().ids, 0)
    for frozen_dropout in (True, False):
        network = normalised_network(2)
        apply_treatment_(network, Treatment("A", "B", 2), base, frozen_dropout=frozen_dropout)
        network.train()
        prefix = network[:2]
        assert same(prefix(inputs), prefix(inputs)) is not frozen_dropout
        assert network[2].training


def test_frozen_statistics_are_the_bases_or_measured_on_the_target() -> None:
    target = digits(150, start=900)
    base = trained("normalised")
    copied, measured = network_of("normalised", seed=2), network_of("normalised", seed=2)
    apply_treatment_(copied, Treatment("A", "B", 1), base)
    apply_treatment_(measured, Treatment("A", "B", 1), base, calibrate_on=target)
    norms = [network.get_submodule("one.1") for network in (base, copied, measured)]
    means = [norm.running_mean for norm in norms]
    assert same(means[0], means[1])
    assert not torch.allclose(means[0], means[2], rtol=0.01)
    assert [norm.momentum for norm in norms] == [0.1] * 3
    features = cut(measured, 1).prefix[0][:2].eval()(target.gather(target.ids, 0))
    assert torch.allclose(features.mean((0, 2, 3)), norms[2].bias, atol=1e-4)


def test_random_layers_are_calibrated_so_that_their_features_are_of_the_usual_size() -> None:
    """Without it a deep random network with BatchNorm passes on what its untrained statistics leave."""
    target = digits(256)
    network = network_of("resnet:8", seed=2)
    apply_treatment_(network, Treatment(None, "B", 3), None, calibrate_on=target)
    inputs = target.gather(target.ids, 0)
    normalised = cut(network.eval(), 1).prefix[0][:2](inputs)
    assert torch.allclose(normalised.mean((0, 2, 3)), torch.zeros(16), atol=1e-4)
    assert torch.allclose(normalised.std((0, 2, 3)), torch.ones(16), atol=1e-2)
    weights = network_of("resnet:8", seed=2)
    assert all(same(a, b) for a, b in zip(network.parameters(), weights.parameters(), strict=True))
    untouched = network.get_submodule("block3.residual.1")
    assert float(untouched.running_mean.abs().max()) == 0


def test_calibrating_what_has_no_normalisation_changes_nothing() -> None:
    network = perceptron()
    before = state_hashes(network)
    calibrate_statistics_(network, 3, digits())
    assert state_hashes(network) == before


# Layers that are named


def test_what_runs_between_named_layers_is_copied_and_frozen_with_the_later_one() -> None:
    network, base = network_of("wrapped", seed=2), trained("wrapped")
    with pytest.raises(UsageError, match=r"n is 1, expected 1 to 0: the last of the 1 layers \(model\)"):
        apply_treatment_(network, Treatment("A", "B", 1), base, example_input=EXAMPLE)
    for one in (network, base):
        name_layers_(one, ["model.6", "model.1", "model.4"])
    assert [layer.name for layer in layers_of(network, EXAMPLE)] == ["model.1", "model.4", "model.6"]
    names = apply_treatment_(network, Treatment("A", "B", 2), base, example_input=EXAMPLE)
    assert {name.rpartition(".")[0] for name in names} == {"model.1", "model.2", "model.4"}
    before = frozen_hashes(network, names)
    fit(network, digits(), epochs=1)
    assert_frozen(before, frozen_hashes(network, names))
    assert list(prefix_state(network_named("wrapped"), 1, example_input=EXAMPLE)) == [
        "model.1.weight",
        "model.1.bias",
    ]


def network_named(name: str) -> nn.Module:
    network = network_of(name, seed=0)
    name_layers_(network, ["model.1", "model.4", "model.6"])
    return copy.deepcopy(network)  # a copy keeps them


def test_freezing_a_part_of_a_container_leaves_the_rest_of_it_alone() -> None:
    network = network_named("wrapped")
    freeze_(network, 1, example_input=EXAMPLE, dropout=False)
    network.train()
    network(EXAMPLE)
    assert network.get_submodule("model.2").training
    assert not network.get_submodule("model.1").training


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.1", "model.44"], "unknown layer of Wrapped 'model.44'; did you mean model.4"),
        (["model.1", "model"], "'model.1' is inside 'model'; name one of them"),
        (["model.1"], "at least two different modules, found model.1"),
        (["model.1", "model.1"], "at least two different modules"),
        ([], "found none"),
    ],
)
def test_names_that_are_no_layers_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        name_layers_(network_of("wrapped", seed=0), names)


def test_a_named_layer_that_is_never_called_and_a_network_that_calls_nothing_are_refused() -> None:
    network = network_of("branching", seed=0)
    name_layers_(network, ["bright", "head"])
    with pytest.raises(UsageError, match="layer 'bright' of Branching was not called"):
        layers_of(network, torch.zeros(2, 1, 8, 8))
    with pytest.raises(UsageError, match="Functional has no stages: its forward pass calls none of its 1 modules"):
        layers_of(network_of("functional", seed=0), EXAMPLE)


def test_a_path_that_depends_on_the_data_is_refused() -> None:
    pictures = torch.tensor([0.1, 0.2, 0.9]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    words = (
        "path through Branching depends on the data: example 0 passes dark, head, example 2 passes bright, head"
    )
    with pytest.raises(UsageError, match=words):
        check_same_path(network_of("branching", seed=0), pictures)
    check_same_path(network_of("branching", seed=0), pictures[:2])
    check_same_path(network_of("positioned", seed=0), pictures)
