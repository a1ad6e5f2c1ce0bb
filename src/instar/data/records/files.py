"""The files that a source means, and the parts that their names tell."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from instar.data.records.parting import part_named
from instar.errors import DataError, UsageError
from instar.naming import listed

ALL = "all"
"""The part of rows that are still to be split."""


def parts_of_files(scheme: str, place: str, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files of a source by part, training first; all of them under `ALL` where their names tell no part.

    Args:
        scheme: of the source, for messages.
        place: a file, a folder or a pattern with `*`.
        suffixes: of the files that are read in a folder.

    Raises:
        UsageError: there is no such file.
        DataError: some names tell a part and others do not.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return {ALL: [path]}
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_one(file, path, suffixes))
    else:
        files = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
    if not files:
        kinds = f" ({', '.join(suffixes)})" if path.is_dir() else ""
        raise UsageError(f"{scheme}:{place}: no such file{kinds}; expected a file, a folder or a pattern with *")
    return parts_of_paths(scheme, place, files, path if path.is_dir() else path.parent)


def parts_of_paths(scheme: str, place: str, files: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    """Files by the part that their names tell; a single file tells none."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(part_of_file(file, root) or ALL, []).append(file)
    if len(found) == 1:
        return {ALL: list(files)}
    if ALL in found:
        told = next(file for part, files in found.items() if part != ALL for file in files)
        raise DataError(
            f"{scheme}:{place}: {told.name} is a part by its name, {found[ALL][0].name} is none; name train, "
            "validation and test files, or give a pattern with *"
        )
    if "train" not in found:
        raise DataError(f"{scheme}:{place}: expected a train file beside {listed(sorted(found))}")
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def part_of_file(file: Path, root: Path) -> str | None:
    """The part that a file's name tells, or else that of its folder below the root.

    Example:
        >>> part_of_file(Path("d/train-00000-of-00002.parquet"), Path("d"))
        'train'
    """
    inside = file.relative_to(root).parts if file.is_relative_to(root) else (file.name,)
    for name in reversed(inside):
        told = {part for word in re.split(r"[^a-zA-Z]+", name) if (part := part_named(word))}
        if len(told) == 1:
            return told.pop()
    return None


def _is_one(file: Path, root: Path, suffixes: Sequence[str]) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.name.lower().endswith(tuple(suffixes)) and file.is_file() and not hidden
