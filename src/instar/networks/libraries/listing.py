"""What the libraries offer by name."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from instar.errors import UsageError
from instar.naming import LIBRARIES
from instar.networks.libraries import of_timm, of_torchvision, of_transformers

_MOST_BUILT = 40  # networks whose weights are counted: each takes some hundredths of a second


class Listed(NamedTuple):
    """A network that can be built by name."""

    name: str
    parameters: int | None
    """weights of the network with its own head; None where they are not counted"""
    pretrained: int
    """how many kinds of weights the library offers for it"""


def missing() -> list[str]:
    """The libraries that are not installed."""
    packages = {
        "timm": of_timm.timm,
        "torchvision": of_torchvision.models,
        "transformers": of_transformers.transformers,
    }
    return [name for name in LIBRARIES if not _is_there(packages[name])]


def listed(word: str = "") -> list[Listed]:
    """The networks of the installed libraries whose names hold a word; transformers lists none: it builds folders.

    Example:
        >>> listed("no_such_network")
        []
    """
    found = [*_of_timm(word), *_of_torchvision(word)]
    if len(found) > _MOST_BUILT:
        return found
    return [one if one.parameters is not None else one._replace(parameters=_count(one.name)) for one in found]


def _of_timm(word: str) -> Iterator[Listed]:
    if not _is_there(of_timm.timm):
        return
    package = of_timm.timm()
    kinds = [name.partition(".")[0] for name in package.list_pretrained(f"*{word}*")]
    for name in package.list_models(f"*{word}*"):
        yield Listed(f"timm:{name}", None, kinds.count(name))


def _of_torchvision(word: str) -> Iterator[Listed]:
    if not _is_there(of_torchvision.models):
        return
    package = of_torchvision.models()
    for name in of_torchvision.names(package):
        if word in name:
            weights = list(package.get_model_weights(name))
            yield Listed(f"torchvision:{name}", int(weights[0].meta["num_params"]), len(weights))


def _count(name: str) -> int | None:
    """The weights of a network of timm, from shapes alone."""
    try:
        with torch.device("meta"):
            network = of_timm.timm().create_model(name.removeprefix("timm:"))
    except (RuntimeError, NotImplementedError):  # some compute with the values of tensors while they are built
        return None
    return sum(int(value.numel()) for value in network.parameters())


def _is_there(package: object) -> bool:
    try:
        package()  # type: ignore[operator]
    except UsageError:
        return False
    return True
