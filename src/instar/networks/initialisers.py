"""Named initialisers: a pure function of the network's shapes and a seed."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.naming import unknown_name


def _fans(weight: Tensor) -> tuple[int, int]:
    receptive = weight[0][0].numel()
    return weight.shape[1] * receptive, weight.shape[0] * receptive


def _he_normal(weight: Tensor, generator: torch.Generator) -> None:
    weight.normal_(0, math.sqrt(2 / _fans(weight)[0]), generator=generator)


def _glorot_uniform(weight: Tensor, generator: torch.Generator) -> None:
    bound = math.sqrt(6 / sum(_fans(weight)))
    weight.uniform_(-bound, bound, generator=generator)


def _lecun_uniform(weight: Tensor, generator: torch.Generator) -> None:
    bound = math.sqrt(3 / _fans(weight)[0])
    weight.uniform_(-bound, bound, generator=generator)


_INITIALISERS: dict[str, Callable[[Tensor, torch.Generator], None]] = {
    "he-normal": _he_normal,
    "glorot-uniform": _glorot_uniform,
    "lecun-uniform": _lecun_uniform,
}


def initialise_(network: nn.Module, name: str, *, seed: int) -> nn.Module:
    """Draw the weights of every linear and convolutional layer anew, in place.

    Biases become 0, normalisations as new: scale 1, shift 0, no statistics.

    Args:
        network: the network.
        name: `he-normal` (sd sqrt(2 / fan_in), for ReLU), `glorot-uniform`, `lecun-uniform`, or
            `gaussian:SD` with a fixed standard deviation (0.01 in the 2012 recipe).
        seed: the same seed gives the same weights, whatever was drawn before.

    Raises:
        UsageError: no such initialiser.

    Example:
        >>> one, two = (initialise_(nn.Linear(3, 2), "he-normal", seed=4) for _ in range(2))
        >>> torch.equal(one.weight, two.weight)
        True
    """
    draw = find_initialiser(name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                weight = torch.empty(module.weight.shape)  # drawn in main memory: the same bits on every device
                draw(weight, generator)
                module.weight.copy_(weight)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)):
                module.reset_parameters()
    return network


def find_initialiser(name: str) -> Callable[[Tensor, torch.Generator], None]:
    """What draws a weight, in place, from a generator.

    Raises:
        UsageError: no such initialiser.
    """
    kind, _, argument = name.partition(":")
    if kind != "gaussian":
        if name not in _INITIALISERS:
            raise unknown_name("initialiser", name, [*_INITIALISERS, "gaussian:SD"])
        return _INITIALISERS[name]
    try:
        sd = float(argument)
    except ValueError:
        sd = math.nan
    if not 0 < sd < math.inf:
        raise UsageError(f"initialiser {name!r} should be gaussian:SD with SD above 0, for instance gaussian:0.01")

    def gaussian(weight: Tensor, generator: torch.Generator) -> None:
        weight.normal_(0, sd, generator=generator)

    return gaussian
