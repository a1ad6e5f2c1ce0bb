"""Cuts a network in two: its first n layers, which compute features, and the rest."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from instar.errors import UsageError
from instar.networks.layers import Layer, checked_layers, is_chain, require_example_input, trace
from instar.networks.logits import as_logits, call, name_logits_, named_logits
from instar.networks.modes import evaluation_mode, is_compiled, uncompiled, without_compiler
from instar.structures import Inputs, map_tensors, tensors_in, to_device


@dataclass(frozen=True)
class Cut:
    """A network in two parts: where `cacheable`, `rest(prefix(inputs))` equals `network(inputs)`.

    Where an example is a mapping or a tuple of tensors, the prefix gives a tuple, which the rest takes: the
    features and then these tensors, since a mask is read behind the cut too.

    `cacheable` tells whether the features of the prefix are all that the rest needs, so that they can be computed
    once. Where the rest needs more (a skip connection across the cut), calling it raises a `UsageError`.
    """

    prefix: nn.Module
    rest: nn.Module
    cacheable: bool


def cut(network: nn.Module, n: int, example_input: Inputs | None = None) -> Cut:
    """Cut a network after its first n layers; the two parts share its weights.

    Args:
        network: as for `layers_of`.
        n: from 0 to the number of layers.
        example_input: required where the network is not an `nn.Sequential`: the network is run on it to find out
            whether the cut is `cacheable`.

    Raises:
        UsageError: n is out of range, or a required example input is missing.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> parts = cut(net, 2)
        >>> x = torch.ones(1, 4)
        >>> torch.equal(parts.rest(parts.prefix(x)), net(x)), parts.cacheable
        (True, True)
    """
    network = uncompiled(network)
    layers = checked_layers(network, n, example_input, "cut after")
    if is_chain(network):
        named = [(layer.name, layer.module) for layer in layers]
        chain, key = nn.Sequential(OrderedDict(named[n:])), named_logits(network)
        if key is not None:
            name_logits_(chain, key)
        return Cut(nn.Sequential(OrderedDict(named[:n])), chain, cacheable=True)
    if n == 0:
        is_one = example_input is None or isinstance(example_input, Tensor)
        return Cut(nn.Identity() if is_one else _Unchanged(), network, cacheable=True)
    example_input = require_example_input(network, example_input)
    prefix, rest = Prefix(network, layers[:n]), _Rest(network, layers, n, example_input)
    with evaluation_mode(prefix), evaluation_mode(rest), evaluation_mode(network), torch.no_grad():
        rest.is_possible = _is_parity(prefix, rest, network, example_input)
    return Cut(prefix, rest, cacheable=rest.is_possible)


class _Unchanged(nn.Module):
    """The prefix without layers of a network that takes several tensors."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Inputs:
        return named or inputs


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass at the cut."""


class _Part(nn.Module):
    """One side of a cut. It owns its layers and runs the whole network, which is not a submodule of it."""

    def __init__(self, network: nn.Module, layers: list[Layer]) -> None:
        super().__init__()
        self.training = network.training
        self._whole = [network]  # in a list, so that it is not registered as a submodule
        self._is_compiled = is_compiled(network)
        self.layers = nn.ModuleList([layer.module for layer in layers])

    @contextmanager
    def _network(self) -> Iterator[nn.Module]:
        """The whole network, with `training` as in this part, since its forward may read it."""
        network = self._whole[0]
        training, network.training = network.training, self.training
        try:
            with without_compiler(self._is_compiled):  # the parts are hooks, which compiled code does not see
                yield network
        finally:
            network.training = training


class Prefix(_Part):
    """The features after one stage of a network that is not a chain; the forward pass stops there."""

    def __init__(self, network: nn.Module, layers: list[Layer]) -> None:
        super().__init__(network, layers)
        self._name = layers[-1].name

    def forward(self, *inputs: Any, **named: Any) -> Any:
        features: list[Any] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            features.append(output)
            raise _Stop

        with self._network() as network:
            handle = network.get_submodule(self._name).register_forward_hook(keep)
            try:
                network(*inputs, **named)
            except _Stop:
                alone = len(inputs) == 1 and not named
                return features[0] if alone else (features[0], *inputs, *(named[name] for name in sorted(named)))
            finally:
                handle.remove()
        raise UsageError(f"layer {self._name!r} was not called for this input")


class _Rest(_Part):
    """The part after one stage of a network that is not a chain.

    Its forward pass runs from the start, but the stages before the cut return NaN of the right shape and the stage
    at the cut returns the features. So the logits show whether a later stage reads anything from before the cut.
    """

    is_possible = True

    def __init__(self, network: nn.Module, layers: list[Layer], n: int, example_input: Inputs) -> None:
        super().__init__(network, layers[n:])
        calls = trace(network, example_input)
        self._name = layers[n - 1].name
        place = next(place for place, call in enumerate(calls) if call.name == self._name)
        self._before = [call.output for call in calls[:place]]
        self._skipped = [layer.name for layer in layers[:n]]
        in_order = dict(sorted(example_input.items())) if isinstance(example_input, Mapping) else example_input
        self._input = to_device(in_order, "meta")

    def forward(self, features: Any, *inputs: Tensor) -> Tensor:
        if not self.is_possible:
            raise UsageError(
                f"the layers after {self._name!r} need more than its features: run the whole network instead"
            )
        with self._network() as network, _replaced_forwards(network, self._skipped) as restore:
            outputs = iter(self._before)
            like = next(leaf for leaf in tree_leaves(features) if isinstance(leaf, Tensor))

            def stand_in(*_: Any, **__: Any) -> Any:
                for output in outputs:
                    return tree_map_only(Tensor, lambda value: _nothing(value, like), output)
                restore()
                return features

            for name in self._skipped:
                network.get_submodule(name).forward = stand_in
            given = iter(inputs or [_nothing(one, like) for one in tensors_in(self._input)])
            return as_logits(call(network, map_tensors(lambda _: next(given), self._input)), network)


@contextmanager
def _replaced_forwards(network: nn.Module, names: list[str]) -> Iterator[Any]:
    """Allow the forwards of some stages to be replaced; the yielded function restores them."""
    modules = [network.get_submodule(name) for name in names]
    own = [module.__dict__.get("forward") for module in modules]

    def restore() -> None:
        for module, forward in zip(modules, own, strict=True):
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward

    try:
        yield restore
    finally:
        restore()


def _nothing(value: Tensor, like: Tensor) -> Tensor:
    """NaN in the shape of a value, for the current number of examples."""
    nothing = float("nan") if value.is_floating_point() else 0
    return torch.full((len(like), *value.shape[1:]), nothing, dtype=value.dtype, device=like.device)


def _is_parity(prefix: nn.Module, rest: nn.Module, network: nn.Module, example_input: Inputs) -> bool:
    expected = as_logits(call(network, example_input), network)
    features = call(prefix, example_input)
    try:
        return torch.equal(call(rest, features), expected)
    except Exception:  # a forward that is given NaN may fail in any way: it needs more than the features
        return False
