"""Finds the linear layer that computes a network's logits, and changes its bias."""

import torch
from torch import Tensor, nn

from instar.arguments import require_network
from instar.errors import UsageError
from instar.networks.logits import forward_logits
from instar.networks.modes import evaluation_mode
from instar.structures import Inputs, num_examples


def last_linear(network: nn.Module, num_classes: int, *, caller: str) -> nn.Linear:
    """The last linear layer of a network.

    Args:
        network: any module.
        num_classes: number of outputs that the layer has to have.
        caller: name of the calling function, for the error.

    Raises:
        UsageError: there is no linear layer, or the last one has another width.

    Example:
        >>> last_linear(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), 2, caller="example")
        Linear(in_features=3, out_features=2, bias=True)
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].out_features != num_classes:
        raise UsageError(f"{caller}: the network has no last linear layer of {num_classes} classes")
    return linear[-1]


def shift_logits_(network: nn.Module, bias: Tensor, example_inputs: Inputs, *, caller: str) -> None:
    """Add a bias to the logits, in place, by changing the bias of the last linear layer.

    Args:
        network: a network whose logits come from a linear layer.
        bias: (classes,).
        example_inputs: (n, ...), at least one, to check that the logits change by exactly the bias.
        caller: name of the calling function, for the errors.

    Raises:
        UsageError: the logits do not come straight from a linear layer, or there is no example to check it with;
            the network is unchanged.
    """
    require_network(f"{caller}: the network", network)
    if num_examples(example_inputs) == 0:
        raise UsageError(f"{caller}: there is no example input to check that the logits change by the bias")
    layer = last_linear(network, bias.numel(), caller=caller)
    if bias.shape != layer.weight.shape[:1]:
        raise UsageError(f"{caller}: expected a bias {tuple(layer.weight.shape[:1])}, found {tuple(bias.shape)}")
    before = layer.bias
    with evaluation_mode(network), torch.no_grad():
        logits = forward_logits(network, example_inputs)
        moved = bias.to(layer.weight) if before is None else before + bias.to(before)
        layer.bias = nn.Parameter(moved, requires_grad=(layer.weight if before is None else before).requires_grad)
        if not torch.allclose(
            forward_logits(network, example_inputs), logits + bias.to(logits), atol=1e-4, rtol=1e-4
        ):
            layer.bias = before
            raise UsageError(
                f"{caller}: the logits do not come straight from the last linear layer; add the bias to the logits"
            )
