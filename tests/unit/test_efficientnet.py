"""EfficientNet-lite0 as a network with named layers, and pictures at its size."""

import pytest
import torch

from instar.data import InMemoryDataset
from instar.networks import build_network, cut, layers_of, prefix_state
from instar.recipes.efficientnet import SIZE, _enlarged


@pytest.mark.slow
def test_a_frozen_part_of_it_can_be_computed_once() -> None:
    network = build_network(
        "python:instar.recipes.efficientnet:lite0", input_shape=(3, SIZE, SIZE), num_classes=7, seed=0
    ).eval()
    example = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    names = [layer.name for layer in layers_of(network, example)]
    blocks = [f"_blocks.{number}" for number in range(16)]
    assert names == [
        "_conv_stem",
        "_bn0",
        "_swish",
        *blocks,
        "_conv_head",
        "_bn1",
        "_avg_pooling",
        "_dropout",
        "_fc",
    ]
    all_but_head = prefix_state(network, len(names) - 1, example_input=example)
    assert set(network.state_dict()) - set(all_but_head) == {"_fc.weight", "_fc.bias"}
    for n in (3, 12, len(names) - 1):
        parts = cut(network, n, example)
        assert parts.cacheable
        with torch.no_grad():
            assert torch.equal(parts.rest(parts.prefix(example)), network(example))


def test_pictures_are_enlarged_and_scaled_as_in_its_training() -> None:
    pictures = torch.full((20, 3, 32, 32), 255, dtype=torch.uint8)
    pictures += torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1)  # all different; the first is white
    data = InMemoryDataset(pictures, torch.arange(20) % 2, class_names=["a", "b"])
    enlarged = _enlarged(data, 3)
    assert len(enlarged) == 6
    assert torch.bincount(enlarged.labels(enlarged.ids)).tolist() == [3, 3]
    white = _enlarged(data, 9)
    values = white.gather(white.ids, 0)
    assert values.shape == (18, 3, SIZE, SIZE)
    assert float(values.min()) >= -127 / 128
    expected = {(255 + number) % 256 for number in range(20)}
    found = {round(float(value) * 128 + 127) for value in values[:, 0, 0, 0]}
    assert found < expected
