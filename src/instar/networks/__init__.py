"""Networks as ordered named layers."""

from instar.networks.architectures import ResidualBlock, convnet, perceptron, residual
from instar.networks.cutting import Cut, cut
from instar.networks.freezing import assert_frozen, freeze_, network_fingerprint, state_hashes
from instar.networks.initialisers import find_initialiser, initialise_
from instar.networks.layers import Layer, evaluation_mode, layers_of, trace
from instar.networks.named import build_network, load_state_, load_weights_
from instar.networks.stacks import NetworkStack, stacking_pays

__all__ = [
    "Cut",
    "Layer",
    "NetworkStack",
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
    "stacking_pays",
    "state_hashes",
    "trace",
]
