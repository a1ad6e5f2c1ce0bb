"""Freezes layers, and proves by hashes that training did not change them."""

import functools
import hashlib
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from instar.errors import TrainingError
from instar.networks.cutting import Prefix
from instar.networks.layers import Layer, checked_layers, is_chain, require_example_input
from instar.networks.logits import call
from instar.networks.modes import evaluation_mode, uncompiled
from instar.structures import Inputs


def freeze_(network: nn.Module, n: int, *, example_input: Inputs | None = None, dropout: bool = True) -> None:
    """Freeze the first n layers, in place: no gradient, and constant buffers.

    Modules with buffers (above all normalisation) stay in evaluation mode, even after `network.train()`. Create
    the optimiser afterwards, from the parameters that still require a gradient, so that frozen parameters have
    neither weight decay nor optimiser state (`training.fit` does so).

    Args:
        network: as for `layers_of`. A parameter outside the layers (a position embedding) is frozen too where the
            features after layer n depend on it.
        n: number of layers.
        example_input: as for `layers_of`.
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
    network = uncompiled(network)
    layers = checked_layers(network, n, example_input, "freeze")
    modules = _prefix_modules(network, layers, n, example_input)
    loose = _loose_parameters(network, layers, n, example_input)
    for parameter in chain(*(module.parameters(recurse=False) for module in modules), loose):
        parameter.requires_grad_(False)
        parameter.grad = None
    for module in modules:
        if not dropout or any(True for _ in module.buffers(recurse=False)):
            # `network.train()` would switch the statistics back on. Not by a hook: that of spectral norm comes
            # before it, and a network that was compiled and called does not see it.
            module.train = functools.partial(_train_parts, module)  # type: ignore[method-assign]
            module.training = False


def prefix_state(network: nn.Module, n: int, *, example_input: Inputs | None = None) -> dict[str, Tensor]:
    """The weights and buffers of the first n layers by name: those that `freeze_` freezes and a transfer copies.

    Args:
        network: as for `freeze_`, and not frozen yet.
        n: number of layers.
        example_input: as for `layers_of`.

    Raises:
        UsageError: n is out of range.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
        >>> list(prefix_state(net, 1))
        ['0.running_mean', '0.running_var', '0.num_batches_tracked']
    """
    network = uncompiled(network)
    layers = checked_layers(network, n, example_input, "take the state of")
    modules = _prefix_modules(network, layers, n, example_input)
    own = {id(value) for module in modules for value in _tensors(module, recurse=False).values()}
    own |= {id(value) for value in _loose_parameters(network, layers, n, example_input)}
    return {name: value for name, value in _tensors(network).items() if id(value) in own}


def _tensors(module: nn.Module, *, recurse: bool = True) -> dict[str, Tensor]:
    """Weights and buffers by name; a shared tensor appears under each of its names."""
    named = (module.named_parameters, module.named_buffers)
    return {name: value for of in named for name, value in of(recurse=recurse, remove_duplicate=False)}


def _prefix_modules(
    network: nn.Module, layers: list[Layer], n: int, example_input: Inputs | None
) -> list[nn.Module]:
    """The modules of the first n layers, and the modules outside the layers that run before the cut."""
    modules = dict.fromkeys(module for layer in layers[:n] for module in layer.module.modules())
    if n == 0 or is_chain(network):
        return list(modules)
    paths = [layer.name.split(".") for layer in layers]
    around = {network.get_submodule(".".join(path[:depth])) for path in paths for depth in range(len(path))}

    def note(module: nn.Module, _: object) -> None:
        if module not in around:  # a module that also holds a later layer is not part of the prefix
            modules[module] = None

    handles = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with evaluation_mode(network), torch.no_grad():
            call(Prefix(network, layers[:n]), require_example_input(network, example_input))
    finally:
        for handle in handles:
            handle.remove()
    return list(modules)


def _loose_parameters(
    network: nn.Module, layers: list[Layer], n: int, example_input: Inputs | None
) -> list[nn.Parameter]:
    """The parameters outside the layers that the features after layer n depend on."""
    owned = {parameter for layer in layers for parameter in layer.module.parameters()}
    loose = [value for value in network.parameters() if value not in owned and value.requires_grad]
    if not loose or n == 0 or is_chain(network):
        return []
    with evaluation_mode(network), torch.enable_grad():  # the prefix takes over the mode
        features = tree_leaves(call(Prefix(network, layers[:n]), require_example_input(network, example_input)))
    total = sum(leaf.sum() for leaf in features if isinstance(leaf, Tensor) and leaf.requires_grad)
    if not isinstance(total, Tensor):
        return []
    gradients = torch.autograd.grad(total, loose, allow_unused=True)
    return [value for value, gradient in zip(loose, gradients, strict=True) if gradient is not None]


def _train_parts(module: nn.Module, mode: bool = True) -> nn.Module:
    """`module.train(mode)` for its parts; the module itself stays in evaluation mode."""
    type(module).train(module, mode)
    module.training = False
    return module


def state_hashes(network: nn.Module) -> dict[str, str]:
    """A hash of every weight and buffer by name, to prove that they did or did not change."""
    return {name: tensor_hash(value) for name, value in _tensors(uncompiled(network)).items()}


def tensor_hash(value: Tensor) -> str:
    """32 hex digits that identify the values, type and shape of a tensor."""
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    about = f"{value.dtype}{tuple(value.shape)}".encode()
    return hashlib.blake2b(raw.tobytes() + about, digest_size=16).hexdigest()


def assert_frozen(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise unless every weight and buffer of `before` is bit for bit the same in `after`.

    Args:
        before: `state_hashes` of the frozen layers before training.
        after: `state_hashes` after training; may hold more names.

    Raises:
        TrainingError: names the first tensors that changed.
    """
    changed = [name for name, value in before.items() if after.get(name) != value]
    if changed:
        raise TrainingError(
            f"frozen layers changed in training: {', '.join(changed[:3])}"
            f"{f' and {len(changed) - 3} more' if len(changed) > 3 else ''}"
        )
