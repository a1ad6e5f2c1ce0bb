"""Atomic writes, and readers that report a damaged file."""

import contextlib
import errno
import hashlib
import json
import os
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from instar.errors import RunError, UsageError


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


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to `path` at the end of the block, or removed if the block fails.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, flushed to the disk.

    Raises:
        RunError: the disk is full or not writable; an earlier version of the file is still there.
    """
    with writing(path), written_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it.

    Raises:
        UsageError: there is no such file.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def tensor_bytes(values: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file that `load_tensors` reads.

    Args:
        values: tensors, and others that JSON can hold, such as the extra state of a module.
        state: saved with them.
    """
    from safetensors.torch import save

    return save(**_to_save(values, state))


def write_tensors(path: Path, values: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> None:
    """The file of `tensor_bytes`, written from the memory that the tensors are in.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(filename=path, **_to_save(values, state))
    except SafetensorError as error:  # of the disk too
        raise OSError(str(error)) from error
    path.chmod(mode)  # it is another file now, which its owner alone could read


def _to_save(values: Mapping[str, Any], state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of safetensors' functions."""
    from torch import Tensor

    tensors = {
        key: value.detach().cpu().contiguous() for key, value in values.items() if isinstance(value, Tensor)
    }
    metadata = {} if state is None else {"state": json.dumps(state)}
    if others := {key: value for key, value in values.items() if key not in tensors}:
        metadata["others"] = json.dumps(others)
    return {"tensors": _unshared(tensors), "metadata": metadata or None}


def _unshared(tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors, with a copy of each one that shares its memory with another (tied weights)."""
    known: set[int] = set()
    for name, value in tensors.items():
        memory = value.untyped_storage().data_ptr()
        if memory in known:
            tensors[name] = value.clone()
        known.add(memory)
    return tensors


def load_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a safetensors file, with values that are no tensors, and the state that was saved with them.

    Raises:
        RunError: the file is missing, truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            about = file.metadata() or {}
            state = dict(json.loads(about.get("state", "{}")))
            tensors |= dict(json.loads(about.get("others", "{}")))
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
