"""Networks of torchvision, by name."""

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.naming import import_extra
from instar.networks.libraries.offer import Needs, Offer, Wanted
from instar.networks.libraries.operators import repair_torchvision

EXTRA = "torchvision"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of all its weights


def models() -> Any:
    """`torchvision.models`.

    Raises:
        UsageError: it is not installed.
    """
    repair_torchvision()
    import_extra("torchvision", EXTRA)
    return import_extra("torchvision.models", EXTRA)


def names(package: Any) -> list[str]:
    """The networks for classification of pictures."""
    return list(package.list_models(module=package))


def offer(spec: str, name: str, wanted: Wanted) -> Offer:
    """The network that torchvision has under a name.

    Raises:
        UsageError: torchvision is not installed or has no such network.
    """
    package = models()
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"unknown network {spec!r}: {hint}instar networks WORD lists what torchvision has")
    if wanted.channels != 3:
        raise UsageError(
            f"{spec} takes colour pictures, those of the data have {wanted.channels} channels: read them with "
            "--colour rgb (data.colour)"
        )
    best = package.get_model_weights(name).DEFAULT
    shown = best.transforms()
    options: dict[str, Any] = {}
    is_fixed = name.startswith("vit_")
    side = wanted.pixels or (shown.crop_size[0] if wanted.pretrained else 224 if is_fixed else None)
    if is_fixed:
        options["image_size"] = side
    if "init_weights" in inspect.signature(package.get_model_builder(name)).parameters or name in (
        "googlenet",
        "inception_v3",
    ):
        options["init_weights"] = True  # unset, it warns

    def build(num_classes: int) -> nn.Module:
        network: nn.Module = package.get_model(name, weights=None, num_classes=num_classes, **options)
        return network

    def own_weights() -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = best.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return state

    return Offer(
        build=build,
        needs=Needs(
            size=(side, side) if side else None,
            mean=getattr(shown, "mean", _MEAN),
            std=getattr(shown, "std", _STD),
            interpolation=shown.interpolation.value,
        ),
        weights=own_weights,
        class_names=tuple(best.meta["categories"]),
        where=f"{best.url} (into {Path(torch.hub.get_dir()) / 'checkpoints'})",
    )
