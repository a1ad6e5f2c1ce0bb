"""The cost of a network in use: weights, bytes, multiplications, time."""

import copy
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from instar.errors import UsageError
from instar.networks import call, evaluation_, evaluation_mode, input_type, is_compiled, without_compiler
from instar.structures import NUM_SAMPLES, SOUND, TEXT, Form, Inputs, examples_in, in_type, up_to

_A_TEXT: Form = {TEXT: ("int32", up_to(64))}
"""What a network that reads texts itself is measured at."""


@dataclass(frozen=True)
class Cost:
    """Cost of one network in use; multiplications and latency are for one example."""

    parameters: int
    bytes: int
    multiplications: int | None
    """None where the network calls an operation whose multiplications are not known"""
    latency_ms: float


def cost_of(network: nn.Module, input_shape: Form, *, repeats: int = 200) -> Cost:
    """Measure the cost of a network for one example, on the CPU with one thread.

    Args:
        network: any module, compiled and quantised ones included; a copy is measured. Multiplications are those of
            matrix products, convolutions and attention.
        input_shape: shape of one example; of examples that vary in length, multiplications and latency are those
            at the longest.
        repeats: timed forward passes; the latency is their median.

    Raises:
        UsageError: `repeats` is below 1.

    Example:
        >>> cost = cost_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,), repeats=3)
        >>> cost.parameters, cost.bytes, cost.multiplications
        (23, 92, 18)
    """
    if repeats < 1:
        raise UsageError(f"repeats is {repeats}, expected at least 1")
    if getattr(network, "reads_text", False):
        input_shape = _A_TEXT
    elif getattr(network, "hears_sound", False):
        input_shape = {SOUND: (network.sample_rate,), NUM_SAMPLES: ("int64",)}  # a second
    network = evaluation_(_copy(network, input_shape).cpu())
    weights = [*network.parameters(), *_packed(network)]
    tensors = [*weights, *network.buffers()]
    dtype = next((value.dtype for value in tensors if value.is_floating_point()), torch.float32)
    example = in_type(examples_in(input_shape, 1), dtype)
    with torch.no_grad():
        latency_ms = _median_latency_ms(network, example, repeats)
        multiplications = _multiplications(network, example)
    return Cost(
        parameters=sum(value.numel() for value in weights),
        bytes=sum(value.numel() * value.element_size() for value in tensors),
        multiplications=multiplications,
        latency_ms=latency_ms,
    )


def _copy(network: nn.Module, input_shape: Form) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except (
        RuntimeError
    ):  # a weight that a hook computed with a gradient (nn.utils.weight_norm): compute it without
        device = next((value.device for value in network.parameters()), torch.device("cpu"))
        with evaluation_mode(network), torch.no_grad():
            call(network, in_type(examples_in(input_shape, 1), input_type(network), device=device))
        return copy.deepcopy(network)


def multiplications_of(network: nn.Module, input_shape: Form) -> int | None:
    """Multiplications for one example, from one forward pass; None where they are not known.

    Example:
        >>> multiplications_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
        18
    """
    example = in_type(examples_in(input_shape, 1), input_type(network))
    with without_compiler(is_compiled(network)), evaluation_mode(network), torch.no_grad():
        return _multiplications(network, example)


def multiplications_at(network: nn.Module, stages: Sequence[nn.Module], input_shape: Form) -> list[int]:
    """Multiplications for one example up to the end of each of some modules of a network, from one forward pass.

    Args:
        network: any module; run in evaluation mode, and not changed.
        stages: modules of the network. A module that is not called gets the count of the whole network.
        input_shape: shape of one example.

    Raises:
        UsageError: the network calls an operation whose multiplications are not known.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> multiplications_at(network, list(network), (4,))
        [12, 12, 18]
    """
    found: dict[int, int] = {}

    def note(place: int) -> None:
        found.setdefault(place, counted.multiplications)

    eagerly = without_compiler(is_compiled(network))  # compiled code does not see the hooks
    with eagerly, _counting() as counted, evaluation_mode(network), torch.no_grad():
        handles = [
            stage.register_forward_hook(lambda *_, place=place: note(place)) for place, stage in enumerate(stages)
        ]
        try:
            call(network, in_type(examples_in(input_shape, 1), input_type(network)))
        finally:
            for handle in handles:
                handle.remove()
    if counted.unknown:
        raise UsageError(
            f"the multiplications of {type(network).__name__} are not known: it calls {counted.unknown}"
        )
    return [found.get(place, counted.multiplications) for place, _ in enumerate(stages)]


def _multiplications(network: nn.Module, example: Inputs) -> int | None:
    try:
        with _counting() as counted:
            call(network, example)
    except Exception:  # some operations, such as `flex_attention`, fail while they are counted
        return None
    return None if counted.unknown else counted.multiplications


def _packed(network: nn.Module) -> list[Tensor]:
    """The weights of quantised layers, which are neither parameters nor buffers."""
    packed = [value for value in network.state_dict().values() if not isinstance(value, Tensor)]
    return [leaf for leaf in tree_leaves(packed) if isinstance(leaf, Tensor)]


def _rnn_flops(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, *_: Any, **__: Any) -> int:
    return 2 * inputs.shape[:-1].numel() * (weight_ih.numel() + weight_hh.numel())


_aten = torch.ops.aten
_FLOPS: dict[Any, Callable[..., int]] = {  # torch has no formula for these
    _aten.mv: lambda matrix, *_, **__: 2 * matrix.numel(),
    _aten.addmv: lambda _, matrix, *__, **___: 2 * matrix.numel(),
    _aten.dot: lambda vector, *_, **__: 2 * vector.numel(),
    _aten.mkldnn_rnn_layer: _rnn_flops,
    **flop_registry,
}
_PRODUCT = re.compile(  # a word in the name of an operation that multiplies, with or without a formula
    "(?:^|_)(?:(?:add|b|baddb)?mm|(?:add)?mv|v?dot|matmul|linear|trilinear|convolution|attention|rnn)(?:_|$)"
)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiplications of all operations, by torch's formulas.

    torch's `FlopCounterMode` also puts hooks on all modules, which a compiled network warns of.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiplications = 0
        self.unknown: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first operation imports torch's compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", func)  # a higher-order operator has none
        if packet not in _FLOPS and isinstance(func, torch._ops.OpOverload):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        if packet in _FLOPS:
            self.multiplications += _FLOPS[packet](*args, **kwargs, out_val=output) // 2
        elif getattr(func, "namespace", "") not in ("aten", "prim", "prims") or _PRODUCT.search(packet.__name__):
            self.unknown = self.unknown or str(func)
        return output


@contextmanager
def _counting() -> Iterator[_Counter]:
    """Count the multiplications inside the block, with attention computed as matrix products."""
    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)


def _median_latency_ms(network: nn.Module, example: Inputs, repeats: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            call(network, example)
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            call(network, example)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * sorted(times)[len(times) // 2]
