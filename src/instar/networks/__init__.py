"""Networks as ordered named layers."""

from instar.files import file_hash
from instar.networks.architectures import (
    MixtureOfExperts,
    ResidualBlock,
    caffenet,
    convnet,
    perceptron,
    residual,
    vgg,
)
from instar.networks.asked import AskedNetwork, AskedTeacher, is_asked
from instar.networks.cutting import Cut, cut
from instar.networks.fitted import ESTIMATORS, FittedEstimator, is_estimator
from instar.networks.freezing import assert_frozen, freeze_, prefix_state, state_hashes
from instar.networks.identity import identity_inputs, network_fingerprint, network_identity
from instar.networks.initialisers import find_initialiser, initialise_
from instar.networks.inputs import change_normalisation_, serve_own_needs_
from instar.networks.layers import (
    Layer,
    check_same_path,
    layers_of,
    name_layers_,
    named_layers,
    trace,
)
from instar.networks.libraries import brings_weights, described, head_change
from instar.networks.logit_layer import last_linear, shift_logits_
from instar.networks.logits import (
    as_logits,
    call,
    check_shape,
    forward_logits,
    input_type,
    name_logits_,
    named_logits,
)
from instar.networks.modes import (
    casting,
    casting_once,
    channels_last_,
    evaluation_,
    evaluation_mode,
    fails_on_one,
    is_compiled,
    materialise_,
    training_,
    unchanged,
    uncompiled,
    without_compiler,
)
from instar.networks.named import build_network
from instar.networks.teacher_files import TEACHER_FORMS, asked_network, is_teacher_file, read_teacher
from instar.networks.weights import copied, extra_state_of, load_state_, load_weights_, plain_name, tensors_of

__all__ = [
    "ESTIMATORS",
    "TEACHER_FORMS",
    "AskedNetwork",
    "AskedTeacher",
    "Cut",
    "FittedEstimator",
    "Layer",
    "MixtureOfExperts",
    "ResidualBlock",
    "as_logits",
    "asked_network",
    "assert_frozen",
    "brings_weights",
    "build_network",
    "caffenet",
    "call",
    "casting",
    "casting_once",
    "change_normalisation_",
    "channels_last_",
    "check_same_path",
    "check_shape",
    "convnet",
    "copied",
    "cut",
    "described",
    "evaluation_",
    "evaluation_mode",
    "extra_state_of",
    "fails_on_one",
    "file_hash",
    "find_initialiser",
    "forward_logits",
    "freeze_",
    "head_change",
    "identity_inputs",
    "initialise_",
    "input_type",
    "is_asked",
    "is_compiled",
    "is_estimator",
    "is_teacher_file",
    "last_linear",
    "layers_of",
    "load_state_",
    "load_weights_",
    "materialise_",
    "name_layers_",
    "name_logits_",
    "named_layers",
    "named_logits",
    "network_fingerprint",
    "network_identity",
    "perceptron",
    "plain_name",
    "prefix_state",
    "read_teacher",
    "residual",
    "serve_own_needs_",
    "shift_logits_",
    "state_hashes",
    "tensors_of",
    "trace",
    "training_",
    "unchanged",
    "uncompiled",
    "vgg",
    "without_compiler",
]
