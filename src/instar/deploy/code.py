"""The networks of a user's functions, recognised when their code was changed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from instar.errors import InstarError, UsageError
from instar.identity import first_difference
from instar.networks import build_network, identity_inputs, initialise_, network_identity


def network_in(config: Mapping[str, Any]) -> nn.Module:
    """The network in the configuration of a fit, initialised, without the weights of `NAME@WEIGHTS`."""
    fit, seed = config["fit"], config.get("seed", 0)
    initialiser = fit.get("initialiser", "he-normal")
    network = build_network(
        config["network"].partition("@")[0],
        input_shape=config["input_shape"],
        num_classes=len(config["class_names"]),
        seed=seed,
        dropout=fit["dropout"],
        input_dropout=fit["input_dropout"],
        initialiser=initialiser,
        normalisation=config.get("normalisation"),
    )
    return initialise_(network, initialiser, seed=seed) if fit.get("new_weights") else network


def code_identity(config: Mapping[str, Any], data_name: str = "the data") -> dict[str, Any] | None:
    """What a user's network in a job's configuration is known by before it is trained; None for ours."""
    name = config["network"].partition("@")[0]
    if not name.startswith("python:"):
        return None
    return identity_of(network_in(config), name, identity_inputs(config["input_shape"]), data_name=data_name)


def identity_of(
    network: nn.Module, name: str, examples: Tensor, *, trained: bool = True, data_name: str = "the data"
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
        shape, words = tuple(examples.shape[1:]), " ".join(str(error).split())
        raise UsageError(f"{name} cannot take the examples of {data_name}, {shape}: {words}") from error


def check_code(config: Mapping[str, Any], where: object) -> None:
    """Refuse a network of a user's function that is another one than when its run began; `where` names the run.

    Raises:
        UsageError: names the difference.
    """
    config = config.get("adopted", config)
    there = config.get("network_identity")
    if there and (difference := first_difference(there, code_identity(config), "network")):
        raise UsageError(
            f"{where}: {config['network']} gives another network now than when this run began: {difference}"
            "; undo the change of its code, or train it anew in another --run-dir; if it is random, seed it"
        )
