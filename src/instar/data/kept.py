"""What the cache folder keeps of work that was done: found by what it was made of, checked, within a limit."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from instar.data.sources import cache_folder
from instar.errors import InstarError, UsageError
from instar.files import load_tensors, write_tensors, written_whole

MOST_GIB = 20.0
"""Of all that is kept, unless `INSTAR_CACHE_GIB` says otherwise."""

_BOUNDED = ("read", "prepared", "tokenised", "decoded", "features")  # what was downloaded is not removed
_A_DAY = 86_400  # seconds, after which a file that is still half-written belongs to a process that died


def write_kept(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Keep tensors and what JSON holds of them; a cache that cannot be written is not used."""
    text = json.dumps(about)
    state = {"about": text, "sha256": _checksum(tensors, text)}
    with contextlib.suppress(OSError), written_whole(file) as part:
        write_tensors(part, tensors, state)


def read_kept(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_kept` kept; None where it is not there, or is damaged."""
    if not file.is_file():
        return None
    try:
        tensors, state = load_tensors(file)
        if _checksum(tensors, state["about"]) != state["sha256"]:
            return None
        was_used(file)
        return tensors, json.loads(state["about"])
    except (InstarError, KeyError, ValueError):
        return None


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def was_used(path: Path) -> None:
    """Say that something is still of use: what was used last is removed last."""
    now = time.time_ns()  # the system's own times for files are some milliseconds coarse
    with contextlib.suppress(OSError):
        os.utime(path, ns=(now, now))


def most_bytes() -> float:
    """How much may be kept.

    Raises:
        UsageError: `INSTAR_CACHE_GIB` is no number.
    """
    chosen = os.environ.get("INSTAR_CACHE_GIB", str(MOST_GIB))
    try:
        number = float(chosen)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise UsageError(f"INSTAR_CACHE_GIB={chosen}: expected how many GiB the cache may take, 0 or more")
    return number * 2**30


_MADE_ROOM: set[tuple[Path, float]] = set()
"""The folders and limits that this process has made room for."""


def make_room_once(*spared: Path) -> None:
    """`make_room`, once in a process: what is found in the cache adds nothing, but the limit may be a new one."""
    if (cache_folder(), most_bytes()) not in _MADE_ROOM:
        make_room(*spared)


def make_room(*spared: Path) -> None:
    """Remove what was used least recently until the rest is within the limit.

    A process that has a removed file mapped into memory keeps it until it ends.

    Args:
        spared: is not removed, whatever its size: it is about to be used.
    """
    folder, limit = cache_folder(), most_bytes()
    _MADE_ROOM.add((folder, limit))
    for path in spared:
        was_used(path)
    found: list[tuple[float, int, Path]] = []
    for path in (path for kind in _BOUNDED for path in (folder / kind).glob("*")):
        with contextlib.suppress(OSError):  # another process has removed it
            used = path.stat().st_mtime
            if not path.name.startswith("."):
                found.append((used, bytes_of(path), path))
            elif time.time() - used > _A_DAY:
                remove(path)
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path not in spared:
            remove(path)
            total -= size


def bytes_of(path: Path) -> int:
    """The bytes of a file, or of the files of a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def remove(path: Path) -> None:
    """Remove a file or a folder at once: nobody finds a half of it."""
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with contextlib.suppress(OSError):
        path.rename(hidden)
        if hidden.is_dir():
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            hidden.unlink()
