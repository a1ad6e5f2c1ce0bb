"""Builds the network that a name describes, and loads weights."""

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.arguments import require_text
from instar.errors import UsageError
from instar.machine import memory_bytes
from instar.naming import import_function, is_of_library, unknown_name
from instar.networks.architectures import MixtureOfExperts, caffenet, convnet, perceptron, residual, vgg
from instar.networks.estimators import Columns
from instar.networks.fitted import FittedEstimator, is_estimator
from instar.networks.initialisers import initialise_
from instar.networks.inputs import Normalisation, check_channels, serve_own_needs_
from instar.networks.libraries import FORMS as OF_LIBRARIES
from instar.networks.libraries import Weights, build_from_library
from instar.networks.modes import is_materialised, materialise_
from instar.networks.stages import name_stages_
from instar.networks.teacher_files import is_teacher_file, read_teacher
from instar.networks.text_networks import TEXT_FORMS, is_text_network, text_network
from instar.networks.weights import load_weights_
from instar.structures import Form, examples_in, form_in_words, is_plain, read_form

_MIXTURE = "mixture:4/convnet:8/convnet:8x8"
_OF_PICTURES = {"convnet": convnet, "resnet": residual, "vgg": vgg}
FORMS = (
    "mlp:800x2",
    "mlp:300-100",
    "convnet:8",
    "resnet:20",
    "vgg:8",
    "caffenet",
    _MIXTURE,
    *TEXT_FORMS,
    "python:MODULE:FUNCTION",
    *OF_LIBRARIES,
)


def build_network(
    name: str,
    *,
    input_shape: Form,
    num_classes: int,
    seed: int,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    initialiser: str = "he-normal",
    normalisation: Normalisation | None = None,
    weights: Weights = "start",
    class_names: Sequence[str] | None = None,
    described: Mapping[str, str] | None = None,
    table: Columns | None = None,
) -> nn.Module:
    """The network that a name describes, freshly initialised from `seed`.

    Args:
        name: `mlp:UNITSxLAYERS`, `mlp:U1-U2-...`, `convnet:DEPTH`, `resnet:DEPTH`, `vgg:DEPTH`, or
            `convnet:DEPTHxCHANNELS` with the channels of the first convolution; `caffenet`;
            `mixture:EXPERTS/EXPERT/GATE`, where EXPERT and GATE are names of networks; for texts `bag:DIM`,
            `textconv:C1-C2-...`, `transformer:LAYERSxWIDTH`
            (`text_network`); or `python:MODULE:FUNCTION`, a function that returns a module and takes
            any of `input_shape`, `num_classes` and `seed`; or the network of a library: `timm:NAME`,
            `torchvision:NAME`, `transformers:PATH`, with `:PIXELS` for pictures of another size. `NAME@FILE` then
            loads weights (safetensors, or a state dict of tensors), `NAME@pretrained` those of the library.
            `onnx:FILE` and its like (`read_teacher`) are teachers, which are not trained; `forest`, `lightgbm`,
            `xgboost` and `catboost` are teachers that their libraries fit (`FittedEstimator`).
        input_shape: shape of one example, or its form where it is no single tensor of numbers.
        num_classes: number of logits.
        seed: of the initialisation.
        dropout: probability of dropping an output of a hidden layer.
        input_dropout: probability of dropping an input, for perceptrons.
        initialiser: as for `initialise_`; the module of a user's function keeps its own weights.
        normalisation: `mean` and `std` that the inputs have been normalised with. A user's module that states a
            size or a normalisation of its own (`input_size`, `input_normalisation`) gets its inputs so, and so
            does the network of a library.
        weights: what weights that the name brings are for: `start`, to be trained further; `own`, to be used as
            they are; `none`, not loaded. It makes a difference where a library's network has a head of other
            classes than the data's: to be trained it gets a new one.
        class_names: of the data, by which the classes of a library's network, or of a teacher in a file, are
            found; for the latter by default "0", "1", ...
        described: the files that describe a network of a folder, by name, where the folder may be gone.
        table: the columns that examples were made of, where they are rows of a table, for a teacher in a file.

    Raises:
        UsageError: an unknown network, or options that do not fit it.
        DataError: the weights are damaged or of another architecture.

    Example:
        >>> net = build_network("mlp:30x2", input_shape=(1, 28, 28), num_classes=10, seed=0)
        >>> [tuple(p.shape) for p in net.parameters() if p.ndim == 2]
        [(30, 784), (30, 30), (10, 30)]
    """
    require_text("the network's name", name, FORMS[0])
    if is_teacher_file(name):
        names = class_names or [str(number) for number in range(num_classes)]
        about: dict[str, Any] = {"normalisation": normalisation, "table": table}
        return read_teacher(name, class_names=names, example_shape=input_shape, **about)
    if is_estimator(name):
        if not is_plain(input_shape):
            raise UsageError(f"{name} takes rows of numbers, an example is {form_in_words(input_shape)}")
        return FittedEstimator(name, num_classes=num_classes, seed=seed)
    spec = name
    name, _, file = name.partition("@")
    if not 0 <= dropout < 1 or not 0 <= input_dropout < 1:
        raise UsageError(f"dropout {dropout} and input_dropout {input_dropout} should be in [0, 1)")
    is_ours = not name.startswith("python:") and not is_of_library(name)
    if (dropout or input_dropout) and not is_ours:
        decides = "function of network" if name.startswith("python:") else "library of network"
        raise UsageError(f"the {decides} {name!r} decides its dropout; set dropout to 0 here")
    if is_of_library(name):
        network = build_from_library(
            spec,
            input_shape=input_shape,
            num_classes=num_classes,
            seed=seed,
            weights=weights,
            class_names=class_names,
            normalisation=normalisation,
            described=described,
        )
        check_channels(network, input_shape, name)
        _name_stages_(network, name, input_shape)
        return network
    if not is_ours:
        network = _users_network(name, input_shape, num_classes, seed)
        serve_own_needs_(network, normalisation)
        _materialise_(network, name, input_shape, seed)
        check_channels(network, input_shape, name)
    else:
        _check_memory(name, input_shape, num_classes)
        network = _named(name, input_shape, num_classes, dropout, input_dropout)
        initialise_(network, initialiser, seed=seed)
    if file and weights != "none":
        load_weights_(network, Path(file), name)
    return network


def _check_memory(name: str, input_shape: Form, num_classes: int) -> None:
    """Refuse a network whose weights alone take more memory than there is: the system would kill the process."""
    with torch.device("meta"):
        network = _named(name, input_shape, num_classes, 0.0, 0.0)
    taken = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    memory = memory_bytes()
    if memory is not None and taken > memory:
        raise UsageError(
            f"the weights of network {name!r} take {taken / 2**30:,.0f} GiB, this machine has "
            f"{memory / 2**30:,.0f} GiB of memory: take a smaller one"
        )


def _named(
    name: str, input_shape: Sequence[int], num_classes: int, dropout: float, input_dropout: float
) -> nn.Module:
    kind, _, size = name.partition(":")
    if kind == "mixture":
        return _mixture(name, size, input_shape, num_classes, dropout, input_dropout)
    if is_text_network(name):
        if input_dropout:
            raise UsageError(f"network {name!r} has no input dropout; set input_dropout to 0")
        with torch.random.fork_rng(devices=[]):
            return text_network(name, read_form(input_shape), num_classes, dropout=dropout)
    if not is_plain(input_shape):
        raise UsageError(
            f"network {name!r} takes single tensors of numbers, an example is {form_in_words(input_shape)}; "
            f"for texts there are {', '.join(TEXT_FORMS)}, and python:MODULE:FUNCTION names one of your own"
        )
    if kind == "mlp":
        hidden = _hidden_units(name, size)
        with torch.random.fork_rng(devices=[]):
            return perceptron(input_shape, hidden, num_classes, dropout=dropout, input_dropout=input_dropout)
    if name == "caffenet":
        if input_dropout:
            raise UsageError("network 'caffenet' has no input dropout; set input_dropout to 0")
        with torch.random.fork_rng(devices=[]):
            return caffenet(input_shape, num_classes, dropout=dropout)
    build = _OF_PICTURES.get(kind)
    if build is None:
        forms = {form.partition(":")[0]: form for form in reversed(FORMS)}
        near = difflib.get_close_matches(kind, forms, n=1)  # without the size, which would make it less similar
        if near:
            raise UsageError(f"unknown network {name!r}; did you mean {forms[near[0]]}? Known: {', '.join(FORMS)}")
        raise unknown_name("network", name, FORMS)
    sized = re.fullmatch("([0-9]{1,4})(?:x([1-9][0-9]{0,3}))?", size)
    if not sized:
        raise UsageError(
            f"network {name!r} should be {kind}:DEPTH or {kind}:DEPTHxCHANNELS, for instance {kind}:8"
        )
    if input_dropout:
        raise UsageError(f"network {name!r} has no input dropout; set input_dropout to 0")
    width = {"width": int(sized[2])} if sized[2] else {}
    with torch.random.fork_rng(devices=[]):
        return build(input_shape, int(sized[1]), num_classes, dropout=dropout, **width)


def _mixture(
    name: str, size: str, input_shape: Sequence[int], num_classes: int, dropout: float, input_dropout: float
) -> nn.Module:
    number, _, parts = size.partition("/")
    networks = parts.split("/")
    if not re.fullmatch("[1-9][0-9]?", number) or len(networks) != 2 or "mixture:" in parts:
        raise UsageError(f"network {name!r} should be mixture:EXPERTS/EXPERT/GATE, {_MIXTURE} for instance")
    expert, gate = networks
    experts = [_named(expert, input_shape, num_classes, dropout, input_dropout) for _ in range(int(number))]
    return MixtureOfExperts(experts, _named(gate, input_shape, int(number), dropout, input_dropout))


def _hidden_units(name: str, size: str) -> list[int]:
    uniform = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", size)
    if uniform:
        return [int(uniform[1])] * int(uniform[2])
    if re.fullmatch("[1-9][0-9]*(-[1-9][0-9]*)*", size):
        return [int(units) for units in size.split("-")]
    raise UsageError(f"network {name!r} should be mlp:UNITSxLAYERS or mlp:U1-U2-..., for instance mlp:800x2")


def _users_network(name: str, input_shape: Sequence[int], num_classes: int, seed: int) -> nn.Module:
    function = import_function(name)
    offered = {"input_shape": read_form(input_shape), "num_classes": num_classes, "seed": seed}
    wanted = inspect.signature(function).parameters
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = function(**{key: value for key, value in offered.items() if key in wanted})
        except TypeError as error:
            if missing := [key for key, one in wanted.items() if one.default is one.empty and key not in offered]:
                raise UsageError(
                    f"{name} needs {missing[0]}, which nobody gives it: it is called with what it takes of "
                    f"{', '.join(offered)}"
                ) from error
            raise
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} should return a torch.nn.Module; it returned {type(network).__name__}")
    return network


def _name_stages_(network: nn.Module, name: str, input_shape: Form) -> None:
    is_asked = getattr(network, "reads_text", False) or getattr(network, "hears_sound", False)
    if is_asked:  # it has no layers to be copied
        return
    try:
        name_stages_(network, examples_in(input_shape, 1))
    except UsageError:
        raise
    except Exception as error:  # of somebody else's forward
        shape, reason = read_form(input_shape), " ".join(str(error).split())
        raise UsageError(f"{name} cannot take examples of shape {shape}: {reason}") from error


def _materialise_(network: nn.Module, name: str, input_shape: Sequence[int], seed: int) -> None:
    """Draw the weights of lazy modules from the seed."""
    if is_materialised(network):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            materialise_(network, examples_in(input_shape, 2))
        except Exception as error:  # of a user's module
            shape, reason = read_form(input_shape), " ".join(str(error).split())
            raise UsageError(f"{name} cannot take examples of shape {shape}: {reason}") from error
