"""A network that computes in eight bits, and learns to."""

from pathlib import Path

import pytest
import torch
from torch import nn

from instar.deploy.to_onnx import Session, write_int8, write_onnx
from instar.networks.eight_bits import in_eight_bits
from instar.training import fit
from small_fits import digits, normalised_network, same_bits, state_of


def test_it_answers_as_its_file_of_integers(tmp_path: Path) -> None:
    data = digits(300)
    network = fit(normalised_network(), data, epochs=3, batch_size=32, learning_rate=0.05).network.eval()
    inputs, before = data.gather(data.ids, 0), state_of(network)
    write_onnx(network, inputs[:2], tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", inputs, tmp_path / "int8.onnx", per_channel=True)
    with torch.no_grad():
        plain, file = network(inputs), Session(tmp_path / "int8.onnx")(inputs)
        with in_eight_bits(network, inputs) as names:
            assert len(names) == 3
            rounded = network(inputs)
        assert torch.equal(network(inputs), plain)
    assert same_bits(state_of(network), before)
    apart = (rounded - plain).abs().mean()
    assert apart > 0
    assert (rounded - file).abs().mean() < 0.7 * min(apart, (file - plain).abs().mean())  # a file also rounds sums


def test_learning_in_eight_bits_makes_up_for_the_rounding() -> None:
    torch.manual_seed(0)
    data = digits(600)
    network = fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, epochs=5, batch_size=32).network
    with torch.no_grad():
        network[1].weight[:, 0] = (
            40.0  # of a pixel that is always 0: all other weights are rounded to steps of 0.6
        )
    inputs, labels = data.gather(data.ids, 0), data.labels(data.ids)

    def errors() -> int:
        with torch.no_grad():
            return int((network(inputs).argmax(-1) != labels).sum())

    exact = errors()
    with in_eight_bits(network, inputs):
        rounded = errors()
        fit(network, data, epochs=5, batch_size=32, learning_rate=0.05)
        learned = errors()
    assert exact < 30 < 2 * learned < rounded


def test_an_error_within_leaves_the_network_as_it_was() -> None:
    network, inputs = normalised_network().eval(), digits(10).gather(digits(10).ids, 0)
    with pytest.raises(ValueError, match="mine"), in_eight_bits(network, inputs):
        raise ValueError("mine")
    assert all("forward" not in vars(module) for module in network.modules())
