"""K networks of one architecture whose weights lie in the same tensors, computed by one product a layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from instar.errors import UsageError

PAYS_BELOW = 200_000  # parameters; above, a step is mostly its products, which stacking does not speed up
_HELP = "fit these one by one"


class NetworkStack:
    """K equal perceptrons as one function: (K, batch, *example_shape) -> (K, batch, classes).

    What is done to a member in place (a step of an optimiser, loaded weights) is done to the stack: the members'
    parameters become slices of the stacked ones.

    Args:
        networks: each an `nn.Sequential`, maybe nested, of Linear, ReLU and Flatten, in float32.

    Raises:
        UsageError: names the first obstacle.

    Example:
        >>> networks = [nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(4)]
        >>> NetworkStack(networks)(torch.zeros(4, 7, 3)).shape
        torch.Size([4, 7, 2])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        _check_stackable(networks)
        self.networks = tuple(networks)
        self._layers = _layers_in_order(networks[0])
        self._parameters = list(zip(*(network.parameters() for network in networks), strict=True))
        self.weights = []
        for members in self._parameters:
            stacked = torch.stack([member.detach() for member in members])
            for member, part in zip(members, stacked.unbind(), strict=True):
                member.data = part
            self.weights.append(stacked.requires_grad_())

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of each member on its own batch."""
        # Examples are columns: torch then computes both products and the gradients of the weights without a copy,
        # in half the time of rows or of vmap (mlp:30x2 to mlp:300x2), and fused SGD wants gradients laid out so.
        weights, values = iter(self.weights), inputs.flatten(2).transpose(1, 2)
        for layer in self._layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(weights), next(weights)
                values = torch.baddbmm(bias.unsqueeze(2), weight, values)
            elif isinstance(layer, nn.ReLU):
                values = values.relu()
        return values.transpose(1, 2)

    def backward(self, losses: Tensor) -> None:
        """Give each member's parameters the gradient of its own loss; `losses` is (K,)."""
        gradients = torch.autograd.grad(losses.sum(), self.weights)
        for members, stacked in zip(self._parameters, gradients, strict=True):
            for member, gradient in zip(members, stacked.unbind(), strict=True):
                member.grad = gradient

    def release(self) -> None:
        """Give each member memory of its own again, and no gradient; the stack is of no use after this."""
        for parameter in (member for members in self._parameters for member in members):
            parameter.data, parameter.grad = parameter.data.clone(), None


def stacking_pays(network: nn.Module) -> bool:
    """Whether K networks like this one are fitted clearly faster together than one by one (`benchmarks/`).

    Example:
        >>> stacking_pays(nn.Linear(784, 30)), stacking_pays(nn.Linear(784, 800))
        (True, False)
    """
    if sum(parameter.numel() for parameter in network.parameters()) >= PAYS_BELOW:
        return False
    try:
        _check_stackable([network])
    except UsageError:
        return False
    return True


def _check_stackable(networks: Sequence[nn.Module]) -> None:
    if not networks or len({id(network) for network in networks}) < len(networks):
        raise UsageError("a stack: give one network or more, each an object of its own")
    for number, network in enumerate(networks):
        if repr(network) != repr(networks[0]):
            raise UsageError(f"a stack: network {number} is built otherwise than network 0: {_HELP}")
        for name, parameter in network.named_parameters():
            if parameter.dtype != torch.float32 or not parameter.requires_grad:
                what = f"of {parameter.dtype}" if parameter.requires_grad else "frozen"
                raise UsageError(f"a stack: {name} of network {number} is {what}, which is not possible: {_HELP}")
    for layer in _layers_in_order(networks[0]):
        if not isinstance(layer, (nn.Linear, nn.ReLU, nn.Flatten)):
            what = f"{type(layer).__name__} is not"
            raise UsageError(f"a stack: {what} possible, only Linear, ReLU and Flatten in a Sequential: {_HELP}")
        if isinstance(layer, nn.Linear) and layer.bias is None:
            raise UsageError(f"a stack: a Linear without bias is not possible: {_HELP}")


def _layers_in_order(network: nn.Module) -> list[nn.Module]:
    if not isinstance(network, nn.Sequential):
        return [network]
    return [layer for child in network for layer in _layers_in_order(child)]
