"""What `instar reproduce specialists` does at each scale."""

from collections.abc import Callable
from typing import Any

from instar.naming import unknown_name
from instar.recipes.settings import checked, merge
from instar.recipes.specialists.settings import DEFAULTS, DISTILL_DEFAULTS, SpecialistsConfig

_DIGITS: dict[str, Any] = {**DEFAULTS, "data": {"name": "digits"}, "distill": DISTILL_DEFAULTS}

# CIFAR-100: eight layers without normalisation, as in the transfer study, but half as wide: specialists pay where
# the generalist took what it could. Random crops and flips: without them it knows its training images by heart,
# confuses none of them, and the class sets mean nothing. Learning rates by validation, with a generalist that is
# not reported (errors of 5,000): generalist 0.05 3,095, 0.02 2,975, 0.01 2,995; its specialists 0.02 2,815, 0.01
# 2,821, 0.005 2,868. Students: at 0.02 and T = 2 one made more errors than its generalist; at 0.01 and T = 1 the
# labels' weight of 0.1 was better after 36 of 120 epochs (3,180) than 1 (3,207; 3,336 an epoch before), of the
# tuning generalist, and both were stopped there for their cost. Class sets of which a specialist's share of the
# data is small, as every control may cost what generalist and specialists do: at 0.05 ten balanced sets of 10
# (2,898 errors) did as well as 20 of 15 (2,890) at a third.
_CIFAR: dict[str, Any] = {
    "data": {"name": "cifar100"},
    "generalist": {
        "network": "convnet:8x8",
        "epochs": 60,
        "learning_rate": 0.02,
        "batch_size": 64,
        "weight_decay": 5e-4,
        "warmup_epochs": 1.0,
        "views": "crop:4+flip",
    },
    "specialist": {"epochs": 6, "learning_rate": 0.02},
    "sets": [
        {"method": "balanced", "num_sets": 10, "classes_per_set": 10},
        {"method": "balanced", "num_sets": 20, "classes_per_set": 5},
        {"method": "overlapping", "num_sets": 10, "classes_per_set": 15},
    ],
    "top_n": [1, 2, 3],
    "mixture": "mixture:2/convnet:8x8/convnet:8x4",
    "distill": {
        "epochs": 120,
        "learning_rate": 0.01,
        "temperature": 1,
        "hard_weight": 0.1,
        "num_views": 8,
    },
    "seeds": 3,
}

# Omniglot: 15 drawings of each of 1,623 characters to learn from. With so many classes a network without
# normalisation is still where it began after three epochs, and batches of 64 leave a narrow one untrained after
# eight: 28 % of the drawings right; batches of 32, twice the width and 20 x 20 pixels make 78 %.
_OMNIGLOT: dict[str, Any] = merge(
    _CIFAR,
    {
        "data": {"name": "omniglot", "image_size": 20},
        "generalist": {
            "network": "resnet:8x16",
            "epochs": 20,
            "learning_rate": 0.1,
            "batch_size": 32,
            "views": "affine:12,0.15,0.15,2",
        },
        # On validation, one generalist of the small scale: 0.003 and 0.1 are worse, 12 epochs at 0.01 no better.
        "specialist": {"epochs": 4, "learning_rate": 0.03},
        "sets": [
            {"method": "overlapping", "num_sets": 60, "classes_per_set": 40},
            {"method": "overlapping", "num_sets": 15, "classes_per_set": 160},
            {"method": "balanced", "num_sets": 50, "classes_per_set": 32},
        ],
        "mixture": "mixture:2/resnet:8x16/resnet:8x8",
        "distill": {"epochs": 20, "learning_rate": 0.1, "temperature": 2, "hard_weight": 0.1},
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
        "distill": {"epochs": 2, "num_views": 1, "temperature": [1, 2], "hard_weight": 0.1},
        "seeds": 2,
    }
    if data == "digits":
        return tiny
    tiny["generalist"]["network"] = "convnet:4x4"
    few = {"mixture": "mixture:2/convnet:4x4/convnet:4x4", "sets": [{"num_sets": 2, "classes_per_set": 5}]}
    return {**tiny, **few, "data": {"fraction": 0.02} if data == "cifar100" else {}}


def _small(data: str) -> dict[str, Any]:
    """About an hour on two cores: one candidate of the class sets, two generalists.

    The fits that we publish took 6,600 core-seconds for a fifth of the images of CIFAR-100, 1,900 for Omniglot.
    """
    if data == "digits":
        return {}
    sets = {"cifar100": (10, 15), "omniglot": (30, 40)}[data]
    small: dict[str, Any] = {
        "sets": [{"num_sets": sets[0], "classes_per_set": sets[1]}],
        "distill": {"num_views": 4},
        "seeds": 2,
    }
    if data == "cifar100":
        # Few images make few steps: half the batch, longer ones.
        generalist = {"epochs": 40, "batch_size": 32, "learning_rate": 0.05}
        distill = {"epochs": 40, "learning_rate": 0.05, "temperature": 2, "hard_weight": 0.1, "num_views": 4}
        return {**small, "data": {"fraction": 0.2}, "generalist": generalist, "distill": distill}
    return {
        **small,
        "generalist": {"epochs": 8},
        "distill": {"epochs": 8, "num_views": 4},
    }


def _full(data: str) -> dict[str, Any]:
    """The figures that we claim: three generalists, of the digits five.

    With b the specialists' part of a generalist's cost, a seed costs 1 + b (specialists) + b (random sets) + 1.3 b
    (full softmax, the generalist is asked at each step) + b (hard) + 3 (1 + b) (longer, ensemble, mixture) + 2
    (student) + 0.3 (what it learns from). CIFAR-100: 20 sets x 5 classes x 2 x 450 images x 6 epochs = 12 epochs,
    b = 0.2, 7.8 generalists a seed; tuning 1.7 for the class sets: 25 generalists, each 800 s of one of two busy
    cores with AVX2 alone, 250 s with AVX-512 BF16. Omniglot: resnet:8x16, 9.8 s of a core with AVX-512 BF16 an
    epoch of 24,345 views, 196 s a generalist (84 % right on validation); 60 sets x 40 classes x 2 x 15 drawings x
    4 epochs, b = 0.6, but up to 240 short jobs a seed; it took 10,100 s beside other work.
    """
    return {"seeds": 5} if data == "digits" else {}


_SCALES: dict[str, Callable[[str], dict[str, Any]]] = {"tiny": _tiny, "small": _small, "full": _full}
