"""Readers of file formats: each returns tensors, or raises a DataError that names the file."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from instar.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"


class LabelledImages(NamedTuple):
    """The examples of a file."""

    images: Tensor
    """(n, channels, height, width) uint8."""
    labels: Tensor
    """(n,) int64."""
    class_names: tuple[str, ...]


def read_bytes(path: Path, *, limit_bytes: int) -> bytes:
    """The content of a file; gzip is unpacked to its end, so that its checksum is verified.

    Raises:
        DataError: the file is missing, truncated, corrupted, or larger than `limit_bytes`.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as file:
            content: bytes = file.read(limit_bytes + 1)
    except EOFError as error:
        raise DataError(f"{path}: truncated gzip file; get it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: corrupted gzip file ({error}); get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > limit_bytes:
        raise DataError(f"{path}: holds more than {limit_bytes:,} bytes, which no file of this kind does")
    return content
