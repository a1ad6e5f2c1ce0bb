"""A folder of sounds, with one folder for each class, as rows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from instar.data.readers.folder import class_folders, find_parts
from instar.data.readers.images import IMAGE_SUFFIXES
from instar.data.records.files import ALL
from instar.data.records.places import with_places
from instar.data.records.roles import Roles
from instar.errors import DataError

SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
ROLES = Roles(label="class", audio="file")
"""Of the columns that the rows have."""


def holds_sounds(folder: Path) -> bool:
    """Whether the first picture or sound below a folder is a sound."""
    kinds = (file.suffix.lower() for file in _files(folder))
    first = next((kind for kind in kinds if kind in SOUND_SUFFIXES | IMAGE_SUFFIXES), None)
    return first in SOUND_SUFFIXES


def read_tables(folder: Path) -> dict[str, pa.Table]:
    """The path and the class of each sound, by part where the folder has `train/` and `test/`.

    Raises:
        DataError: fewer than two classes, or a class without a sound.
        UsageError: there is no such folder.
    """
    return {part: _table(path) for part, path in (find_parts(folder) or {ALL: folder}).items()}


def _table(folder: Path) -> pa.Table:
    classes = class_folders(folder)
    if len(classes) < 2:
        found = ", ".join(path.name for path in classes) or "none"
        raise DataError(f"{folder}: expected two or more folders, one a class, found {found}")
    files: list[str] = []
    names: list[str] = []
    for path in classes:
        sounds = [str(file) for file in find_sounds(path)]
        if not sounds:
            kinds = ", ".join(sorted(SOUND_SUFFIXES))
            raise DataError(f"{path}: no sounds in this class ({kinds} are read); add some or remove the folder")
        files += sounds
        names += [path.name] * len(sounds)
    return with_places([pa.table({"file": files, "class": names})], [""])


def find_sounds(folder: Path) -> list[Path]:
    """The sounds below a folder, sorted; nothing hidden."""
    return [file for file in _files(folder) if file.suffix.lower() in SOUND_SUFFIXES]


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted; nothing hidden."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file():
            yield path
