"""A network of timm or transformers as a folder of that library's own form, which it loads without instar."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.files import load_tensors, write_bytes
from instar.listening import VALUES
from instar.networks.libraries import of_timm, of_transformers
from instar.networks.libraries.folders import CONFIG, PREPROCESSOR, WEIGHTS, content, texts_of
from instar.networks.modes import uncompiled
from instar.structures import Form, form_in_words, is_plain

LIBRARY_FORMATS = ("transformers", "timm")
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # of Pillow
_NUM_PROBED = 2


class Seen(NamedTuple):
    """What a network gets to see of pixels from 0 to 1."""

    size: tuple[int, int]
    """height and width in pixels"""
    mean: list[float]
    """of each channel"""
    std: list[float]
    interpolation: str
    keeps_shape: bool
    """whether pictures of the data are resized to their own shape; else they are squeezed into another"""


def check_library(network: nn.Module, to: str, name: str, input_shape: Form) -> None:
    """Refuse a network that a library cannot load by itself.

    Args:
        network: of the run.
        to: `transformers` or `timm`.
        name: of the network, for errors.
        input_shape: form of one example.

    Raises:
        UsageError: it is none of that library; says what to use.
    """
    network = uncompiled(network)
    kinds = [other for other in LIBRARY_FORMATS if _is_of(other, network)]
    others = ", ".join(f"--to {other}" for other in (*kinds, "onnx", "torch")) + " or --to safetensors"
    if to not in kinds:
        raise UsageError(f"{name} is no network of {to} ({type(network).__name__}): use {others}")
    if to == "timm" and not _is_picture(input_shape):
        raise UsageError(f"{name} takes no pictures, the networks of timm do: use {others}")
    if to == "transformers":
        kind = "image" if _is_picture(input_shape) else "audio" if _is_sound(input_shape) else "sequence"
        if type(network).__name__ not in _classes(kind):
            raise UsageError(
                f"{name} is a {type(network).__name__}, which no AutoModelFor{kind.title()}Classification "
                f"loads: use {others}"
            )
        if kind == "sequence" and not (isinstance(input_shape, Mapping) and "input_ids" in input_shape):
            raise UsageError(f"{name} takes {form_in_words(input_shape)}, expected input_ids: use {others}")


def write_library(
    to: str,
    network: nn.Module,
    model: nn.Module,
    example: Any,
    class_names: Sequence[str],
    folder: Path,
    described: Mapping[str, str] | None = None,
) -> None:
    """Write `config.json`, `model.safetensors` and, for transformers, how an example becomes an input.

    Args:
        to: `transformers` or `timm`.
        network: of that library (`check_library`), as its run has it.
        model: around another copy of the network: takes pixels from 0 to 1.
        example: a batch as `model` takes it.
        class_names: in the order of the logits.
        folder: to write into.
        described: files that the network came with, by name: its tokenizer or feature extractor is taken over.
    """
    network = uncompiled(network)
    seen = seen_by(model, example) if isinstance(example, Tensor) else None
    if to == "timm" and seen is not None:
        _write_timm(network, seen, example.shape[1], class_names, folder)
        return
    config: Any = network.config
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: number for number, name in enumerate(class_names)}
    config.name_or_path = ""
    with of_transformers.quiet(of_transformers.transformers()):
        network.save_pretrained(folder)  # type: ignore[operator]
    if seen is not None:
        write_bytes(folder / PREPROCESSOR, (json.dumps(_shown(seen), indent=2) + "\n").encode())
    for name, text in (described or {}).items():
        if name != CONFIG and (name != PREPROCESSOR or not isinstance(example, Tensor)):
            write_bytes(folder / name, text.encode())


def library_weights(folder: Path, to: str) -> dict[str, Any]:
    """The weights in a folder that `write_library` wrote, under the names that the network has them.

    Transformers writes some under older names, and reads these.

    Raises:
        UsageError: the package is not installed.
        RunError: the file is damaged.
    """
    if to == "timm":
        return load_tensors(folder / WEIGHTS)[0]
    package = of_transformers.transformers()
    shown = content(str(folder), texts_of(str(folder), folder), PREPROCESSOR)
    kind = "Audio" if "sampling_rate" in shown else "Image" if shown else "Sequence"
    with of_transformers.quiet(package):
        network = getattr(package, f"AutoModelFor{kind}Classification").from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    return dict(network.state_dict())


def seen_by(model: nn.Module, pixels: Tensor) -> Seen:
    """How pixels are resized and normalised on their way into the network of a model, measured on black and white.

    Where black is seen as b and white as w, the mean is b / (b - w) and the standard deviation 1 / (w - b).

    Args:
        model: with the module `network`, whose last forward hook comes after those that prepare its inputs.
        pixels: a batch, for its shape.

    Example:
        >>> from instar.deploy import Model
        >>> model = Model(nn.Flatten(), ["a", "b"], (1, 4, 4), normalisation={"mean": [0.5], "std": [0.25]})
        >>> seen_by(model, torch.rand(2, 1, 4, 4))
        Seen(size=(4, 4), mean=[0.5], std=[0.25], interpolation='bilinear', keeps_shape=True)
    """
    network: Any = model.network
    network = uncompiled(network)
    caught: list[Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    try:
        with torch.no_grad():
            for value in (0.0, 1.0):
                model(torch.full_like(pixels[:_NUM_PROBED], value))
    finally:
        hook.remove()
    black, white = (one[0].double().mean((-2, -1)) for one in caught)
    mean, std = black / (black - white), 1 / (white - black)
    height, width = caught[0].shape[-2:]
    return Seen(
        (int(height), int(width)),
        _digits(mean),
        _digits(std),
        str(getattr(network, "input_interpolation", "bilinear")),
        height * pixels.shape[-1] == width * pixels.shape[-2],
    )


def _write_timm(network: nn.Module, seen: Seen, channels: int, class_names: Sequence[str], folder: Path) -> None:
    save_for_hf = of_timm.timm().models.save_for_hf
    data: dict[str, Any] = {
        "input_size": (channels, *seen.size),
        "mean": tuple(seen.mean),
        "std": tuple(seen.std),
        "interpolation": seen.interpolation,
        "crop_pct": 1.0,
        "crop_mode": "center" if seen.keeps_shape else "squash",
    }
    save_for_hf(
        network,
        str(folder),
        model_config={"label_names": list(class_names)},
        safe_serialization=True,
        data_config=data,
    )


def _shown(seen: Seen) -> dict[str, Any]:
    """`preprocessor_config.json`: where data and network have squares, one is cut from the middle of a picture."""
    height, width = seen.size
    is_square = height == width and seen.keeps_shape
    return {
        "image_processor_type": "CLIPImageProcessor",  # which resizes, then cuts; any network may have it
        "do_convert_rgb": len(seen.mean) == 3,
        "do_resize": True,
        "size": {"shortest_edge": height} if is_square else {"height": height, "width": width},
        "resample": _RESAMPLE[seen.interpolation],
        "do_center_crop": is_square,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": seen.mean,
        "image_std": seen.std,
    }


def _digits(values: Tensor) -> list[float]:
    """Six digits: the rest is the rounding of what was measured."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def _is_of(library: str, network: nn.Module) -> bool:
    """Whether a network's class is that of a library; the library has been imported then."""
    if library == "timm":
        return type(network).__module__.startswith("timm.") and hasattr(network, "pretrained_cfg")
    return type(network).__module__.startswith("transformers.") and hasattr(network, "save_pretrained")


def _classes(kind: str) -> set[str]:
    """The names of the classes that an AutoModel for classification of `image` or `sequence` builds."""
    of = of_transformers.transformers().models.auto.modeling_auto
    known = getattr(of, f"MODEL_FOR_{kind.upper()}_CLASSIFICATION_MAPPING_NAMES").values()
    return {name for one in known for name in ([one] if isinstance(one, str) else one)}


def _is_picture(form: Form) -> bool:
    return is_plain(form) and len(form) == 3


def _is_sound(form: Form) -> bool:
    return isinstance(form, Mapping) and not {*form}.isdisjoint(VALUES)
