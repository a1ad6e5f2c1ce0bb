"""A network that is used for transfer in practice: EfficientNet-lite0, and CIFAR-100 at a size for it.

    instar advise --network python:instar.recipes.efficientnet:lite0@WEIGHTS \
        --data python:instar.recipes.efficientnet:cifar100 --examples 10 --controls
"""

from typing import Any, cast

from torch import nn

from instar.data import Dataset, InMemoryDataset, load_data, transfer_set
from instar.data.pictures import resized
from instar.errors import UsageError

SIZE = 96  # pixels; the network was trained at 224
PER_CLASS, TEST_PER_CLASS = 50, 20
_MEAN, _SD = 127 / 255, 128 / 255  # as in its training


def lite0(num_classes: int) -> nn.Module:
    """EfficientNet-lite0 for images of 96 x 96 pixels, freshly initialised.

    It states its size and normalisation: it sees other pictures resized, and normalised as in its training.

    Its forward pass is deterministic, without dropout or dropped blocks, so the features of frozen layers can be
    cached.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UsageError("EfficientNet-lite is not installed: pip install efficientnet-lite-pytorch") from None
    changes = {"num_classes": num_classes, "image_size": SIZE, "drop_connect_rate": 0.0, "dropout_rate": 0.0}
    network: Any = EfficientNet.from_name("efficientnet-lite0", **changes)
    network.input_size = SIZE
    network.input_normalisation = (_MEAN, _SD)
    return cast(nn.Module, network)


def cifar100() -> tuple[Dataset, Dataset]:
    """CIFAR-100 at 96 x 96 pixels: 50 training and 20 test images of each class, the same in every call."""
    splits = load_data("cifar100")
    whole = splits.train.union(splits.validation)
    return _enlarged(whole, PER_CLASS), _enlarged(splits.test, TEST_PER_CLASS)


def _enlarged(data: Dataset, per_class: int) -> Dataset:
    part = transfer_set(data, fraction=per_class * data.num_classes / len(data))
    raw = part.raw(part.rows(part.ids))
    return InMemoryDataset(
        resized(raw, SIZE),
        part.labels(part.ids),
        class_names=part.class_names,
        mean=[_MEAN] * 3,
        std=[_SD] * 3,
    )
