"""Networks as ordered named layers."""

from instar.networks.architectures import ResidualBlock, convnet, perceptron, residual
from instar.networks.initialisers import find_initialiser, initialise_
from instar.networks.layers import (
    Cut,
    Layer,
    assert_frozen,
    cut,
    evaluation_mode,
    freeze_,
    layers_of,
    network_fingerprint,
    state_hashes,
)
from instar.networks.named import build_network, load_state_, load_weights_

__all__ = [
    "Cut",
    "Layer",
    "ResidualBlock",
    "assert_frozen",
    "build_network",
    "convnet",
    "cut",
    "evaluation_mode",
    "find_initialiser",
    "freeze_",
    "initialise_",
    "layers_of",
    "load_state_",
    "load_weights_",
    "network_fingerprint",
    "perceptron",
    "residual",
    "state_hashes",
]
