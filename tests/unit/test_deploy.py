"""What a network costs, counted by hand."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

from instar.deploy import cost_of, multiplications_at, multiplications_of
from instar.errors import UsageError
from instar.networks import build_network
from small_fits import same_bits, state_of

COUNTS: dict[str, tuple[nn.Module, tuple[int, ...], int, int, int]] = {
    # network, shape of an example, parameters, bytes, multiplications
    "linear": (nn.Linear(5, 3), (5,), 18, 4 * 18, 15),
    "linear on a sequence of 7": (nn.Linear(5, 3), (7, 5), 18, 4 * 18, 7 * 15),
    "perceptron": (
        build_network("mlp:30x2", input_shape=(1, 28, 28), num_classes=10, seed=0),
        (1, 28, 28),
        (784 * 30 + 30) + (30 * 30 + 30) + (30 * 10 + 10),
        4 * ((784 * 30 + 30) + (30 * 30 + 30) + (30 * 10 + 10)),
        784 * 30 + 30 * 30 + 30 * 10,
    ),
    "convolution": (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 5), 8 * 27 + 8, 4 * (8 * 27 + 8), 6 * 5 * 8 * 27),
    "with stride, in two groups, no bias": (
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False),
        (4, 7, 7),
        6 * 2 * 9,
        4 * 6 * 2 * 9,
        3 * 3 * 6 * 2 * 9,
    ),
    "transposed": (nn.ConvTranspose2d(2, 5, 2, stride=2, bias=False), (2, 3, 3), 40, 160, 3 * 3 * 2 * 5 * 4),
    "normalisation: 2 statistics and a count of 8 bytes": (
        nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)),
        (1, 4, 4),
        2 + 4,
        4 * (2 + 4 + 4) + 8,
        16 * 2,
    ),
    "half precision": (nn.Linear(5, 3).bfloat16(), (5,), 18, 2 * 18, 15),
}


@pytest.mark.parametrize("name", COUNTS)
def test_weights_bytes_and_multiplications_are_counted(name: str) -> None:
    network, shape, parameters, num_bytes, multiplications = COUNTS[name]
    cost = cost_of(network, shape, repeats=3)
    assert (cost.parameters, cost.bytes, cost.multiplications) == (parameters, num_bytes, multiplications)
    assert cost.latency_ms > 0


def test_shared_weights_count_once_and_work_twice() -> None:
    layer = nn.Linear(4, 4, bias=False)
    cost = cost_of(nn.Sequential(layer, nn.ReLU(), layer), (4,), repeats=3)
    assert (cost.parameters, cost.bytes, cost.multiplications) == (16, 64, 32)


class Attention(nn.Module):
    """64 features in 4 heads, by torch's module or by its function."""

    def __init__(self, *, by_module: bool) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(64, 4, batch_first=True) if by_module else None

    def forward(self, inputs: Tensor) -> Tensor:
        if self.module is None:
            return nn.functional.scaled_dot_product_attention(inputs, inputs, inputs)
        attended: Tensor = self.module(inputs, inputs, inputs)[0]
        return attended


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(8, 4, num_layers=2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        states: Tensor = self.cells(inputs)[0]
        return states


ATTENTION = 2 * 16 * 16 * 64  # queries with keys, weights with values, of 16 tokens
OTHERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "attention, a function": (Attention(by_module=False), (16, 64), ATTENTION),
    "attention, a module": (Attention(by_module=True), (16, 64), 4 * 16 * 64 * 64 + ATTENTION),
    "a transformer's layer": (
        nn.TransformerEncoderLayer(64, 4, 128, batch_first=True),
        (16, 64),
        4 * 16 * 64 * 64 + ATTENTION + 2 * 16 * 64 * 128,
    ),
    "an LSTM": (Recurrent(), (5, 8), 5 * 4 * (4 * 8 + 4 * 4 + 4 * 4 + 4 * 4)),
    "compiled": (torch.compile(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), backend="eager"), (8,), 66),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_linear_or_convolutional_layer_multiplies_too(name: str) -> None:
    network, shape, multiplications = OTHERS[name]
    assert cost_of(network, shape, repeats=3).multiplications == multiplications
    assert multiplications_at(network, [network], shape) == [multiplications]
    assert multiplications_of(network, shape) == multiplications


def test_a_quantised_network_has_weights_and_its_multiplications_are_not_known() -> None:
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is to replace it
        quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
    cost = cost_of(quantised, (8,), repeats=3)
    assert cost.parameters == 48 + 6 + 18 + 3
    assert cost.bytes >= 48 + 18 + 4 * (6 + 3)  # weights of one byte, biases of four
    assert cost.multiplications is None
    assert multiplications_of(quantised, (8,)) is None
    with pytest.raises(
        UsageError, match=r"multiplications of Sequential are not known: .*quantized.linear_dynamic"
    ):
        multiplications_at(quantised, [quantised[0]], (8,))


def test_multiplications_at_each_of_several_modules() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 5)))
    unused = nn.Linear(9, 9)
    assert multiplications_at(network, [*network, unused], (2, 2)) == [0, 12, 18, 28, 28]
    assert not network[0]._forward_hooks


def test_counting_leaves_attention_as_fast_as_it_was() -> None:
    for is_enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(is_enabled)
        try:
            cost_of(Attention(by_module=True), (16, 64), repeats=1)
            assert torch.backends.mha.get_fastpath_enabled() is is_enabled
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


def test_the_network_is_measured_in_evaluation_mode_and_stays_as_it_is() -> None:
    modes = []

    class Watched(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(inputs)

    network = nn.Sequential(Watched(4, 4), nn.BatchNorm1d(4)).train()
    network[1].eval()
    before, threads = state_of(network), torch.get_num_threads()
    cost_of(network, (4,), repeats=3)
    assert set(modes) == {False}
    assert [module.training for module in network.modules()] == [True, True, False]
    assert same_bits(network.state_dict(), before)
    assert torch.get_num_threads() == threads


def test_a_slower_network_has_the_higher_latency() -> None:
    small, large = (cost_of(nn.Linear(n, n), (n,), repeats=30).latency_ms for n in (8, 2048))
    assert small < large


def test_no_repeats_is_refused() -> None:
    with pytest.raises(UsageError, match="repeats is 0, expected at least 1"):
        cost_of(nn.Linear(2, 2), (2,), repeats=0)


def test_counting_does_not_import_the_compiler() -> None:
    command = (
        "import sys, torch; from instar.deploy import cost_of; cost_of(torch.nn.Linear(2, 2), (2,), repeats=1); "
        "print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout == "False\n"
