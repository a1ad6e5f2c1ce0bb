"""Normalisation of inputs: of the data for all networks, and of a network for itself."""

from pathlib import Path

import pytest
import torch
from torch import nn

from data_files import random_images, write_image_folder
from instar.data import InMemoryDataset, Splits, load_data, unlabelled_pictures
from instar.errors import UsageError
from instar.networks import build_network, change_normalisation_, cut, layers_of, serve_own_needs_


def splits_of(channels: int = 3, size: int = 4) -> Splits:
    parts = [
        InMemoryDataset(
            random_images(10, channels, size, size, seed=seed), torch.arange(10) % 2, class_names=["a", "b"]
        )
        for seed in range(3)
    ]
    return Splits(*parts)


def pixels(splits: Splits) -> torch.Tensor:
    return splits.train.gather(splits.train.ids, 0)


def test_numbers_are_subtracted_and_divided_by_in_all_parts() -> None:
    plain = splits_of()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor(0.25)
    found = plain.normalised("0.4,0.5,0.6/0.25")
    for part in ("train", "validation", "test"):
        before, after = getattr(plain, part), getattr(found, part)
        assert torch.equal(after.gather(after.ids, 0), (before.gather(before.ids, 0) - mean) / std)
    assert torch.equal(pixels(found.normalised("none")), pixels(plain))
    imagenet = plain.normalised("imagenet").train.normalisation[1:]
    assert imagenet == (pytest.approx([0.485, 0.456, 0.406]), pytest.approx([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("budget", [2**30, 10], ids=["in memory", "streaming"])
def test_data_are_normalised_by_their_training_part(tmp_path: Path, budget: int) -> None:
    write_image_folder(tmp_path / "data", per_class=12)
    plain = load_data(f"folder:{tmp_path / 'data'}", memory_budget_bytes=budget)
    found = plain.normalised("data")
    values = pixels(plain).double().transpose(0, 1).flatten(1)
    _, mean, std = found.train.normalisation
    assert mean == pytest.approx(values.mean(1).tolist(), abs=2e-6)
    assert std == pytest.approx(values.std(1, correction=0).tolist(), abs=2e-6)
    assert found.validation.normalisation == found.test.normalisation == found.train.normalisation
    pictures = unlabelled_pictures(tmp_path / "data" / "cat", found.train)
    assert pictures.normalisation == found.train.normalisation


def test_features_that_are_no_pictures_and_a_constant_one_are_normalised() -> None:
    inputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 0.0]) + 4
    part = InMemoryDataset(inputs, torch.arange(50) % 2, class_names=["a", "b"])
    found = pixels(Splits(part, part, part).normalised("data"))
    assert torch.allclose(found.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(found.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)


@pytest.mark.parametrize(
    "text", ["", "imagnet", "0.5", "0.5/0", "0.5/-1", "0.5/nan", "inf/1", "a/b", "0.5/0.5/0.5", "0.1,0.2/0.5"]
)
def test_what_is_no_normalisation_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="normalise"):
        splits_of().normalised(text)


def test_colour_numbers_for_grey_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match="3 numbers, expected one, or one for each of 1 channels; --colour rgb"):
        splits_of(1).normalised("imagenet")


def stating(num_classes: int) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, num_classes))
    network.input_normalisation = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
    return network


@pytest.mark.parametrize("how", ["none", "imagenet", "0.3/0.1", "0.4,0.5,0.6/0.2,0.25,0.5"])
def test_a_network_that_states_a_normalisation_is_given_it_whatever_the_data_have(how: str) -> None:
    plain = splits_of()
    wanted = plain.normalised("0.4,0.5,0.6/0.2,0.25,0.5")
    given = plain.normalised(how)
    _, mean, std = given.train.normalisation
    about = {key: value for key, value in (("mean", mean), ("std", std)) if value is not None}
    options = {"input_shape": (3, 4, 4), "num_classes": 2, "seed": 0}
    network = build_network(f"python:{__name__}:stating", **options, normalisation=about)
    bare = stating(2)
    bare.load_state_dict(network.state_dict())  # the state has no further names
    with torch.no_grad():
        assert torch.allclose(network(pixels(given)), bare(pixels(wanted)), atol=1e-5)
    if how == "none":
        with torch.no_grad():
            assert torch.equal(network(pixels(given)), bare(pixels(wanted)))


def test_the_statement_is_no_layer_and_holds_on_both_sides_of_every_cut() -> None:
    network = build_network(f"python:{__name__}:stating", input_shape=(3, 4, 4), num_classes=2, seed=0)
    example = pixels(splits_of())
    names = [layer.name for layer in layers_of(network, example)]
    assert names == ["0", "1", "2", "3"]
    with torch.no_grad():
        for n in range(len(names) + 1):
            parts = cut(network, n, example)
            assert parts.cacheable
            assert torch.equal(parts.rest(parts.prefix(example)), network(example))


def test_a_size_that_a_network_states_is_given_it() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    network.input_size = 8
    serve_own_needs_(network)
    assert network(torch.rand(5, 3, 4, 4)).shape == network(torch.rand(5, 3, 8, 8)).shape == (5, 2)


def test_one_normalisation_is_changed_into_another() -> None:
    inputs = torch.rand(4, 1, 2, 2)
    network = nn.Sequential(nn.Identity())
    change_normalisation_(network, {"mean": [0.5], "std": [0.1]}, {"mean": [0.2], "std": [0.4]})
    assert torch.allclose(network((inputs - 0.5) / 0.1), (inputs - 0.2) / 0.4, atol=1e-5)
    features = torch.rand(5, 2)
    network = nn.Sequential(nn.Identity())
    change_normalisation_(network, {}, {"mean": [0.5, 0.2], "std": [0.1, 2.0]})
    expected = (features - torch.tensor([0.5, 0.2])) / torch.tensor([0.1, 2.0])
    assert torch.allclose(network(features), expected, atol=1e-5)
    same = nn.Sequential(nn.Identity())
    change_normalisation_(same, {"mean": [0.5], "std": [0.1]}, {"mean": [0.5], "std": [0.1]})
    assert not same._forward_pre_hooks


@pytest.mark.parametrize("stated", [0.5, (0.5, 0.0), ("a", "b"), (0.5,)])
def test_a_statement_that_is_no_normalisation_is_refused(stated: object) -> None:
    network = nn.Sequential(nn.Flatten())
    network.input_normalisation = stated
    with pytest.raises(UsageError, match="input_normalisation of Sequential"):
        serve_own_needs_(network)


def colour_network(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def test_grey_pictures_for_a_colour_network_are_refused_with_the_option_that_mends_it() -> None:
    name = f"python:{__name__}:colour_network"
    with pytest.raises(UsageError, match="those of the data are grey: read them with --colour rgb"):
        build_network(name, input_shape=(1, 8, 8), num_classes=2, seed=0)
    assert build_network(name, input_shape=(3, 8, 8), num_classes=2, seed=0)(torch.rand(2, 3, 8, 8)).shape == (
        2,
        2,
    )
