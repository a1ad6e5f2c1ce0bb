"""What `instar reproduce specialists` does at each scale."""

from collections.abc import Callable
from typing import Any

from instar.naming import unknown_name
from instar.recipes.settings import checked, merge
from instar.recipes.specialists_settings import DEFAULTS, DISTILL_DEFAULTS, SpecialistsConfig

_DIGITS: dict[str, Any] = {**DEFAULTS, "data": {"name": "digits"}, "distill": DISTILL_DEFAULTS}

# CIFAR-100: eight layers without normalisation, as in the transfer study. Random crops and flips: without them it
# knows its training images by heart after 10 epochs, confuses none of them, and the class sets mean nothing.
_CIFAR: dict[str, Any] = {
    "data": {"name": "cifar100"},
    "generalist": {
        "network": "convnet:8x16",
        "epochs": 30,
        "learning_rate": [0.05],
        "batch_size": 64,
        "weight_decay": 5e-4,
        "warmup_epochs": 1.0,
        "views": "crop:4+flip",
    },
    "specialist": {"epochs": 5, "learning_rate": 0.02},
    "sets": [{"num_sets": 10, "classes_per_set": 15}],
    "top_n": [1, 2, 3],
    "mixture": "mixture:2/convnet:8x16/convnet:8x8",
    "distill": {"epochs": 30, "learning_rate": 0.05, "temperature": 2.0, "num_views": 8},
    "seeds": 3,
}

_OMNIGLOT: dict[str, Any] = merge(
    _CIFAR,
    {
        "data": {"name": "omniglot", "image_size": 28},
        "sets": [{"num_sets": 50, "classes_per_set": 60}],
    },
)


def config_for(scale: str, data: str = "cifar100") -> SpecialistsConfig:
    """The configuration of a scale.

    Raises:
        UsageError: no such scale, or data that it is not made for.

    Example:
        >>> config_for("tiny", "digits").seeds
        2
    """
    if scale not in _SCALES:
        raise unknown_name("scale", scale, _SCALES)
    if data not in _DATA:
        raise unknown_name("data set", data, _DATA)
    return checked(SpecialistsConfig, merge(_DATA[data], {"scale": scale, **_SCALES[scale](data)}))


_DATA: dict[str, dict[str, Any]] = {"cifar100": _CIFAR, "omniglot": _OMNIGLOT, "digits": _DIGITS}


def _tiny(data: str) -> dict[str, Any]:
    """For tests: every part, of networks that learn next to nothing."""
    tiny: dict[str, Any] = {
        "generalist": {"epochs": 2},
        "specialist": {"epochs": 1},
        "distill": {"epochs": 2, "num_views": 1},
        "seeds": 2,
    }
    if data != "digits":
        small = {"network": "convnet:4x4"}
        tiny = merge(tiny, {"generalist": small, "mixture": "mixture:2/convnet:4x4/convnet:4x4"})
        tiny["sets"] = [{"num_sets": 2, "classes_per_set": 5}]
        tiny["data"] = {"fraction": 0.02} if data == "cifar100" else {}
    return tiny


def _small(data: str) -> dict[str, Any]:
    return {}


def _full(data: str) -> dict[str, Any]:
    return {"seeds": 5}


_SCALES: dict[str, Callable[[str], dict[str, Any]]] = {"tiny": _tiny, "small": _small, "full": _full}
