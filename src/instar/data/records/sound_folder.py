"""A folder of sounds, with one folder for each class, as rows."""

from pathlib import Path

import pyarrow as pa

from instar.data.readers.audio import SOUND_SUFFIXES
from instar.data.readers.folder import class_folders, find_parts, find_sounds
from instar.data.records.files import ALL
from instar.data.records.places import with_places
from instar.data.records.roles import Roles
from instar.errors import DataError

ROLES = Roles(label="class", audio="file")
"""Of the columns that the rows have."""


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
