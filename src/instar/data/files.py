"""Reads whole files, and writes files atomically."""

import gzip
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instar.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to `path` at the end of the block, or removed if the block fails.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
