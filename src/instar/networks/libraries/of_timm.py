"""Networks of timm, by name, or from a folder of timm's own form."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from instar.errors import UsageError
from instar.naming import import_extra
from instar.networks.libraries.folders import (
    CONFIG,
    content,
    find_folder,
    in_reach,
    is_folder_name,
    texts_of,
    weights_file,
)
from instar.networks.libraries.offer import Needs, Offer, Wanted, fitted
from instar.networks.libraries.operators import repair_torchvision
from instar.networks.weights import read_weights

EXTRA = "timm"


def timm() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    repair_torchvision()
    return import_extra("timm", EXTRA)


def offer(spec: str, name: str, wanted: Wanted) -> Offer:
    """The network that timm has under a name.

    Args:
        spec: what errors call it.
        name: of an architecture (`resnet18`), with a tag for certain weights (`resnet18.a1_in1k`), of a folder, or
            OWNER/NAME in the hub.
        wanted: what it is built for.

    Raises:
        UsageError: timm is not installed or has no such network.
    """
    package = timm()
    if is_folder_name(name) or wanted.described:
        return _of_folder(package, spec, name, wanted)
    if not package.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], package.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"unknown network {spec!r}: {hint}instar networks WORD lists what timm has")
    try:
        stated = package.get_pretrained_cfg(name)
    except RuntimeError:
        tag, known = name.partition(".")[2], package.list_pretrained(f"{name.partition('.')[0]}.*")
        raise UsageError(
            f"unknown network {spec!r}: timm has no weights of the tag {tag!r}; known: {', '.join(known)}"
        ) from None
    return _offer(package, spec, name, stated.to_dict() if stated else {}, {}, wanted)


def _of_folder(package: Any, spec: str, name: str, wanted: Wanted) -> Offer:
    folder = None if wanted.described else find_folder(spec, name, EXTRA)
    about = content(spec, wanted.described or texts_of(spec, Path(str(folder))), CONFIG)
    architecture = about.get("architecture", "")
    if not architecture or not package.is_model(architecture):
        raise UsageError(
            f"{spec}: {CONFIG} names no architecture of timm, found {architecture!r}; is it of transformers "
            f"(transformers:{name})?"
        )
    stated = {**about.get("pretrained_cfg", {}), **about}
    given = dict(about.get("model_args") or {})
    own_names = tuple(map(str, stated.get("label_names") or ()))
    return _offer(package, spec, architecture, stated, given, wanted, folder=folder, names=own_names)


def _offer(
    package: Any,
    spec: str,
    name: str,
    stated: Mapping[str, Any],
    given: Mapping[str, Any],
    wanted: Wanted,
    *,
    folder: Path | None = None,
    names: tuple[str, ...] = (),
) -> Offer:
    is_fixed = bool(stated.get("fixed_input_size"))
    options = dict(given)
    if is_fixed and wanted.pixels:
        options["img_size"] = wanted.pixels
    options["in_chans"] = wanted.channels
    from_folder = folder is not None or wanted.described is not None

    def build(num_classes: int, **more: Any) -> nn.Module:
        network: nn.Module = package.create_model(name, **options | {"num_classes": num_classes} | more)
        return network

    def own_weights() -> Mapping[str, Tensor]:
        if folder is not None:
            return read_weights(weights_file(spec, folder))
        with in_reach(import_extra("huggingface_hub", EXTRA)):
            return build(int(stated["num_classes"]), pretrained=True).state_dict()

    side = wanted.pixels
    is_obeyed = is_fixed or wanted.pretrained or from_folder  # an untrained convolution has learned no size
    size = (side, side) if side else tuple(stated.get("input_size", ())[1:]) if is_obeyed else ()
    needs = Needs(
        size=(size[0], size[1]) if size else None,
        mean=fitted(stated["mean"], wanted.channels) if stated.get("mean") else None,
        std=fitted(stated["std"], wanted.channels) if stated.get("std") else None,
        interpolation=str(stated.get("interpolation") or "bicubic"),
    )
    has_own = folder is not None or any(stated.get(key) for key in ("hf_hub_id", "url", "file"))
    hub_name = stated.get("hf_hub_id")
    where = str(folder or (f"model.safetensors of {hub_name} in the hub" if hub_name else stated.get("url") or ""))
    return Offer(
        build=build,
        needs=needs,
        weights=own_weights if has_own else None,
        class_names=names or (() if from_folder else _imagenet(package, stated)),
        where=where,
    )


def _imagenet(package: Any, stated: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of weights that were trained on a subset of ImageNet, as its folders are named."""
    subset = package.data.infer_imagenet_subset(dict(stated))
    return tuple(package.data.ImageNetInfo(subset).label_names()) if subset else ()
