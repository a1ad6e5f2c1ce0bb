"""`instar.json`, which says what the files of an export are: it has their checksums, and one of its own."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.errors import RunError

ABOUT = "instar.json"
VERSION = 1
_FORMAT = "instar-export"


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write `instar.json` of a folder, with the checksums of the files that are there."""
    files = {file.name: checksum(file.read_bytes()) for file in sorted(folder.iterdir()) if file.name != ABOUT}
    content = {"format": _FORMAT, "version": VERSION, **about, "sha256": files}
    text = json.dumps({**content, "checksum": checksum(_canonical(content))}, indent=2, allow_nan=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """The content of `instar.json`.

    Raises:
        RunError: it is damaged, or was written by a newer instar.
    """
    try:
        content = json.loads((folder / ABOUT).read_bytes())
        stated = content.pop("checksum")
        if stated != checksum(_canonical(content)):
            raise ValueError("its checksum is another one")
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise RunError(f"{folder / ABOUT} is damaged ({error}): export the run again") from error
    if content["version"] > VERSION:
        raise RunError(f"{folder} has format version {content['version']}, this instar reads {VERSION}: update it")
    return dict(content)


def about_file(file: Path) -> dict[str, Any] | None:
    """What the `instar.json` beside a file says of it; None where there is none, or that of other files.

    Raises:
        RunError: as `read_about`, or the file was changed since it was exported.
    """
    try:
        content = json.loads((file.parent / ABOUT).read_bytes())
        is_ours = content["format"] == _FORMAT and file.name in content["sha256"]
    except (OSError, ValueError, LookupError, TypeError):  # another program's file of this name
        return None
    if not is_ours:
        return None
    about = read_about(file.parent)
    check_content(file, about)
    return about


def check_content(file: Path, about: Mapping[str, Any]) -> None:
    """Refuse a file that was changed since it was exported.

    Raises:
        RunError: its checksum is another one, or it cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}; export the run again") from error
    if about["sha256"][file.name] != checksum(content):
        raise RunError(
            f"{file} is not the file that was exported, its checksum is another one: export the run again"
        )


def checksum(content: bytes) -> str:
    """SHA-256, in hex digits."""
    return hashlib.sha256(content).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
