"""The pairs of tasks that judge the advisor. Written down before the first of them was run.

The four pairs of digits of the scale small were run once while the advisor was made (three seeds, one finalist):
on one of them its advice was 6.6 points worse, and since then two finalists are fitted to the end. The other pairs
had no say.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.recipes.advise.settings import AdviseConfig
from instar.recipes.settings import DataSettings, FitSettings, Settings
from instar.transfer import random_halves, semantic_halves
from instar.transfer.groups import CIFAR100_PARENTS

_DIGITS = tuple("0123456789")
_CIFAR = sorted(CIFAR100_PARENTS)


class JudgeConfig(Settings):
    """The configuration of `instar reproduce advise`."""

    scale: str
    pairs: dict[str, AdviseConfig]
    """by name: SOURCE to TARGET, examples of each class of the target"""
    seeds: Annotated[int, Field(ge=2)]
    """of each treatment in the full study"""


class _Family(Settings):
    """What pairs on the same data have in common."""

    data: str
    network: str
    base: FitSettings
    fit: FitSettings
    fraction: float = 1.0
    """of the source's examples"""

    def pair(self, source: Sequence[str], target: Sequence[str], examples: int) -> AdviseConfig:
        """One pair of tasks."""
        return AdviseConfig(
            network=self.network,
            source=DataSettings(name=self.data, classes=tuple(source), fraction=self.fraction),
            data=DataSettings(name=self.data, classes=tuple(target), validation_fraction=0.3),
            examples_per_class=examples,
            base=self.base,
            fit=self.fit,
        )


def config_for(scale: str) -> JudgeConfig:
    """The pairs at a scale: `tiny` for tests, `small` in half an hour, `full` in hours.

    Raises:
        UsageError: no such scale.
    """
    if scale not in _SCALES:
        raise unknown_name("scale", scale, _SCALES)
    config = _SCALES[scale]()
    if len({str(pair) for pair in config.pairs.values()}) < len(config.pairs):
        raise UsageError(f"two pairs of the scale {scale} are the same")
    return config


def _tiny() -> JudgeConfig:
    family = _family("digits", "mlp:16x2", base_epochs=3, epochs=6, batch_size=16)
    pairs = {
        "digits 0-4 to 5-9, 10": family.pair(_DIGITS[:5], _DIGITS[5:], 10),
        "digits 0-4 to 5-9, 40": family.pair(_DIGITS[:5], _DIGITS[5:], 40),
        "digits 5-9 to 0-4, 10": family.pair(_DIGITS[5:], _DIGITS[:5], 10),
    }
    return JudgeConfig(scale="tiny", pairs=pairs, seeds=2)


def _family(
    data: str,
    network: str,
    *,
    base_epochs: int,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 0.03,
    fraction: float = 1.0,
) -> _Family:
    base = FitSettings(network=network, epochs=base_epochs, learning_rate=0.05, weight_decay=5e-4)
    fit = FitSettings(
        network=network, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=5e-4
    )
    return _Family(data=data, network=network, base=base, fit=fit, fraction=fraction)


def _digit_pairs(family: _Family, sizes: tuple[int, int]) -> dict[str, AdviseConfig]:
    """Three pairs of tasks at one size, and the first of them at another."""
    few, many = sizes
    low, high, even, odd = _DIGITS[:5], _DIGITS[5:], _DIGITS[::2], _DIGITS[1::2]
    return {
        f"{family.data} 0-4 to 5-9, {few}": family.pair(low, high, few),
        f"{family.data} 0-4 to 5-9, {many}": family.pair(low, high, many),
        f"{family.data} 5-9 to 0-4, {few}": family.pair(high, low, few),
        f"{family.data} even to odd, {few}": family.pair(even, odd, few),
    }


def _cifar_pairs(family: _Family, sizes: Sequence[int], classes: int) -> dict[str, AdviseConfig]:
    """Random halves of two splits, one of them at every size; man-made and living, both ways."""
    few, *others = sizes
    splits = [random_halves(_CIFAR, seed=seed, classes_per_half=classes) for seed in (0, 1)]
    unlike = semantic_halves(_CIFAR, seed=0)
    pairs = {f"cifar100 random 0, {few}": family.pair(splits[0].a, splits[0].b, few)}
    pairs |= {f"cifar100 random 0, {size}": family.pair(splits[0].a, splits[0].b, size) for size in others}
    pairs[f"cifar100 random 1, {sizes[-1]}"] = family.pair(splits[1].a, splits[1].b, sizes[-1])
    pairs[f"cifar100 man-made to living, {few}"] = family.pair(unlike.a, unlike.b, few)
    pairs[f"cifar100 living to man-made, {sizes[-1]}"] = family.pair(unlike.b, unlike.a, sizes[-1])
    return pairs


def _small() -> JudgeConfig:
    digits = _family("digits", "convnet:6x8", base_epochs=20, epochs=40, batch_size=16)
    mnist = _family("mnist", "convnet:7x8", base_epochs=5, epochs=40, fraction=0.2)
    cifar = _family("cifar100", "convnet:8x8", base_epochs=10, epochs=20, fraction=0.4)
    pairs = _digit_pairs(digits, (20, 80)) | _digit_pairs(mnist, (20, 80)) | _cifar_pairs(cifar, (20, 50), 10)
    return JudgeConfig(scale="small", pairs=pairs, seeds=5)


def _full() -> JudgeConfig:
    digits = _family("digits", "convnet:6x16", base_epochs=40, epochs=60, batch_size=16)
    mnist = _family("mnist", "convnet:7x16", base_epochs=5, epochs=60)
    cifar = _family("cifar100", "convnet:8x16", base_epochs=20, epochs=40)
    pairs = _digit_pairs(digits, (20, 80)) | _digit_pairs(mnist, (20, 80)) | _cifar_pairs(cifar, (20, 50, 100), 20)
    return JudgeConfig(scale="full", pairs=pairs, seeds=5)


_SCALES: dict[str, Callable[[], JudgeConfig]] = {"tiny": _tiny, "small": _small, "full": _full}
