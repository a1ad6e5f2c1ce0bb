"""The first paper's network: its layers, its weights, how it begins, how it is trained, and one small transfer."""

from pathlib import Path

import pytest
import torch
from torch import nn

from command_line import Command
from data_files import image_bytes, random_images
from instar.errors import UsageError
from instar.networks import build_network, initialise_, layers_of
from instar.recipes.transfer.settings import read_config
from instar.runs import Run

SMALL = (3, 67, 67)  # the smallest pictures that it can see

# weights and biases, PAPERS A3: groups of 2 halve the inputs of conv2, conv4 and conv5
WEIGHTS = {
    "conv1": 96 * 3 * 11 * 11 + 96,
    "conv2": 256 * 48 * 5 * 5 + 256,
    "conv3": 384 * 256 * 3 * 3 + 384,
    "conv4": 384 * 192 * 3 * 3 + 384,
    "conv5": 256 * 192 * 3 * 3 + 256,
    "fc6": 256 * 6 * 6 * 4096 + 4096,
    "fc7": 4096 * 4096 + 4096,
    "fc8": 4096 * 1000 + 1000,
}


@pytest.fixture(scope="module")
def small() -> nn.Module:
    options = {"dropout": 0.5, "initialiser": "caffenet"}
    return build_network("caffenet", input_shape=SMALL, num_classes=5, seed=0, **options)


def test_the_whole_network_has_the_papers_weights_and_shapes() -> None:
    with torch.device("meta"):  # shapes without values
        network = build_network("caffenet", input_shape=(3, 227, 227), num_classes=1000, seed=0)
        shapes, values = [], torch.zeros(1, 3, 227, 227)
        for layer in layers_of(network):
            values = layer.module(values)
            shapes.append(tuple(values.shape[1:]))
    assert {layer.name: layer.num_parameters for layer in layers_of(network)} == WEIGHTS
    assert sum(WEIGHTS.values()) == 60_965_224
    assert shapes == [
        (96, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 6, 6), (4096,), (4096,), (1000,),
    ]  # fmt: skip


def test_what_each_layer_does(small: nn.Module) -> None:
    steps = [
        layer.module if isinstance(layer.module, nn.Sequential) else [layer.module] for layer in layers_of(small)
    ]
    kinds = [[type(step).__name__ for step in of_layer] for of_layer in steps]
    assert kinds == [
        ["Pixels", "Conv2d", "ReLU", "MaxPool2d", "LocalResponseNorm"],
        ["Conv2d", "ReLU", "MaxPool2d", "LocalResponseNorm"],
        *[["Conv2d", "ReLU"]] * 2,
        ["Conv2d", "ReLU", "MaxPool2d"],
        ["Flatten", "Linear", "ReLU", "Dropout"],
        ["Linear", "ReLU", "Dropout"],
        ["Linear"],
    ]
    convolutions = [one for one in small.modules() if isinstance(one, nn.Conv2d)]
    about = [(one.kernel_size[0], one.stride[0], one.padding[0], one.groups) for one in convolutions]
    assert about == [(11, 4, 0, 1), (5, 1, 2, 2), (3, 1, 1, 1), (3, 1, 1, 2), (3, 1, 1, 2)]
    assert {(one.kernel_size, one.stride) for one in small.modules() if isinstance(one, nn.MaxPool2d)} == {(3, 2)}
    assert [one.p for one in small.modules() if isinstance(one, nn.Dropout)] == [0.5, 0.5]


def test_it_sees_pixel_values_around_zero_whose_features_keep_their_size(small: nn.Module) -> None:
    """What the initialiser expects: with values from 0 to 1 the first features would be a hundredth."""
    pictures = torch.rand(2, *SMALL, generator=torch.Generator().manual_seed(0))
    convolution = layers_of(small)[0].module[:2]
    assert torch.allclose(layers_of(small)[0].module[0](pictures), 255 * pictures - 114.75, atol=1e-4)
    assert 5 < float(convolution(pictures).detach().std()) < 50


def test_local_response_normalisation_is_caffes(small: nn.Module) -> None:
    """b_c = a_c / (1 + alpha / n sum over n channels of a^2)^beta, n = 5, alpha = 1e-4, beta = 0.75"""
    norms = [one for one in small.modules() if isinstance(one, nn.LocalResponseNorm)]
    values = 300 * torch.rand(1, 9, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    squares = nn.functional.pad(values**2, (0, 0, 0, 0, 2, 2))
    sums = sum(squares[:, shift : shift + 9] for shift in range(5))
    for norm in norms:
        assert torch.allclose(norm(values), values / (1 + 1e-4 / 5 * sums) ** 0.75, rtol=1e-9)
    assert len(norms) == 2


def test_it_begins_as_in_the_paper(small: nn.Module) -> None:
    weighted = [one for one in small.modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
    spreads = [float(one.weight.detach().std()) for one in weighted]
    assert spreads == pytest.approx([0.01] * 5 + [0.005] * 2 + [0.01], rel=0.02)
    assert [one.bias.unique().tolist() for one in weighted] == [[bias] for bias in (0, 1, 0, 1, 1, 1, 1, 0)]
    with pytest.raises(UsageError, match="initialiser 'caffenet' is for the 8 layers of caffenet, found 2"):
        initialise_(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "caffenet", seed=0)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((3, 66, 227), "at least 67 pixels; these are 66 x 227"), ((64,), "caffenet needs images")],
)
def test_pictures_that_are_too_small_are_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_network("caffenet", input_shape=shape, num_classes=5, seed=0)


def test_its_schedule_is_the_papers_and_scales_with_the_epochs() -> None:
    """450,000 steps of 256 over 645,000 pictures are 179 epochs; the rate falls to a tenth each 100,000 steps."""
    assert round(450_000 * 256 / 645_000) == 179
    config = read_config({"network": {"network": "caffenet"}, "data": {"name": "folder:imagenet"}})
    fit = config.network
    assert (fit.epochs, fit.batch_size, fit.learning_rate, fit.momentum) == (179, 256, 0.01, 0.9)
    assert (fit.weight_decay, fit.bias_rate_factor, fit.dropout, fit.initialiser) == (5e-4, 2.0, 0.5, "caffenet")
    assert config.data.image_size == 227
    assert fit.schedule == "step:39.7778,79.5556,119.333,159.111"
    short = read_config({"network": {"network": "caffenet", "epochs": 9, "dropout": 0.2}}).network
    assert (short.schedule, short.dropout, short.batch_size) == ("step:2,4,6,8", 0.2, 256)


@pytest.mark.slow
def test_a_transfer_on_a_folder_of_pictures(instar: Command, tmp_path: Path) -> None:
    """Four classes of nine pictures of other sizes: baseA, baseB and A6B with its frozen dropout, in one epoch."""
    pictures = iter(random_images(36, 3, 80, 70))
    for name in ("cat", "dog", "bus", "car"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(9):
            (tmp_path / "pictures" / name / f"{number}.png").write_bytes(image_bytes(next(pictures)))
    options = ["--data", f"folder:{tmp_path / 'pictures'}", "--network", "caffenet", "--set", "data.image_size=67"]
    options += ["--epochs", "1", "--splits", "1", "--targets", "B", "--treatments", "AnB", "--cuts", "6"]
    options += ["--set", "longer=false", "--run-dir", tmp_path / "run", "--quiet"]
    done = instar("transfer", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = Run.read(tmp_path / "run").result()
    assert [layer["name"] for layer in result["details"]["layers"]] == list(WEIGHTS)
    assert [row["treatment"] for row in result["rows"]] == ["base", "AnB"]
    jobs = tmp_path / "run" / "jobs" / "split-0"
    weights, about = Run.read(jobs / "A6B").load_weights()
    base = Run.read(jobs / "baseA").load_weights()[0]
    places = ["conv1.1", *(f"conv{number}.0" for number in range(2, 6)), "fc6.1"]
    assert about["frozen"] == [f"{place}.{kind}" for place in places for kind in ("weight", "bias")]
    assert all(torch.equal(weights[name], base[name]) for name in about["frozen"])
    assert not Run.read(jobs / "A6B").result()["metrics"]["prefix_cached"]
