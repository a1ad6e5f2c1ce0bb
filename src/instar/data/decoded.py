"""A cache of decoded images, for files that take long to decode."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from instar.data.kept import was_used
from instar.data.readers import LabelledImages
from instar.data.sources import cache_folder
from instar.errors import DataError, UsageError
from instar.files import written_whole

_FORMAT = 1  # of the cached copies; another number invalidates them


def decoded_once(path: Path, decode: Callable[[], LabelledImages]) -> LabelledImages:
    """The decoded images of a file, from the cache where it has a copy.

    A copy is found by the checksum of the file. A cache that cannot be read or written is not used.

    Args:
        path: the file.
        decode: reads the file.

    Raises:
        DataError: the file cannot be read, or `decode` raises it.
    """
    copy = _copy_of(path)
    if copy is None:
        return decode()
    if (cached := _cached(copy)) is not None:
        return cached
    images = decode()
    _keep(copy, images)
    return images


def _copy_of(path: Path) -> Path | None:
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return cache_folder() / "decoded" / f"{checksum}-{_FORMAT}.safetensors"
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UsageError:
        return None


def _cached(copy: Path) -> LabelledImages | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(copy, framework="pt") as file:
            names = json.loads((file.metadata() or {})["class_names"])
            was_used(copy)
            return LabelledImages(file.get_tensor("images"), file.get_tensor("labels"), tuple(names))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _keep(copy: Path, images: LabelledImages) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"images": images.images, "labels": images.labels.to(torch.int64)}
    try:
        with written_whole(copy) as part:
            save_file(tensors, part, metadata={"class_names": json.dumps(images.class_names)})
    except (OSError, SafetensorError):  # the latter of a full disk
        return  # the cache only saves time
