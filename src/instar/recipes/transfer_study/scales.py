"""What `instar reproduce transfer` does at each scale."""

from collections.abc import Callable
from typing import Any

from instar.naming import unknown_name
from instar.recipes.settings import DataSettings, FitSettings, checked
from instar.recipes.transfer.settings import HalvesSettings, TransferConfig
from instar.recipes.transfer_study.plan import CONVNET, DISSIMILAR, RESNET, SIMILAR, CurveSettings, StudyConfig

# Eight layers without normalisation, and three stages with it. As in the paper: SGD, momentum 0.9, weight decay
# 5e-4, the same learning rate for bases and treatments. Unlike it: no views and no dropout, so that what a frozen
# prefix gives is computed once, and in as few epochs a network fits its training images as the paper's did (with
# 12 epochs of 22,500 images cross-entropy 1.0 in training, 2.2 on validation). Without a warm-up 0.05 may diverge.
_CONVNET = FitSettings(network="convnet:8x16", epochs=12, learning_rate=0.05, weight_decay=5e-4, warmup_epochs=1.0)
_RESNET = _CONVNET.model_copy(update={"network": "resnet:8", "epochs": 6, "learning_rate": 0.1})

_UNLIKE = {"digits": HalvesSettings(how="lists", a=("0", "3", "6", "8"), b=("1", "2", "4", "7"))}
"""Halves unlike each other where nothing is known of what the classes mean: round digits against straight ones."""


def config_for(scale: str, data: str = "cifar100") -> StudyConfig:
    """The configuration of a scale.

    Raises:
        UsageError: no such scale.

    Example:
        >>> config_for("full").parts["resnet"].cuts
        [2, 3, 4]
    """
    if scale not in _SCALES:
        raise unknown_name("scale", scale, _SCALES)
    return _SCALES[scale](data)


def _tiny(data: str) -> StudyConfig:
    """For tests: every part, of networks that learn next to nothing."""
    settings = DataSettings(name=data, fraction=1.0 if data == "digits" else 0.02)
    convnet = _CONVNET.model_copy(update={"network": "convnet:5x4", "epochs": 2, "warmup_epochs": 0.0})
    resnet = convnet.model_copy(update={"network": "resnet:8x4", "epochs": 1})
    return _study(
        "tiny",
        settings,
        splits=2,
        convnet={"network": convnet, "cuts": [1, 4]},
        resnet={"network": resnet, "cuts": [2]},
        curve=CurveSettings(network=convnet, epochs={"20": 2, "5": 4}, seeds=2),
    )


def _small(data: str) -> StudyConfig:
    """About 20 minutes on two cores: a fifth of the images, every second cut, three splits.

    In core-seconds, from the figures of `_full`: convnet, 3 splits x 2 directions x (1 + 2 + 8 + 12 / 4) x 12 =
    1,000; halves of 30 classes 170; the residual net, 3 splits x (2 + 2 + 4 + 6 x 0.3) x 21 = 620; the curve 150;
    a second for each of 243 jobs.
    """
    return _study(
        "small",
        DataSettings(name=data, fraction=0.2),
        splits=3,
        convnet={"network": _CONVNET, "cuts": [1, 3, 5, 7]},
        resnet={"network": _RESNET, "cuts": [2, 4]},
        curve=CurveSettings(network=_CONVNET, epochs={"20": 10, "10": 14, "5": 20, "2": 30}, seeds=3),
    )


def _full(data: str) -> StudyConfig:
    """The figures that we claim: 6 core-hours on a fast processor, twice that on another.

    Measured on one core with AVX-512 BF16: convnet:8x16 4.9 s an epoch of 22,500 images (3.4 M multiplications an
    image), so 59 s a network; resnet:8 17.5 s, 105 s a network. A frozen treatment costs a quarter of a base, mean
    over the cuts, as its prefix is computed once; a base trained as long costs two.

    - convnet, random 50/50: 5 splits x 2 directions x (1 + 2 + 14 + 21 / 4) x 59 s = 13,100 s
    - convnet, 30/30, two kinds of halves: 2 x 5 x 2 x (1 + 7 / 4) x 0.6 x 59 s = 1,900 s
    - resnet, towards B: 5 splits x (2 + 2 + 6 + 9 x 0.3) x 105 s = 6,700 s
    - curve: 5 seeds x 310 s = 1,500 s; a second for each of 650 jobs
    """
    epochs = {"100": 12, "50": 16, "20": 24, "10": 32, "4": 48, "2": 64}
    return _study(
        "full",
        DataSettings(name=data),
        splits=5,
        convnet={"network": _CONVNET},
        resnet={"network": _RESNET, "cuts": [2, 3, 4]},
        curve=CurveSettings(network=_CONVNET, epochs=epochs, seeds=5),
    )


def _study(
    scale: str,
    data: DataSettings,
    *,
    splits: int,
    convnet: dict[str, Any],
    resnet: dict[str, Any],
    curve: CurveSettings,
) -> StudyConfig:
    unlike = _UNLIKE.get(data.name, HalvesSettings(how="semantic"))
    size = len(unlike.a) or 30
    frozen = {"treatments": ["AnB"], "longer": False}

    def part(**options: Any) -> TransferConfig:
        return checked(TransferConfig, {"data": data, "splits": splits, **options})

    parts = {
        CONVNET: part(**convnet),
        DISSIMILAR: part(**convnet, **frozen, halves=unlike),
        SIMILAR: part(**convnet, **frozen, halves=HalvesSettings(classes_per_half=size)),
        RESNET: part(**resnet, targets=["B"]),
    }
    return StudyConfig(scale=scale, data=data, parts=parts, curve=curve)


_SCALES: dict[str, Callable[[str], StudyConfig]] = {"tiny": _tiny, "small": _small, "full": _full}
