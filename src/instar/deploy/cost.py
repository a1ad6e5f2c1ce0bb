"""What a network costs in use: weights, bytes, multiplications, time."""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.networks import evaluation_mode


@dataclass(frozen=True)
class Cost:
    """Cost of one network in use; multiplications and latency are for one example."""

    parameters: int
    bytes: int
    multiplications: int
    latency_ms: float


def cost_of(network: nn.Module, input_shape: Sequence[int], *, repeats: int = 200) -> Cost:
    """Measure a network on one example, on the CPU with one thread.

    Args:
        network: any module; it stays as and where it is. Counted are the multiplications of its linear and
            convolutional layers.
        input_shape: shape of one example.
        repeats: timed forward passes; the latency is their median.

    Raises:
        UsageError: no repeats.

    Example:
        >>> cost = cost_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,), repeats=3)
        >>> cost.parameters, cost.bytes, cost.multiplications
        (23, 92, 18)
    """
    if repeats < 1:
        raise UsageError(f"repeats is {repeats}, expected at least 1")
    network = copy.deepcopy(network).cpu().eval()
    tensors = [*network.parameters(), *network.buffers()]
    dtype = next((value.dtype for value in tensors if value.is_floating_point()), torch.float32)
    example = torch.zeros(1, *input_shape, dtype=dtype)
    with torch.no_grad():
        multiplications = _count_multiplications(network, example)
        latency_ms = _median_latency_ms(network, example, repeats)
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        bytes=sum(value.numel() * value.element_size() for value in tensors),
        multiplications=multiplications,
        latency_ms=latency_ms,
    )


def multiplications_at(network: nn.Module, stages: Sequence[nn.Module], input_shape: Sequence[int]) -> list[int]:
    """Multiplications of one example until each of some modules of a network has been called, from one pass.

    Args:
        network: any module; run in evaluation mode, and left as it is.
        stages: modules of it. One that is not called counts what came before the end.
        input_shape: shape of one example.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> multiplications_at(network, list(network), (4,))
        [12, 12, 18]
    """
    counts: list[int] = []
    found: dict[int, int] = {}

    def note(place: int) -> None:
        found.setdefault(place, sum(counts))

    with _counting(network, counts), evaluation_mode(network), torch.no_grad():
        handles = [
            stage.register_forward_hook(lambda *_, place=place: note(place)) for place, stage in enumerate(stages)
        ]
        try:
            network(torch.zeros(1, *input_shape))
        finally:
            for handle in handles:
                handle.remove()
    return [found.get(place, sum(counts)) for place, _ in enumerate(stages)]


def _count_multiplications(network: nn.Module, example: Tensor) -> int:
    counts: list[int] = []
    with _counting(network, counts):
        network(example)
    return sum(counts)


@contextmanager
def _counting(network: nn.Module, counts: list[int]) -> Iterator[None]:
    """Append the multiplications of each linear or convolutional layer as it is called."""

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.get_parameter("weight")  # (out, in, ...), but of a transposed convolution (in, out, ...)
        is_transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
        counts.append((inputs[0] if is_transposed else output).numel() * weight[0].numel())

    handles = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _median_latency_ms(network: nn.Module, example: Tensor, repeats: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            network(example)
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            network(example)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * sorted(times)[len(times) // 2]
