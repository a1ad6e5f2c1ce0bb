"""How a network is run: in evaluation mode, compiled or not, in which memory layout; and tried without a trace."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from instar.arguments import require_network
from instar.errors import UsageError
from instar.networks.logits import call, input_type
from instar.structures import Inputs, first_examples, in_type

_SAME_SHARE = 0.02  # of the largest output: two memory layouts differ by rounding, in half precision by a percent
_MODE_AT = {"aten.dropout.default": 2, "aten.feature_dropout.default": 2, "aten.batch_norm.default": 5}
"""Where the operations of an exported network have their mode among their arguments."""

_tried_layouts: WeakSet[nn.Module] = WeakSet()


def uncompiled(network: nn.Module) -> nn.Module:
    """The module inside of what `torch.compile` returned; any other module as it is."""
    require_network("the network", network)
    inside: nn.Module = getattr(network, "_orig_mod", network)
    return inside


def is_compiled(network: nn.Module) -> bool:
    """Whether a network or a part of it was compiled, by `torch.compile(module)` or `module.compile()`."""
    return any(
        uncompiled(module) is not module or getattr(module, "_compiled_call_impl", None) is not None
        for module in network.modules()
    )


def without_compiler(compiled: bool) -> Any:
    """A context in which compiled networks run as the modules that they were made from."""
    # Only where there are any: the call imports torch's compiler, which takes a second.
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def evaluation_(network: nn.Module) -> nn.Module:
    """Put a network into evaluation mode, in place; one that was exported in it is in it already.

    Raises:
        UsageError: the network was exported in training mode.
    """
    try:
        return network.eval()
    except NotImplementedError:  # of torch.export
        _check_exported_for_evaluation(network)
        for module in network.modules():
            module.training = False
        return network


def training_(network: nn.Module) -> nn.Module:
    """Put a network into training mode, in place.

    Raises:
        UsageError: the network was exported, and keeps the mode that it was exported in.
    """
    try:
        return network.train()
    except NotImplementedError as error:
        raise UsageError(
            "the network was exported (torch.export) and keeps the mode that it was exported in: train the module "
            "that it was exported from"
        ) from error


def _check_exported_for_evaluation(network: nn.Module) -> None:
    """Refuse a graph in which dropout is on, or normalisation uses the statistics of the batch."""
    graph = getattr(network, "graph", None)
    for node in graph.nodes if graph is not None else ():
        name = str(node.target)
        if name in _MODE_AT and node.args[_MODE_AT[name]] is True:
            raise UsageError(
                f"the network was exported in training mode ({name}): call eval() on the module, export it again"
            )


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and restore the mode of each of its modules at the end."""
    modes = {module: module.training for module in network.modules()}
    try:
        evaluation_(network)
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def casting(precision: str, device: torch.device | str) -> AbstractContextManager[Any]:
    """Compute products in `bfloat16`, where that is the precision, and the rest as it is."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@contextmanager
def casting_once(network: nn.Module, precision: str, device: torch.device | str) -> Iterator[None]:
    """`casting` of many batches without gradient: a network's weights are cast once.

    autocast keeps the casts of parameters that require a gradient, and casts frozen ones again at each call.
    """
    values = network.parameters() if precision == "bfloat16" else ()
    frozen = [
        value
        for value in values
        if value.is_floating_point() and not value.requires_grad and not value.is_inference()
    ]
    try:
        with torch.no_grad(), casting(precision, device):
            for value in frozen:
                value.requires_grad_()
            yield
    finally:
        for value in frozen:
            value.requires_grad_(False)


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Restore the mode and the buffers of a network, and the random state, at the end.

    A block that must not change the gradients either calls `torch.autograd.grad`.
    """
    modes = {module: module.training for module in network.modules()}
    buffers = [(module, name, value) for module in modes for name, value in module._buffers.items()]
    values = [None if value is None else value.clone() for _, _, value in buffers]
    device = next((value.device for value in network.parameters()), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for (module, name, buffer), value in zip(buffers, values, strict=True):
                module._buffers[name] = buffer
                if buffer is not None and value is not None:
                    buffer.copy_(value)
        for module, training in modes.items():
            module.training = training


def is_materialised(network: nn.Module) -> bool:
    """Whether all weights of a network have a shape: those of lazy modules get theirs from a first batch."""
    return not any(is_lazy(value) for value in (*network.parameters(), *network.buffers()))


def materialise_(network: nn.Module, inputs: Inputs) -> None:
    """Give the weights of lazy modules their shapes, in place, by one batch; others stay as they are.

    They are drawn from the global random state, as in a first call of the network.
    """
    if not is_materialised(network):
        with evaluation_mode(network), torch.no_grad():
            call(uncompiled(network), in_type(inputs, input_type(network)))


def fails_on_one(network: nn.Module, inputs: Inputs) -> bool:
    """Whether batch normalisation refuses to train on one example, of which it has no variance."""
    with unchanged(network), without_compiler(is_compiled(network)), torch.no_grad():
        try:
            one = first_examples(inputs, 1)
            call(training_(network), in_type(one, input_type(network), copy=True))
        except ValueError as error:
            return "more than 1 value per channel" in str(error)
    return False


def channels_last_(network: nn.Module, inputs: Inputs) -> None:
    """Convert a convolutional network to channels-last, in which a CPU is 1.5 to 2.5 times as fast.

    Other networks stay as they are. So does one that fails in this layout (`view` after a convolution), and one
    with a strided 1x1 convolution of fewer than 16 channels: in this layout oneDNN writes past its workspace in
    the backward pass, which crashes, hangs or makes wrong gradients
    (https://github.com/uxlfoundation/oneDNN/issues/6035).

    Args:
        network: any module.
        inputs: a few examples, to try it with, once for each network.
    """
    network = uncompiled(network)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if network in _tried_layouts or not convolutions or any(map(_is_dangerous_in_channels_last, convolutions)):
        return
    expected = _outputs(network, inputs)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not _are_same(_outputs(network, inputs), expected):
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if expected is not None:
        _tried_layouts.add(network)


def _is_dangerous_in_channels_last(conv: nn.Conv2d) -> bool:
    return set(conv.kernel_size) == {1} and max(conv.stride) > 1 and conv.in_channels // conv.groups < 16


def _outputs(network: nn.Module, inputs: Inputs) -> list[Tensor] | None:
    """The tensors that a network gives in evaluation mode; None where it fails."""
    with unchanged(network), without_compiler(is_compiled(network)), torch.no_grad():
        try:
            output = call(evaluation_(network), in_type(inputs, input_type(network), copy=True))
        except Exception:  # a forward may fail in any way; where it always does, the caller is the one to say so
            return None
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _are_same(found: list[Tensor] | None, expected: list[Tensor] | None) -> bool:
    if found is None or expected is None or [one.shape for one in found] != [one.shape for one in expected]:
        return False
    return all(
        torch.allclose(one.double(), other.double(), rtol=0, atol=atol, equal_nan=True)
        for one, other in zip(found, expected, strict=True)
        for atol in [_SAME_SHARE * float(other.abs().max()) if other.numel() else 0.0]
    )
