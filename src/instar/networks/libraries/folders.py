"""Folders that describe a network and hold its weights, as timm and transformers write them; or in the hub."""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instar.errors import DataError, UsageError, first_line
from instar.naming import import_extra
from instar.tokenising import TOKENIZER, TOKENIZER_CONFIG

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_REACH_SECONDS = 5
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def is_folder_name(name: str) -> bool:
    """Whether a name is that of a folder, or of one in the hub (OWNER/NAME).

    Example:
        >>> is_folder_name("google/vit-base-patch16-224"), is_folder_name("resnet18")
        (True, False)
    """
    return "/" in name or Path(name).is_dir()


def find_folder(spec: str, name: str, extra: str) -> Path:
    """The folder that a name means: one on this machine, or one of the hub, fetched or found in the hub's cache.

    Args:
        spec: what errors call the network.
        name: of a folder, or OWNER/NAME in the hub.
        extra: of the package, for the error where the hub's client is not installed.

    Raises:
        UsageError: it is neither here nor to be had; says which file to put where.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UsageError(f"{spec}: there is no folder {path}; expected one with {CONFIG} and {WEIGHTS}")
    return _hub_folder(spec, name, extra)


@functools.lru_cache(maxsize=8)  # the hub is asked once: a folder of its cache does not change
def _hub_folder(spec: str, name: str, extra: str) -> Path:
    folder: Path = _from_hub(spec, name, CONFIG, extra).parent
    for other in (PREPROCESSOR, *TOKENIZER_FILES, WEIGHTS):
        _from_hub(spec, name, other, extra, optional=True)
    if not (folder / WEIGHTS).is_file() and (index := _from_hub(spec, name, INDEX, extra, optional=True)):
        for shard in sorted({*json.loads(index.read_text())["weight_map"].values()}):
            _from_hub(spec, name, shard, extra)
    return folder


def _from_hub(spec: str, name: str, file: str, extra: str, *, optional: bool = False) -> Any:
    """The path of a file of the hub; None where it is optional and not there."""
    hub = import_extra("huggingface_hub", extra)
    try:
        with in_reach(hub):
            return Path(hub.hf_hub_download(name, file))
    except Exception as error:  # of the network, of the hub's client, of the name: many types
        if optional:
            return None
        raise UsageError(
            f"{spec}: there is no folder {name}, and {file} of {name} is neither fetched ({first_line(error)}) "
            f"nor in the hub's cache {hub.constants.HF_HUB_CACHE}: put {CONFIG} and {WEIGHTS} into a "
            "folder, give its path"
        ) from None


@contextmanager
def in_reach(hub: Any) -> Iterator[None]:
    """The hub is asked only if it can be reached, else its cache: its client tries each file for half a minute.

    Raises:
        OSError: it cannot be reached, and the cache does not have what was asked for.
    """
    offline, unreachable = hub.constants.HF_HUB_OFFLINE, ""
    if not offline:
        try:
            hub.get_session().head(hub.constants.ENDPOINT, timeout=_REACH_SECONDS)
        except Exception as error:  # of many types
            unreachable = f"{hub.constants.ENDPOINT} cannot be reached: {first_line(error)}"
    hub.constants.HF_HUB_OFFLINE = offline or bool(unreachable)
    try:
        yield
    except Exception as error:
        if not unreachable:
            raise
        raise OSError(unreachable) from error
    finally:
        hub.constants.HF_HUB_OFFLINE = offline


def texts_of(spec: str, folder: Path) -> dict[str, str]:
    """The files that describe a network, by name.

    Raises:
        UsageError: the folder has no config.json.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{spec}: {folder} has no {CONFIG}; expected a folder as save_pretrained writes it")
    paths = [folder / name for name in (CONFIG, PREPROCESSOR, *TOKENIZER_FILES)]
    return {path.name: path.read_text() for path in paths if path.is_file()}


def content(spec: str, described: Mapping[str, str], file: str) -> dict[str, Any]:
    """What one of the files says; empty where it is not there.

    Raises:
        DataError: it is no JSON object.
    """
    try:
        found = json.loads(described.get(file, "{}"))
    except ValueError as error:
        raise DataError(f"{spec}: {file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{spec}: {file} holds {type(found).__name__}, expected an object")
    return found


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights, of whatever kind."""
    return _safe_file(folder) is not None or bool(_pickles(folder))


def weights_file(spec: str, folder: Path) -> Path:
    """The safetensors of a folder, or their index.

    Raises:
        UsageError: it holds none, or a pickle alone.
    """
    found = _safe_file(folder)
    if found is not None:
        return found
    if pickles := _pickles(folder):
        raise UsageError(
            f"{spec} keeps its weights in {pickles[0].name}, a pickle, which can run code and is not read: load "
            "it where you trust it and call save_pretrained, which writes model.safetensors"
        )
    raise UsageError(f"{spec}: {folder} has no {WEIGHTS}")


def _safe_file(folder: Path) -> Path | None:
    return next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for pattern in _PICKLES for path in folder.glob(pattern))
