"""A network as ordered named layers: cut it after n, freeze the first n, prove that they stayed frozen.

The layers of an `nn.Sequential` are its children. The layers of any other module are its top-level stages in
the order in which the data meets them, found by running it once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from instar.errors import TrainingError, UsageError

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
DROPOUTS = (nn.modules.dropout._DropoutNd,)


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
class Cut:
    """A network in two parts: `rest(prefix(inputs))` is `network(inputs)`.

    `cacheable` says whether the rest needs nothing but the prefix's features, so that these may be computed once.
    """

    prefix: nn.Module
    rest: nn.Module
    cacheable: bool


def layers_of(network: nn.Module, example_input: Tensor | None = None) -> list[Layer]:
    """The layers of a network, first to last.

    Args:
        network: an `nn.Sequential`, or any module together with an example input.
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
    if isinstance(network, nn.Sequential):
        return [Layer(name, module) for name, module in network.named_children()]
    if example_input is None:
        raise UsageError(
            f"{type(network).__name__} is no nn.Sequential: pass an example_input, so that it can be run once"
        )
    order = list(_trace(network, example_input))
    if not order:
        raise UsageError(f"{type(network).__name__} has no stages: none of its children was called")
    return [Layer(name, module) for name, module in order]


def _trace(network: nn.Module, example_input: Tensor) -> list[tuple[str, nn.Module]]:
    called: list[tuple[str, nn.Module]] = []

    def note(name: str, module: nn.Module) -> None:
        if all(name != known for known, _ in called):
            called.append((name, module))

    handles = [
        module.register_forward_pre_hook(lambda module, _, name=name: note(name, module))
        for name, module in network.named_children()
    ]
    try:
        with evaluation_mode(network), torch.no_grad():
            network(example_input)
    finally:
        for handle in handles:
            handle.remove()
    return called


class evaluation_mode:  # noqa: N801 - reads as a statement, as torch.no_grad does
    """Put a network into evaluation mode and every module of it back as it was."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __enter__(self) -> None:
        self._modes = {module: module.training for module in self._network.modules()}
        self._network.eval()

    def __exit__(self, *_: object) -> None:
        for module, training in self._modes.items():
            module.training = training


def cut(network: nn.Module, n: int, example_input: Tensor | None = None) -> Cut:
    """Cut a network after its first n layers; the two parts share its weights.

    Args:
        network: as for `layers_of`.
        n: 0 <= n <= number of layers.
        example_input: needed when the network is no `nn.Sequential`.

    Raises:
        UsageError: n is out of range, or `rest(prefix(inputs))` is not `network(inputs)`.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> parts = cut(net, 2)
        >>> x = torch.ones(1, 4)
        >>> torch.equal(parts.rest(parts.prefix(x)), net(x)), parts.cacheable
        (True, True)
    """
    layers = layers_of(network, example_input)
    if not 0 <= n <= len(layers):
        raise UsageError(f"cut after {n} layers: {type(network).__name__} has {len(layers)}")
    if isinstance(network, nn.Sequential):
        return Cut(network[:n], network[n:], cacheable=True)
    if n == 0:
        return Cut(nn.Identity(), network, cacheable=True)
    prefix, rest = _HookedPrefix(network, layers[n - 1].name), _HookedRest(network, layers, n)
    assert example_input is not None  # layers_of has checked it
    return Cut(prefix, rest, cacheable=_rest_needs_features_only(network, prefix, rest, example_input))


class _Stop(Exception):  # noqa: N818 - it is a signal, not an error
    """Ends a forward pass at the cut."""


class _HookedPrefix(nn.Module):
    """The features after one named stage of a network whose forward is no chain."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self._name = network, name

    def forward(self, inputs: Tensor) -> Tensor:
        features: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            features.append(output)
            raise _Stop

        handle = self.network.get_submodule(self._name).register_forward_hook(keep)
        try:
            self.network(inputs)
        except _Stop:
            return features[0]
        finally:
            handle.remove()
        raise UsageError(f"layer {self._name!r} was not called for this input")


class _HookedRest(nn.Module):
    """The network from one named stage on: the stages before it are skipped, its output is what is given."""

    def __init__(self, network: nn.Module, layers: list[Layer], n: int) -> None:
        super().__init__()
        self.network = network
        self._skipped = [layer.name for layer in layers[: n - 1]]
        self._name = layers[n - 1].name

    def forward(self, features: Tensor) -> Tensor:
        kept = {name: self.network.get_submodule(name) for name in [*self._skipped, self._name]}
        try:
            for name in self._skipped:
                setattr(self.network, name, nn.Identity())
            setattr(self.network, self._name, _Constant(features))
            output: Tensor = self.network(features)
            return output
        finally:
            for name, module in kept.items():
                setattr(self.network, name, module)


class _Constant(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self._value = [value]

    def forward(self, *_: Any) -> Tensor:
        return self._value[0]


def _rest_needs_features_only(
    network: nn.Module, prefix: nn.Module, rest: nn.Module, example_input: Tensor
) -> bool:
    with evaluation_mode(network), torch.no_grad():
        try:
            return torch.equal(rest(prefix(example_input)), network(example_input))
        except (RuntimeError, TypeError, IndexError, AttributeError):
            return False  # a later stage reads what an earlier one made: the features alone are not enough


def freeze_(network: nn.Module, n: int, *, example_input: Tensor | None = None, dropout: bool = True) -> None:
    """Freeze the first n layers, in place: no gradient, and normalisation that keeps to evaluation mode.

    The optimiser must be made afterwards, from the parameters that still require a gradient: then there is
    neither weight decay nor optimiser state for the frozen ones (`training.fit` does so).

    Args:
        network: as for `layers_of`.
        n: how many layers.
        dropout: whether dropout in frozen layers stays on in training, as in the paper.

    Raises:
        UsageError: n is out of range.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
        >>> freeze_(net, 1)
        >>> before = state_hashes(net[0])
        >>> _ = net.train()(torch.randn(8, 2))
        >>> assert_frozen(before, state_hashes(net[0]))

    References:
        Yosinski et al. 2014, section 3: frozen layers had learning rate and weight decay 0, dropout stayed on.
    """
    layers = layers_of(network, example_input)
    if not 0 <= n <= len(layers):
        raise UsageError(f"freeze {n} layers: {type(network).__name__} has {len(layers)}")
    still = NORMALISATIONS if dropout else (*NORMALISATIONS, *DROPOUTS)
    for layer in layers[:n]:
        for parameter in layer.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        for module in layer.module.modules():
            if isinstance(module, still):
                # A hook, since anybody's `network.train()` would switch the statistics back on.
                module.register_forward_pre_hook(_stay_in_evaluation_mode)
                module.eval()


def _stay_in_evaluation_mode(module: nn.Module, _: Any) -> None:
    module.training = False


def state_hashes(network: nn.Module) -> dict[str, str]:
    """A hash of every weight and buffer by name: the proof that something did or did not change."""
    return {name: _tensor_hash(value) for name, value in network.state_dict().items()}


def _tensor_hash(value: Tensor) -> str:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    about = f"{value.dtype}{tuple(value.shape)}".encode()
    return hashlib.blake2b(raw.tobytes() + about, digest_size=16).hexdigest()


def network_fingerprint(network: nn.Module) -> str:
    """One hash of all weights and buffers, with their names."""
    content = "".join(f"{name}={value}\n" for name, value in sorted(state_hashes(network).items()))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def assert_frozen(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise unless every weight and buffer of `before` is bit for bit the same in `after`.

    Args:
        before: `state_hashes` of the frozen layers before training.
        after: the same after it; may hold more names.

    Raises:
        TrainingError: names the first ones that changed.
    """
    changed = [name for name, value in before.items() if after.get(name) != value]
    if changed:
        raise TrainingError(
            f"frozen layers changed in training: {', '.join(changed[:3])}"
            f"{f' and {len(changed) - 3} more' if len(changed) > 3 else ''}"
        )
