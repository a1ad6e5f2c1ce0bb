"""Which layers of two networks teach each other where nobody names them."""

import pytest
import torch
from torch import Tensor, nn

from instar.data import as_dataset
from instar.distillation import Hint, HintLoss, last_layers
from instar.errors import UsageError
from instar.networks import build_network

IMAGES = torch.zeros(2, 1, 8, 8)


def network(name: str) -> nn.Module:
    return build_network(name, input_shape=(1, 8, 8), num_classes=10, seed=0)


@pytest.mark.parametrize(
    ("teacher", "student", "kind", "layers"),
    [
        ("mlp:30x2", "mlp:8x1", "features", ("fc2", "fc1")),
        ("convnet:6", "convnet:5x8", "features", ("fc5", "fc4")),
        ("convnet:6", "convnet:5x8", "attention", ("conv3", "conv2")),  # 1 x 1 is no map: conv3 has 2 x 2
        ("resnet:14", "resnet:8x4", "features", ("block6", "block3")),
        ("resnet:8", "convnet:4x8", "features", ("block2", "conv1")),  # vectors against maps: the maps of one size
        ("resnet:8", "convnet:4x8", "attention", ("block2", "conv1")),
        ("convnet:6", "mlp:8x1", "features", ("fc5", "fc1")),
    ],
)
def test_the_last_stages_before_the_heads_that_fit(
    teacher: str, student: str, kind: str, layers: tuple[str, str]
) -> None:
    networks = network(teacher), network(student)
    hint = last_layers(*networks, IMAGES, kind=kind)
    assert (hint.teacher_layer, hint.student_layer, hint.kind) == (*layers, kind)
    data = as_dataset((torch.rand(4, 1, 8, 8), torch.arange(4)))
    loss = HintLoss(*networks, [hint], data)
    networks[1](data.gather(data.ids, 0))
    assert float(loss(data.gather(data.ids, 0)).detach()) > 0


class Pooled(nn.Module):
    """A network of somebody else: its forward is no chain, and its pooled features are flattened by a module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.pool, self.flat = nn.Conv2d(1, channels, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(channels, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(self.flat(self.pool(torch.relu(self.conv(inputs)))))


def test_flat_copies_and_maps_of_one_place_are_passed_over() -> None:
    assert last_layers(Pooled(4), Pooled(2), IMAGES) == Hint("pool", "pool")
    assert last_layers(Pooled(4), Pooled(2), IMAGES, kind="attention") == Hint("conv", "conv", "attention")


def test_networks_that_do_not_fit_are_one_clear_error() -> None:
    with pytest.raises(
        UsageError, match=r"with a height and a width: the teacher has conv1 \(maps\).*student has none"
    ):
        last_layers(network("convnet:4"), network("mlp:8x1"), IMAGES, kind="attention")
    with pytest.raises(
        UsageError, match=r"of one kind: the teacher has .*block3 \(maps\); the student has fc1 \(vec"
    ):
        last_layers(network("resnet:8"), network("mlp:8x1"), IMAGES)
    with pytest.raises(UsageError, match="the teacher has none"):
        last_layers(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), network("mlp:8x1"), IMAGES)


def test_sequences_need_one_length() -> None:
    def recurrent(length: int) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (length, -1)), nn.Linear(64 // length, 6), nn.Flatten(), nn.LazyLinear(3)
        )

    inputs = torch.zeros(2, 64)
    networks = [recurrent(length) for length in (4, 4, 8)]
    for one in networks:
        one(inputs)
    assert last_layers(networks[0], networks[1], inputs) == Hint("1", "1")
    with pytest.raises(UsageError, match="of one kind"):
        last_layers(networks[0], networks[2], inputs)
