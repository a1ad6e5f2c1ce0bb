"""A network as ordered named layers.

The layers of an `nn.Sequential` are its children. The layers of any other module are its top-level stages in
the order in which the data meets them, found by running it once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from instar.errors import UsageError


@dataclass(frozen=True)
class Layer:
    """One named layer of a network."""

    name: str
    module: nn.Module

    @property
    def num_parameters(self) -> int:
        """How many weights the layer has."""
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True)
class Call:
    """That a stage was called, and what its output looks like (a tensor without its values)."""

    name: str
    output: Any


def layers_of(network: nn.Module, example_input: Tensor | None = None) -> list[Layer]:
    """The layers of a network, first to last.

    Args:
        network: an `nn.Sequential`, or any module together with an example input. Its stages are its children,
            and those in an `nn.ModuleList` or `nn.ModuleDict` of it one by one (`blocks.0`, `blocks.1`).
        example_input: (batch, ...); run once, without gradient and in evaluation mode, to find the order.

    Raises:
        UsageError: the module is no `nn.Sequential` and there is no example input, or it has no stages.

    Example:
        >>> net = nn.Sequential()
        >>> net.add_module("fc1", nn.Linear(4, 3)); net.add_module("fc2", nn.Linear(3, 2))
        >>> [(layer.name, layer.num_parameters) for layer in layers_of(net)]
        [('fc1', 15), ('fc2', 8)]

    References:
        Yosinski et al. 2014, section 2.
    """
    if is_chain(network):
        # Not named_children(), which leaves out a module that stands in two places.
        return [Layer(name, module) for name, module in network._modules.items() if module is not None]
    names = dict.fromkeys(call.name for call in trace(network, needed(network, example_input)))
    if not names:
        raise UsageError(f"{type(network).__name__} has no stages: none of its children was called")
    return [Layer(name, network.get_submodule(name)) for name in names]


def is_chain(network: nn.Module) -> bool:
    """Whether its children in their order are all that its forward pass does."""
    return isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward


def needed(network: nn.Module, example_input: Tensor | None) -> Tensor:
    """The example input, or the error that it is not there."""
    if example_input is None:
        raise UsageError(
            f"{type(network).__name__} is no plain nn.Sequential: pass an example_input, to run it once"
        )
    return example_input


def _stages(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            yield from _stages(module, f"{prefix}{name}.")
        else:
            yield prefix + name, module


def trace(network: nn.Module, example_input: Tensor) -> list[Call]:
    """Run a network once and note the calls of its stages, in order."""
    calls: list[Call] = []

    def note(name: str, output: Any) -> None:
        calls.append(Call(name, tree_map_only(Tensor, lambda value: value.to("meta"), output)))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in _stages(network)
    ]
    try:
        with evaluation_mode(network), torch.no_grad():
            network(example_input)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and every module of it back as it was."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def checked_layers(network: nn.Module, n: int, example_input: Tensor | None, verb: str) -> list[Layer]:
    """All layers of a network that has at least n."""
    layers = layers_of(network, example_input)
    if not 0 <= n <= len(layers):
        raise UsageError(f"{verb} {n} layers: {type(network).__name__} has {len(layers)}")
    return layers
