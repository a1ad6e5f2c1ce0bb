"""The networks of a user's functions and of libraries, recognised when their code was changed."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from instar.errors import InstarError, UsageError
from instar.identity import first_difference
from instar.naming import is_of_library
from instar.networks import build_network, identity_inputs, initialise_, network_identity
from instar.structures import NUM_SAMPLES, SOUND, TEXT, Inputs, first_examples, in_words, read_form, up_to


def network_in(config: Mapping[str, Any]) -> nn.Module:
    """The network in the configuration of a fit, initialised, without the weights that its name brings."""
    fit, seed = config["fit"], config.get("seed", 0)
    initialiser = fit.get("initialiser", "he-normal")
    network = build_network(
        config["network"],
        input_shape=read_form(config["input_shape"]),
        num_classes=len(config["class_names"]),
        seed=seed,
        dropout=fit["dropout"],
        input_dropout=fit["input_dropout"],
        initialiser=initialiser,
        normalisation=config.get("normalisation"),
        class_names=config["class_names"],
        weights="none",
        described=config.get("described"),
        table=_table_of(config),
    )
    is_anew = fit.get("new_weights") and not is_of_library(config["network"])  # that is untrained as it is
    return initialise_(network, initialiser, seed=seed) if is_anew else network


def _table_of(config: Mapping[str, Any]) -> Any:
    """The columns of a table that an estimator in the network is asked about."""
    if "table" not in config:
        return None
    from instar.data.kinds import table  # it needs Arrow, which other networks do not

    return table.read(config["table"])


def code_identity(config: Mapping[str, Any], data_name: str = "the data") -> dict[str, Any] | None:
    """What a network in a job's configuration is known by before it is trained; None for ours.

    That of a library is known as it is initialised from seed 0: its functions do not depend on the seed.
    """
    name = config["network"].partition("@")[0]
    if is_of_library(name):
        fit = {key: config["fit"].get(key) for key in _OF_NETWORK}
        return dict(_of_library(json.dumps({**{key: config.get(key) for key in _BUILT_FROM}, "fit": fit})))
    if not name.startswith("python:"):
        return None
    return identity_of(
        network_in(config), name, identity_inputs(read_form(config["input_shape"])), data_name=data_name
    )


_BUILT_FROM = ("network", "input_shape", "class_names", "normalisation", "described")
_OF_NETWORK = ("dropout", "input_dropout")


@functools.lru_cache(maxsize=16)  # a process that plans many fits of one network, or loads several
def _of_library(config: str) -> Mapping[str, Any]:
    about = json.loads(config)
    network, form = network_in(about), read_form(about["input_shape"])
    if getattr(network, "reads_text", False):
        form = {TEXT: ("int32", up_to(8))}
    elif getattr(network, "hears_sound", False):
        form = {SOUND: (network.sample_rate,), NUM_SAMPLES: ("int64",)}
    return identity_of(network, about["network"], first_examples(identity_inputs(form), 2))


def identity_of(
    network: nn.Module, name: str, examples: Inputs, *, trained: bool = True, data_name: str = "the data"
) -> dict[str, Any]:
    """`network_identity` of a user's network.

    Raises:
        UsageError: its forward fails; quotes the error.
    """
    try:
        return network_identity(network, examples, trained=trained)
    except InstarError:
        raise
    except Exception as error:  # a user's forward may fail in any way
        words = " ".join(str(error).split())
        raise UsageError(
            f"{name} cannot take the examples of {data_name}, {in_words(examples)}: {words}"
        ) from error


def check_code(config: Mapping[str, Any], where: object) -> None:
    """Refuse a network of a user's function or of a library that is another one than when its run began.

    Args:
        config: of the run.
        where: names the run.

    Raises:
        UsageError: names the difference.
    """
    config = config.get("adopted", config)
    there = config.get("network_identity")
    if there and (difference := first_difference(there, code_identity(config), "network")):
        cure = (
            "install the version that it began with, or train it anew in another --run-dir"
            if is_of_library(config["network"])
            else "undo the change of its code, or train it anew in another --run-dir; if it is random, seed it"
        )
        raise UsageError(
            f"{where}: {config['network']} gives another network now than when this run began: {difference}"
            f"; {cure}"
        )
