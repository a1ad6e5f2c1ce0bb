"""Named initialisers: pure functions of the network's shapes and a seed."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

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


def _gaussian(sd: float) -> "Draw":
    def draw(weight: Tensor, generator: torch.Generator) -> None:
        weight.normal_(0, sd, generator=generator)

    return draw


Draw = Callable[[Tensor, torch.Generator], None]


class Start(NamedTuple):
    """The initialisation of a layer: a function that draws its weights in place, and the value of its biases."""

    draw: Draw
    bias: float = 0.0


_INITIALISERS: dict[str, Draw] = {
    "he-normal": _he_normal,
    "glorot-uniform": _glorot_uniform,
    "lecun-uniform": _lecun_uniform,
}
_CAFFENET = (
    *(Start(_gaussian(0.01), bias) for bias in (0, 1, 0, 1, 1)),  # conv1 to conv5
    *(Start(_gaussian(0.005), 1), Start(_gaussian(0.005), 1), Start(_gaussian(0.01), 0)),  # fc6, fc7, fc8
)
_NAMES = (*_INITIALISERS, "gaussian:SD", "caffenet")


def initialise_(network: nn.Module, name: str, *, seed: int) -> nn.Module:
    """Initialise the weights of every linear and convolutional layer, in place.

    Biases become 0; normalisation is reset: scale 1, shift 0, no statistics; embeddings are drawn from N(0, 1), as
    torch does, or with the `initial_sd` that they state, and that of padding is 0.

    Args:
        network: any module.
        name: `he-normal` (sd sqrt(2 / fan_in), for ReLU), `glorot-uniform`, `lecun-uniform`, `gaussian:SD` with a
            fixed standard deviation (0.01 in the 2012 recipe), or `caffenet`, for that network only: sd 0.01
            (0.005 in fc6 and fc7), biases 1 except in conv1, conv3 and fc8.
        seed: the same seed gives the same weights, whatever was drawn before.

    Raises:
        UsageError: an unknown initialiser, or one for another network, or a weight that a hook computes.

    Example:
        >>> one, two = (initialise_(nn.Linear(3, 2), "he-normal", seed=4) for _ in range(2))
        >>> torch.equal(one.weight, two.weight)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    weighted = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))]
    with torch.no_grad():
        for layer, start in zip(weighted, find_initialiser(name)(len(weighted)), strict=True):
            weight = torch.empty(layer.weight.shape)  # drawn in main memory, for the same bits on every device
            start.draw(weight, generator)
            _set_weight(layer, weight)
            if layer.bias is not None:
                layer.bias.fill_(start.bias)
        for module in network.modules():
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                _draw_embedding_(module, generator)
            if isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)):
                module.reset_parameters()
    return network


def _draw_embedding_(module: nn.Embedding | nn.EmbeddingBag, generator: torch.Generator) -> None:
    weight = torch.empty(module.weight.shape).normal_(0, getattr(module, "initial_sd", 1.0), generator=generator)
    if module.padding_idx is not None:
        weight[module.padding_idx] = 0
    _set_weight(module, weight)


def _set_weight(layer: nn.Module, weight: Tensor) -> None:
    """Set the weight of a layer, also where a parametrisation computes it from other parameters."""
    if is_parametrized(layer, "weight"):
        layer.weight = weight.to(next(layer.parameters()))
    elif isinstance(layer.weight, nn.Parameter):
        layer.weight.copy_(weight)
    else:
        raise UsageError(
            f"{layer}: its weight is computed from other parameters by a hook, and cannot be initialised; use "
            "torch.nn.utils.parametrizations in place of torch.nn.utils"
        )


def find_initialiser(name: str) -> Callable[[int], list[Start]]:
    """A function from the number of layers with weights to their initialisations, first to last.

    Raises:
        UsageError: an unknown initialiser; the returned function, for a number of layers that does not fit.
    """
    kind, _, argument = name.partition(":")
    if name == "caffenet":
        return _begin_caffenet
    if kind == "gaussian":
        draw = _gaussian(_sd(name, argument))
    elif name in _INITIALISERS:
        draw = _INITIALISERS[name]
    else:
        raise unknown_name("initialiser", name, _NAMES)
    return lambda num_layers: [Start(draw)] * num_layers


def _begin_caffenet(num_layers: int) -> list[Start]:
    if num_layers != len(_CAFFENET):
        raise UsageError(
            f"initialiser 'caffenet' is for the {len(_CAFFENET)} layers of caffenet, found {num_layers}"
        )
    return list(_CAFFENET)


def _sd(name: str, argument: str) -> float:
    try:
        sd = float(argument)
    except ValueError:
        sd = math.nan
    if not 0 < sd < math.inf:
        raise UsageError(f"initialiser {name!r} should be gaussian:SD with SD above 0, for instance gaussian:0.01")
    return sd
