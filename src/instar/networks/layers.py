"""A network as ordered named layers.

The layers of an `nn.Sequential` are its children. The layers of any other module are its top-level stages in the
order in which they are called, found by running it once, or those that `name_layers_` named.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.networks.logits import call, input_type
from instar.networks.modes import evaluation_mode, is_compiled, uncompiled, without_compiler
from instar.structures import Inputs, in_type, split_examples

_NAMES = "layer_names"  # the attribute that `name_layers_` sets


@dataclass(frozen=True)
class Layer:
    """One named layer of a network."""

    name: str
    module: nn.Module

    @property
    def num_parameters(self) -> int:
        """Number of weights of the layer."""
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True)
class Call:
    """A call of a stage, with the shape and type of its output (a tensor on the meta device)."""

    name: str
    output: Any


def layers_of(network: nn.Module, example_input: Inputs | None = None) -> list[Layer]:
    """The layers of a network, first to last.

    Args:
        network: an `nn.Sequential`, or any module together with an example input. Its stages are the outermost
            modules that it calls: its children, or the members of a list of modules (`blocks.0`, `blocks.1`).
        example_input: (batch, ...); the network is run on it once, without gradient and in evaluation mode,
            to find the order.

    Raises:
        UsageError: the module is not an `nn.Sequential` and there is no example input, it calls no module, or it
            does not call a named layer.

    Example:
        >>> net = nn.Sequential()
        >>> net.add_module("fc1", nn.Linear(4, 3)); net.add_module("fc2", nn.Linear(3, 2))
        >>> [(layer.name, layer.num_parameters) for layer in layers_of(net)]
        [('fc1', 15), ('fc2', 8)]

    References:
        Yosinski et al. 2014, section 2.
    """
    network = uncompiled(network)
    if is_chain(network):
        # Not named_children(), which skips the second occurrence of a module.
        return [Layer(name, module) for name, module in network._modules.items() if module is not None]
    names = dict.fromkeys(call.name for call in trace(network, require_example_input(network, example_input)))
    kind = type(network).__name__
    if not names:
        raise UsageError(
            f"{kind} has no stages: its forward pass calls none of its {len(list(network.modules())) - 1} "
            "modules; build it from modules that it calls"
        )
    never = [name for name in named_layers(network) if name not in names]
    if never:
        raise UsageError(f"layer {never[0]!r} of {kind} was not called in a forward pass; name another module")
    return [Layer(name, network.get_submodule(name)) for name in names]


def name_layers_(network: nn.Module, names: Sequence[str]) -> None:
    """Choose which modules of a network are its layers, in place of its outermost stages.

    A module that runs between two layers belongs to the later layer: it is copied and frozen with it.

    Args:
        network: any module; copies of it have the same layers.
        names: at least two of its modules, none inside another, in any order.

    Raises:
        UsageError: an unknown module, fewer than two modules, or a module inside another.

    Example:
        >>> net = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        >>> name_layers_(net, ["0.0", "0.2"])
        >>> [layer.name for layer in layers_of(net, torch.zeros(1, 4))]
        ['0.0', '0.2']
    """
    network = uncompiled(network)
    known = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in known:
            some = {*difflib.get_close_matches(name, known), *known[:20]}  # a network may have hundreds
            raise unknown_name(f"layer of {type(network).__name__}", name, some)
        inside = [other for other in names if name.startswith(f"{other}.")]
        if inside:
            raise UsageError(f"layers: {name!r} is inside {inside[0]!r}; name one of them")
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError(f"layers should be at least two different modules, found {', '.join(names) or 'none'}")
    setattr(network, _NAMES, tuple(names))


def named_layers(network: nn.Module) -> tuple[str, ...]:
    """The layers that `name_layers_` named; empty by default."""
    return tuple(getattr(network, _NAMES, ()))


def is_chain(network: nn.Module) -> bool:
    """Whether the forward pass of a network is that of its children, one after another."""
    network = uncompiled(network)
    is_plain = isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward
    return is_plain and not named_layers(network) and not network._forward_pre_hooks  # which change its input


def require_example_input(network: nn.Module, example_input: Inputs | None) -> Inputs:
    """The example input in the type of the network's weights, or the error that it is missing."""
    if example_input is None:
        raise UsageError(
            f"{type(network).__name__} is not a plain nn.Sequential: pass an example_input, to run it once"
        )
    return in_type(example_input, input_type(network))


def trace(network: nn.Module, example_input: Inputs) -> list[Call]:
    """Run a network once and return the calls of its named layers, or else of its outermost modules, in order."""
    network = uncompiled(network)
    if isinstance(network, torch.jit.ScriptModule):
        raise UsageError("a scripted network has no stages to be seen: use the module that it was scripted from")
    names = named_layers(network) or [name for name, _ in network.named_modules() if name]
    calls: list[Call] = []
    inside: list[str] = []  # those being computed

    def note(name: str, output: Any) -> None:
        inside.pop()
        if not inside:
            calls.append(Call(name, tree_map_only(Tensor, lambda value: value.to("meta"), output)))

    handles = []
    for name in names:
        module = network.get_submodule(name)
        handles.append(module.register_forward_pre_hook(lambda _, __, name=name: inside.append(name)))
        handles.append(module.register_forward_hook(lambda _, __, output, name=name: note(name, output)))
    try:
        with evaluation_mode(network), without_compiler(is_compiled(network)), torch.no_grad():
            call(network, in_type(example_input, input_type(network)))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def check_same_path(network: nn.Module, inputs: Inputs) -> None:
    """Refuse a network that calls its stages in an order that depends on its input.

    Args:
        network: any module.
        inputs: several examples, each of which is tried.

    Raises:
        UsageError: two of the examples take different paths.
    """
    if is_chain(network):
        return
    paths = [tuple(call.name for call in trace(network, example)) for example in split_examples(inputs, 1)]
    for number, path in enumerate(paths):
        if path != paths[0]:
            raise UsageError(
                f"the path through {type(network).__name__} depends on the data: example 0 passes "
                f"{', '.join(paths[0])}, example {number} passes {', '.join(path)}; name layers that "
                "every example passes"
            )


def checked_layers(network: nn.Module, n: int, example_input: Inputs | None, verb: str) -> list[Layer]:
    """All layers of a network, which has to have at least n."""
    layers = layers_of(network, example_input)
    if not 0 <= n <= len(layers):
        raise UsageError(f"{verb} {n} layers: {type(network).__name__} has {len(layers)}")
    return layers
