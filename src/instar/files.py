"""Atomic writes, and readers that report a damaged file."""

import contextlib
import errno
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from instar.errors import RunError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one clear `RunError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RunError(
                f"{path}: the disk is full ({error.strerror}); make room and run the same command again"
            ) from error
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file beside it, flushed to the disk, then renamed.

    Raises:
        RunError: the disk is full or not writable; an earlier version of the file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def load_tensors(path: Path) -> tuple["dict[str, Tensor]", dict[str, Any]]:
    """The tensors of a safetensors file, and the state that was saved with them.

    Raises:
        RunError: the file is missing, truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            state = dict(json.loads((file.metadata() or {}).get("state", "{}")))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}; remove it and run again") from error
    return tensors, state


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UsageError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
