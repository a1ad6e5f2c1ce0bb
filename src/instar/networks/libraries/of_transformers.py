"""Networks of transformers for the classification of pictures, texts and sounds, from a folder or the hub."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.errors import DataError, InstarError, UsageError
from instar.naming import import_extra
from instar.networks.libraries.folders import (
    CONFIG,
    PREPROCESSOR,
    content,
    find_folder,
    has_weights,
    texts_of,
    weights_file,
)
from instar.networks.libraries.offer import Needs, Offer, Wanted, fitted
from instar.networks.libraries.operators import repair_torchvision

EXTRA, NEXT, TAGS = "transformers", "next tokens", "tokens"
TASKS = {
    "pictures": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    "texts": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
    "sounds": ("AutoModelForAudioClassification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
    TAGS: ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    NEXT: ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
}
"""What is classified: the class of transformers, and its table of those that it can build for it."""

_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # of Pillow


def transformers() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    repair_torchvision()
    return import_extra("transformers", EXTRA)


def offer(spec: str, name: str, wanted: Wanted) -> Offer:
    """The network in a folder.

    Args:
        spec: what errors call it.
        name: of a folder with config.json, as `save_pretrained` writes it, or OWNER/NAME in the hub.
        wanted: what it is built for.

    Raises:
        UsageError: transformers is not installed, there is no such folder, or it is no network for pictures, or
            for texts where these are wanted; code that a folder brings is never run.
    """
    package = transformers()
    folder = None if wanted.described else find_folder(spec, name, EXTRA)
    described = wanted.described or texts_of(spec, Path(str(folder)))
    about = content(spec, described, CONFIG)
    kind = _kind(package, spec, name, about)
    task = _task(package, spec, kind, wanted)
    labels = about.get("id2label") or {}
    if not isinstance(labels, Mapping) or not all(str(key).isdecimal() for key in labels):
        raise DataError(f"{spec}: {CONFIG}: id2label is {_short(labels)}, expected names of classes by number")
    own = _config(package, spec, kind, about, wanted, len(labels) or None)
    own_channels = int(about.get("num_channels", wanted.channels))
    with_own = folder is not None and has_weights(folder)
    if (with_own or wanted.pretrained) and own_channels != wanted.channels:
        raise UsageError(
            f"{spec} takes pictures of {own_channels} channels, those of the data have {wanted.channels}: read "
            f"them with --colour {'grey' if own_channels == 1 else 'rgb'} (data.colour)"
        )

    if task == NEXT:
        _check_sizes(spec, own, wanted, with_own or wanted.pretrained)

    def build(num_classes: int) -> nn.Module:
        with quiet(package), _naming_odd_values(package, spec, kind, about):
            config = _config(package, spec, kind, about, wanted, num_classes)
            network: nn.Module = getattr(package, TASKS[task][0]).from_config(
                config, trust_remote_code=False, dtype=torch.float32
            )
        return network

    def own_weights() -> Mapping[str, Tensor]:
        return _read(package, spec, Path(str(folder)), own, TASKS[task][0])

    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return Offer(
        build=build,
        needs=_needs(_preprocessing(spec, content(spec, described, PREPROCESSOR)), own, wanted)
        if task == "pictures"
        else Needs(),
        weights=own_weights if with_own else None,
        is_of_sounds=task == "sounds",
        class_names=() if all(one.startswith("LABEL_") for one in names) else names,
        where=str(folder or ""),
    )


def _kind(package: Any, spec: str, name: str, about: Mapping[str, Any]) -> str:
    """The type of a model, if it is one that transformers itself can build."""
    kind = str(about.get("model_type", ""))
    if kind not in package.CONFIG_MAPPING:
        if "architecture" in about:
            raise UsageError(f"{spec}: {CONFIG} is of timm: timm:{name}")
        if about.get("auto_map"):
            raise UsageError(
                f"{spec} brings code of its own ({kind or 'no model_type'}), which is never run: import it in a "
                "function of yours, python:MODULE:FUNCTION"
            )
        raise UsageError(
            f"{spec}: {CONFIG} has model_type {kind!r}, which transformers {package.__version__} lacks"
        )
    return kind


def _task(package: Any, spec: str, kind: str, wanted: Wanted) -> str:
    """What a type of model is to classify: filterbanks are pictures for a network that does not hear sounds."""
    known = {task: getattr(package.models.auto.modeling_auto, table) for task, (_, table) in TASKS.items()}
    task = "texts" if wanted.num_ids is not None else "sounds" if wanted.features else "pictures"
    task = NEXT if wanted.is_next else TAGS if wanted.is_tagged else task
    if task == "pictures" and kind in known["sounds"] and kind not in known["pictures"]:
        task = "sounds"
    if kind not in known[task]:
        what = "prediction of next tokens" if task == NEXT else f"classification of {task}"
        raise UsageError(f"{spec} is a {kind}, which transformers has no {what} for")
    return task


def _config(
    package: Any, spec: str, kind: str, about: Mapping[str, Any], wanted: Wanted, num_classes: int | None
) -> Any:
    """The configuration for so many classes; None for those of the file."""
    others = {key: value for key, value in about.items() if key not in ("id2label", "label2id", "num_labels")}
    others |= {"num_channels": wanted.channels} if "num_channels" in others else {}
    others |= {"image_size": wanted.pixels} if wanted.pixels and "image_size" in others else {}
    if "apply_spec_augment" in others:
        others["apply_spec_augment"] = False  # its masks are of numpy's global state, and fail on short clips
    with _naming_odd_values(package, spec, kind, about):
        config = package.CONFIG_MAPPING[kind].from_dict(others)
        if num_classes is not None and not wanted.is_next:
            config.num_labels = num_classes
    if wanted.is_next:
        return _of_next(config, wanted)
    if wanted.num_ids is not None and config.pad_token_id is None:
        config.pad_token_id = config.eos_token_id or 0  # by it networks of one direction find the last word
    return config


def _of_next(config: Any, wanted: Wanted) -> Any:
    """A configuration for the ids of the data: of a network without weights it says how many there are."""
    config.use_cache = False  # what is kept for generation takes memory in training
    if not wanted.pretrained:
        config.vocab_size = int(wanted.num_ids or 0)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        stated = getattr(config, key, None)
        if isinstance(stated, int) and stated >= config.vocab_size:
            setattr(config, key, None)
    return config


def _check_sizes(spec: str, config: Any, wanted: Wanted, has_weights: bool) -> None:
    """Refuse weights for another number of ids, and sequences that are longer than the network takes."""
    longest = getattr(config, "max_position_embeddings", None)
    if isinstance(longest, int) and wanted.length and wanted.length > longest:
        raise UsageError(
            f"{spec} takes sequences of {longest:,} tokens, those of the data have {wanted.length:,}: "
            f"--max-length {longest} (data.max_length)"
        )
    if has_weights and config.vocab_size != wanted.num_ids:
        raise UsageError(
            f"{spec} predicts {config.vocab_size:,} ids, the data has {wanted.num_ids:,} of another tokenizer: "
            f"name its own, --tokenizer {spec.partition(':')[2].partition('@')[0]} (data.tokenizer)"
        )


@contextmanager
def _naming_odd_values(package: Any, spec: str, kind: str, about: Mapping[str, Any]) -> Iterator[None]:
    """What goes wrong with the values of config.json as one line, with those that are unlike the usual ones.

    Raises:
        DataError: something did.
    """
    try:
        yield
    except InstarError:
        raise
    except Exception as error:  # transformers and the constructors of layers raise many kinds of errors
        usual = package.CONFIG_MAPPING[kind]()
        odd = [
            f"{key} is {_short(value)}, usually {getattr(usual, key)}"
            for key, value in about.items()
            if _is_number(getattr(usual, key, None)) and not (_is_number(value) and value >= 0)
        ]
        said = "; ".join(odd) or " ".join(str(error).split())
        raise DataError(f"{spec}: {CONFIG} describes no network: {said}") from error


def _preprocessing(spec: str, shown: dict[str, Any]) -> dict[str, Any]:
    """What preprocessor_config.json says.

    Raises:
        DataError: a value of it cannot be used; names it.
    """
    expected = {
        "image_mean": ("a list of numbers", _are_numbers),
        "image_std": ("a list of numbers above 0", lambda value: _are_numbers(value) and min(value) > 0),
        "rescale_factor": ("a number above 0", lambda value: _is_number(value) and value > 0),
        "size": ("pixels", _are_pixels),
        "crop_size": ("pixels", _are_pixels),
        "resample": (f"one of {', '.join(map(str, _INTERPOLATIONS))}", lambda value: value in [*_INTERPOLATIONS]),
    }
    for key, (words, is_right) in expected.items():
        if shown.get(key) is not None and not is_right(shown[key]):
            raise DataError(f"{spec}: {PREPROCESSOR}: {key} is {_short(shown[key])}, expected {words}")
    return shown


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _are_pixels(value: Any) -> bool:
    sides = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    return bool(sides) and all(isinstance(side, int) and side > 0 for side in sides)


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:60]}..."


def _needs(shown: Mapping[str, Any], config: Any, wanted: Wanted) -> Needs:
    """What preprocessor_config.json says, for pixels from 0 to 1; of a size also what config.json says."""
    size: Any = shown.get("crop_size") if shown.get("do_center_crop") else None
    size = size or (shown.get("size") if shown.get("do_resize", True) else None)
    sides = _sides(wanted.pixels or size or getattr(config, "image_size", None))
    # (factor 255 x - mean) / std, where factor is 1 / 255 as a rule
    scale = 255 * float(shown.get("rescale_factor", 1 / 255)) if shown.get("do_rescale", True) else 255.0
    mean, std = shown.get("image_mean"), shown.get("image_std")
    is_normalised = shown.get("do_normalize", bool(mean and std)) and mean and std
    if not is_normalised and (not shown or scale == 1):
        mean = std = None
    elif not is_normalised:
        mean, std = [0.0], [1.0]
    if mean is not None and std is not None:
        mean, std = ([one / scale for one in numbers] for numbers in (mean, std))
        mean, std = (fitted(numbers, wanted.channels) for numbers in (mean, std))
    return Needs(sides, mean, std, _INTERPOLATIONS.get(shown.get("resample", 2), "bilinear"))


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width, in whatever way they are written."""
    if isinstance(size, Mapping):
        shortest = size.get("shortest_edge")
        size = (size.get("height", shortest), size.get("width", shortest))
    if isinstance(size, int):
        size = (size, size)
    if size is None or None in size:
        return None
    return int(size[0]), int(size[1])


def _read(package: Any, spec: str, folder: Path, config: Any, kind: str) -> dict[str, Tensor]:
    """The weights of a folder under the names of today's transformers, which renames older ones."""
    path = weights_file(spec, folder)
    try:
        with quiet(package):
            network, found = getattr(package, kind).from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, OSError, RuntimeError: of many types
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as weights of {spec}: {reason}") from error
    if found["mismatched_keys"]:
        key, there, here = next(iter(found["mismatched_keys"]))
        raise DataError(
            f"{path} is of another architecture than its {CONFIG}: {key} is {tuple(there)}, expected {tuple(here)}"
        )
    state = network.state_dict()
    for key in found["missing_keys"]:
        del state[key]
    if bad := [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise DataError(f"{path}: {bad[0]} holds NaN or infinity")
    return dict(state)


@contextmanager
def quiet(package: Any) -> Iterator[None]:
    """Without its reports of what was loaded, which are checked here, and its bars of progress."""
    log = package.utils.logging
    level, has_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if has_bars:
            log.enable_progress_bar()
