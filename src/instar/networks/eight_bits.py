"""A network that computes as its file in eight-bit integers will, and can be trained so."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from instar.networks.logits import forward_logits
from instar.networks.modes import evaluation_mode
from instar.structures import Inputs, split_examples

_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LARGEST = 64  # of a weight in seven bits
_STEPS = 255  # between the ends of the range of an input
_BATCH = 64


@contextmanager
def in_eight_bits(network: nn.Module, inputs: Inputs) -> Iterator[list[str]]:
    """Within the block, linear layers and convolutions round their inputs to eight bits, their weights to seven.

    A weight w of output channel c becomes s round(w / s) with s = max |w_c| / 64; an input x becomes one of 256
    values between the lowest and the highest that the layer got from `inputs`. The gradient passes the rounding as
    if it were not there, and is 0 outside the range (straight-through). Weights and names stay what they are:
    after the block the network computes in floating point again.

    Args:
        network: changed in place, until the end of the block.
        inputs: examples by which the ranges are found.

    Yields:
        The names of the layers.

    Example:
        >>> network = nn.Sequential(nn.Linear(1, 1, bias=False))
        >>> _ = network[0].weight.data.fill_(0.5)
        >>> inputs = torch.tensor([[0.0], [255.0]])
        >>> with in_eight_bits(network, inputs) as names:
        ...     names, network(torch.tensor([[2.4], [999.0]])).flatten().tolist()
        (['0'], [1.0, 127.5])

    References:
        Jacob et al. 2018 (arXiv 1712.05877), section 3; Bengio et al. 2013 (arXiv 1308.3432) for the gradient.
    """
    layers = {name: module for name, module in network.named_modules() if type(module) in _ROUNDED}
    ranges = _ranges(network, layers, inputs)
    for name in ranges:  # a layer that was not called has none
        layers[name].forward = functools.partial(_forward, layers[name], *ranges[name])
    try:
        yield list(ranges)
    finally:
        for name in ranges:
            del layers[name].forward


def _ranges(network: nn.Module, layers: dict[str, nn.Module], inputs: Inputs) -> dict[str, tuple[float, float]]:
    """The lowest and the highest input of each layer; 0 is between them."""
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        low, high = found.get(name, (0.0, 0.0))
        found[name] = min(low, float(args[0].min())), max(high, float(args[0].max()))

    hooks = [module.register_forward_pre_hook(functools.partial(note, name)) for name, module in layers.items()]
    try:
        with evaluation_mode(network), torch.no_grad():
            for batch in split_examples(inputs, _BATCH):
                forward_logits(network, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _forward(layer: Any, low: float, high: float, inputs: Tensor) -> Tensor:
    scale = max(high - low, 1e-8) / _STEPS
    rounded = torch.fake_quantize_per_tensor_affine(inputs, scale, round(-low / scale), 0, _STEPS)
    weight = _rounded_weight(layer.weight)
    if isinstance(layer, nn.Linear):
        return linear(rounded, weight, layer.bias)
    found: Tensor = layer._conv_forward(rounded, weight, layer.bias)
    return found


def _rounded_weight(weight: Tensor) -> Tensor:
    scales = weight.detach().abs().flatten(1).amax(1).clamp(min=1e-12) / _LARGEST
    zeros = torch.zeros(len(scales), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -_LARGEST, _LARGEST)
