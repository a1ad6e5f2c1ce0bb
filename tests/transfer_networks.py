"""Users' networks of many kinds, for `python:transfer_networks:NAME`; each takes 1x8x8 pictures."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormalisedByHand(nn.Module):
    """A stage that normalises without calling its BatchNorm: `eval()` of that one does not reach it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, inputs: Tensor) -> Tensor:
        norm = self.norm
        return F.batch_norm(
            self.linear(inputs), norm.running_mean, norm.running_var, norm.weight, norm.bias, self.training
        )


class DroppingByHand(nn.Module):
    """A stage whose dropout is no module."""

    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(inputs, 0.3, self.training)


class Branching(nn.Module):
    """Another stage for dark pictures than for bright ones."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.dark, self.bright, self.head = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        pixels = inputs.flatten(1)
        return self.head(torch.relu(self.bright(pixels) if float(pixels.mean()) > 0.3 else self.dark(pixels)))


class Wrapped(nn.Module):
    """All of it in one child, with a normalisation between the layers that somebody would name."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(),
            nn.Linear(8, num_classes),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


class Positioned(nn.Module):
    """Eight rows as tokens; an embedding that belongs to no layer, and a scale that only the logits see."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.positions, self.scale = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.ones(num_classes))
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        self.head = nn.Linear(64, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.squeeze(1) + self.positions
        for block in self.blocks:  # never called itself
            tokens = torch.relu(block(tokens))
        return self.head(tokens.flatten(1)) * self.scale


class Functional(nn.Module):
    """Calls none of its modules."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs.flatten(1), self.linear.weight)


def _chain(num_classes: int, first: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            one=first,
            two=nn.Sequential(nn.Linear(width, 16), nn.ReLU()),
            three=nn.Sequential(nn.Linear(16, 12), nn.ReLU()),
            four=nn.Linear(12, num_classes),
        )
    )


def normalised(num_classes: int) -> nn.Module:
    """A convolution with BatchNorm, then full layers."""
    first = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    return _chain(num_classes, first, 36)


def unfreezing(num_classes: int) -> nn.Module:
    """Its statistics move however its BatchNorm was set."""
    return _chain(num_classes, nn.Sequential(nn.Flatten(), NormalisedByHand(64)), 64)


def dropping(num_classes: int) -> nn.Module:
    """Dropout by hand in the first layer."""
    return _chain(num_classes, nn.Sequential(nn.Flatten(), nn.Linear(64, 32), DroppingByHand()), 32)


def batchwise(num_classes: int) -> nn.Module:
    """A BatchNorm that keeps no statistics, so features depend on the rest of the batch."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32, track_running_stats=False))
    return _chain(num_classes, first, 32)


def branching(num_classes: int) -> nn.Module:
    return Branching(num_classes)


def wrapped(num_classes: int) -> nn.Module:
    return Wrapped(num_classes)


def positioned(num_classes: int) -> nn.Module:
    return Positioned(num_classes)


def functional(num_classes: int) -> nn.Module:
    return Functional(num_classes)
