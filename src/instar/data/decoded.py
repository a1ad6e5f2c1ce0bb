"""A copy of decoded images in the user's cache, for files that take long to decode."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from instar.data.files import written_whole
from instar.data.readers import LabelledImages
from instar.data.sources import cache_folder
from instar.errors import DataError, UsageError

_FORMAT = 1  # of the copy; another number makes every copy anew


def decoded_once(path: Path, decode: Callable[[], LabelledImages]) -> LabelledImages:
    """What `decode` makes of a file, from the cache where a copy of the same content is there.

    The copy is found by the file's checksum. Where the cache cannot be read or written it does without.

    Args:
        path: the file.
        decode: reads it.

    Raises:
        DataError: `decode` does.
    """
    copy = _copy_of(path)
    if copy is None:
        return decode()
    if (kept := _kept(copy)) is not None:
        return kept
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


def _kept(copy: Path) -> LabelledImages | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(copy, framework="pt") as file:
            names = json.loads((file.metadata() or {})["class_names"])
            return LabelledImages(file.get_tensor("images"), file.get_tensor("labels"), tuple(names))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _keep(copy: Path, images: LabelledImages) -> None:
    from safetensors.torch import save_file

    tensors = {"images": images.images, "labels": images.labels.to(torch.int64)}
    try:
        with written_whole(copy) as part:
            save_file(tensors, part, metadata={"class_names": json.dumps(images.class_names)})
    except OSError:
        return  # the cache saves time, nothing else depends on it
