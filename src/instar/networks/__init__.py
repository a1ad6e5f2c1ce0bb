"""Networks as ordered named layers."""

from instar.networks.architectures import MixtureOfExperts, ResidualBlock, caffenet, convnet, perceptron, residual
from instar.networks.cutting import Cut, cut
from instar.networks.freezing import assert_frozen, freeze_, network_fingerprint, prefix_state, state_hashes
from instar.networks.initialisers import find_initialiser, initialise_
from instar.networks.inputs import change_normalisation_, serve_own_needs_
from instar.networks.layers import (
    Layer,
    channels_last_,
    check_same_path,
    evaluation_mode,
    layers_of,
    name_layers_,
    named_layers,
    trace,
)
from instar.networks.logit_layer import last_linear, shift_logits_
from instar.networks.named import build_network
from instar.networks.weights import load_state_, load_weights_

__all__ = [
    "Cut",
    "Layer",
    "MixtureOfExperts",
    "ResidualBlock",
    "assert_frozen",
    "build_network",
    "caffenet",
    "change_normalisation_",
    "channels_last_",
    "check_same_path",
    "convnet",
    "cut",
    "evaluation_mode",
    "find_initialiser",
    "freeze_",
    "initialise_",
    "last_linear",
    "layers_of",
    "load_state_",
    "load_weights_",
    "name_layers_",
    "named_layers",
    "network_fingerprint",
    "perceptron",
    "prefix_state",
    "residual",
    "serve_own_needs_",
    "shift_logits_",
    "state_hashes",
    "trace",
]
