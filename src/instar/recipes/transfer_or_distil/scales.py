"""What `instar reproduce transfer-or-distil` does at each scale."""

from collections.abc import Callable
from typing import Any

from instar.naming import unknown_name
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.transfer_or_distil.plan import CompareConfig
from instar.transfer import random_halves
from instar.transfer.groups import CIFAR100_PARENTS


def config_for(scale: str) -> CompareConfig:
    """`tiny` on the digits, for tests; `small` on MNIST's; `full` on random halves of CIFAR-100.

    Raises:
        UsageError: no such scale.
    """
    if scale not in _SCALES:
        raise unknown_name("scale", scale, _SCALES)
    return _SCALES[scale]()


def _config(
    scale: str, data: str, a: tuple[str, ...], b: tuple[str, ...], networks: tuple[str, str], **options: Any
) -> CompareConfig:
    epochs = options.pop("epochs")
    fit = {
        "epochs": epochs,
        "batch_size": 32,
        "weight_decay": 5e-4,
        "learning_rate": 0.03,
        "gradient_clip": 1.0,  # T^2 H has a gradient up to T times as long: without, students died
    }
    student, teacher = (FitSettings(network=name, **fit) for name in networks)
    return CompareConfig(
        scale=scale,
        source=DataSettings(name=data, classes=a),
        data=DataSettings(name=data, classes=b),
        student=student,
        teacher=teacher,
        **options,
    )


def _tiny() -> CompareConfig:
    a, b = tuple("01234"), tuple("56789")
    networks = ("mlp:16x2", "mlp:64x2")
    return _config("tiny", "digits", a, b, networks, epochs=5, base_epochs=2, examples_per_class=20, seeds=2)


def _small() -> CompareConfig:
    a, b = tuple("01234"), tuple("56789")
    networks = ("convnet:7x8", "convnet:7x32")
    return _config("small", "mnist", a, b, networks, epochs=40, base_epochs=3, examples_per_class=20, seeds=5)


def _full() -> CompareConfig:
    halves = random_halves(sorted(CIFAR100_PARENTS), seed=0, classes_per_half=20)
    networks = ("convnet:8x16", "convnet:8x64")
    options = {"epochs": 60, "base_epochs": 20, "examples_per_class": 50, "seeds": 5}
    return _config("full", "cifar100", halves.a, halves.b, networks, **options)


_SCALES: dict[str, Callable[[], CompareConfig]] = {"tiny": _tiny, "small": _small, "full": _full}
