"""The linear layer that gives a network's logits: found, and its bias moved."""

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.networks.layers import evaluation_mode


def last_linear(network: nn.Module, num_classes: int, *, caller: str) -> nn.Linear:
    """The last linear layer of a network.

    Args:
        network: any module.
        num_classes: that it has to give.
        caller: who asks, for the error.

    Raises:
        UsageError: there is none, or it is of another width.

    Example:
        >>> last_linear(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), 2, caller="example")
        Linear(in_features=3, out_features=2, bias=True)
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != num_classes:
        raise UsageError(f"{caller}: the network has no last linear layer of {num_classes} classes")
    return linear[-1]


def shift_logits_(network: nn.Module, bias: Tensor, example_inputs: Tensor, *, caller: str) -> None:
    """Fold numbers that are added to the logits into the last linear layer, in place.

    Args:
        network: its logits come from a linear layer.
        bias: (classes,).
        example_inputs: (n, ...), one or more, to see that the logits have moved by exactly the bias.
        caller: who asks, for the errors.

    Raises:
        UsageError: the logits do not come straight from a linear layer, or there is no example to see it by; the
            network is as it was.
    """
    if len(example_inputs) == 0:
        raise UsageError(f"{caller}: no example input, so nothing says that the logits moved by the bias")
    layer = last_linear(network, bias.numel(), caller=caller)
    if bias.shape != layer.weight.shape[:1]:
        raise UsageError(f"{caller}: expected a bias {tuple(layer.weight.shape[:1])}, found {tuple(bias.shape)}")
    before = layer.bias
    with evaluation_mode(network), torch.no_grad():
        logits = network(example_inputs)
        moved = bias.to(layer.weight) if before is None else before + bias.to(before)
        layer.bias = nn.Parameter(moved, requires_grad=(layer.weight if before is None else before).requires_grad)
        if not torch.allclose(network(example_inputs), logits + bias.to(logits), atol=1e-4, rtol=1e-4):
            layer.bias = before
            raise UsageError(f"{caller}: the last linear layer does not give the logits; add the bias to them")
