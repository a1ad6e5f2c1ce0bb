"""The stages of somebody else's network under the names that its users know: blocks of a ViT, of a ResNet."""

import re

from torch import nn

from instar.networks.layers import name_layers_, trace
from instar.structures import Inputs

_MOST = 0.5  # a module with more than this share of the weights is no layer: it is opened
_FEW = 0.03  # a sequence with less, such as a stem of three convolutions, is one layer


def name_stages_(network: nn.Module, example_input: Inputs) -> None:
    """Name the layers of a network, in place.

    From the outermost modules on, one that holds more than half of all weights is opened, and so is a plain
    sequence with more than a few of them; but not one of several that are numbered alike (`layer1` to `layer4`,
    `blocks.0` to `blocks.11`), which is a stage. Modules without weights belong to the layer after them.

    Args:
        network: any module; where this finds fewer than two layers it is left as it is.
        example_input: (batch, ...); modules that it does not pass are no layers.

    Example:
        >>> import torch
        >>> block = lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        >>> network = nn.Sequential()
        >>> network.add_module("embedding", nn.Linear(4, 4))
        >>> network.add_module("blocks", nn.Sequential(block(), block(), block()))
        >>> name_stages_(network, torch.zeros(1, 4))
        >>> network.layer_names
        ('embedding', 'blocks.0', 'blocks.1', 'blocks.2')
    """
    names = _opened(network, "", _share_of(network))
    if len(names) < 2:
        return
    name_layers_(network, names)
    called = list(dict.fromkeys(call.name for call in trace(network, example_input)))
    if len(called) > 1 and len(called) < len(names):
        name_layers_(network, called)


def _opened(module: nn.Module, prefix: str, total: int) -> list[str]:
    children = {name: child for name, child in module.named_children() if _has_weights(child)}
    found: list[str] = []
    for name, child in children.items():
        parts = [part for part in child.children() if _has_weights(part)]
        is_sequence = isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict) and len(parts) > 1
        least = (_FEW if is_sequence else _MOST) * total
        if parts and not _is_numbered(name, children) and _share_of(child) > least:
            found += _opened(child, f"{prefix}{name}.", total)
        else:
            found.append(f"{prefix}{name}")
    return found


def _is_numbered(name: str, siblings: dict[str, nn.Module]) -> bool:
    """Whether a sibling has the same name with another number."""
    return any(other != name and _plain(other) == _plain(name) for other in siblings)


def _plain(name: str) -> str:
    return re.sub("[0-9]+", "#", name)


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _share_of(module: nn.Module) -> int:
    """The number of weights, without tables of embeddings: a vocabulary says nothing of depth."""
    tables = (one for one in module.modules() if isinstance(one, nn.Embedding))
    return sum(value.numel() for value in module.parameters()) - sum(one.weight.numel() for one in tables)
