"""Looks at every example of a data set: what is broken, what is there twice, which classes are too small."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from instar.data.copies import contents_of
from instar.data.identity import original_rows
from instar.data.named import Splits
from instar.data.progress import tracked
from instar.data.readers.folder import class_folders, find_images, find_parts
from instar.data.readers.images import content_of, describe, whole_picture
from instar.errors import DataError
from instar.losses import NO_LABEL
from instar.structures import form_in_words

ALL = "all"
"""The part of a folder without parts: it is split into three."""

_DISTINCT = {ALL: 3, "train": 2}
"""Different examples of each class that are needed where a part is split further."""


class Seen(NamedTuple):
    """An example that was read."""

    content: bytes
    """equal for byte-identical examples"""
    part: str
    label: str
    name: str


class Copies(NamedTuple):
    """Byte-identical examples."""

    kind: str
    """`across parts`, `different labels`, both, or `same class`"""
    examples: tuple[Seen, ...]


class Broken(NamedTuple):
    """What cannot be read, or would be refused when the data are split."""

    where: str
    reason: str


@dataclass
class Inspection:
    """What was found in a data set."""

    name: str
    seen: list[Seen] = field(default_factory=list)
    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    """number of examples by part and form, `32x32 colour`"""
    broken: list[Broken] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    """files that are not read, by kind"""

    @property
    def classes(self) -> dict[str, Counter[str]]:
        """Number of examples by part and class."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for one in self.seen:
            counts[one.part][one.label] += 1
        return counts

    @property
    def copies(self) -> list[Copies]:
        """Groups of byte-identical examples, those across parts first."""
        groups: dict[bytes, list[Seen]] = defaultdict(list)
        for one in self.seen:
            groups[one.content].append(one)
        found = [Copies(_kind_of(group), tuple(group)) for group in groups.values() if len(group) > 1]
        return sorted(found, key=lambda copies: copies.kind)


def inspect_folder(folder: Path, *, progress: bool = True) -> Inspection:
    """Read and decode every picture of a folder, in all its parts.

    Args:
        folder: as for `folder:PATH`.
        progress: draw a bar on stderr.

    Raises:
        DataError: the parts are not clear.
        UsageError: no such folder.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     for number in range(3): Image.new("L", (4, 4), 50 * number).save(folder / name / f"{number}.png")
        >>> _ = (folder / "dog" / "2.png").write_bytes(b"nothing")
        >>> found = inspect_folder(folder)
        >>> [one.reason for one in found.broken]
        ['not an image that can be read (or not a whole one)', '2 different examples, at least 3 are needed']
        >>> [copies.kind for copies in found.copies]
        ['different labels', 'different labels']
    """
    found = Inspection(f"folder:{folder}")
    parts = find_parts(folder) or {ALL: folder}
    files = list(_files_of(found, parts))
    for part, label, file in tracked(files, total=len(files), description="checking pictures", show=progress):
        try:
            content = content_of(file)
            mode, height, width = whole_picture(content, file)
        except DataError as error:
            found.broken.append(Broken(str(file), str(error).removeprefix(f"{file}: ")))
        else:
            found.seen.append(Seen(hashlib.blake2b(content).digest(), part, label, str(file)))
            found.forms[part, describe(mode, height, width)] += 1
    needed = {
        part: _DISTINCT[part] for part in parts if part == ALL or (part == "train" and "validation" not in parts)
    }
    _note_small_classes(found, needed)
    return found


def inspect_splits(splits: Splits) -> Inspection:
    """Compare all examples of data that were read, part by part."""
    found = Inspection(splits.name)
    for part in ("train", "validation", "test"):
        data = getattr(splits, part)
        ids = contents_of(data)
        contents = ids[original_rows(ids)].tolist()
        labels = data.labels(data.ids)
        labels = (labels if labels.dim() == 1 else labels.new_full((len(labels),), NO_LABEL)).tolist()
        for content, label, name in zip(contents, labels, data.names(data.ids), strict=True):
            text = data.class_names[label] if label >= 0 else ""
            found.seen.append(Seen(content.to_bytes(8, "little", signed=True), part, text, f"{part} {name}"))
        found.forms[part, form_in_words(data.example_shape)] += len(data)
    return found


def _files_of(found: Inspection, parts: dict[str, Path]) -> Iterator[tuple[str, str, Path]]:
    """Part, class and path of each picture; empty and unknown classes are noted."""
    known: Sequence[str] | None = None
    for part, place in parts.items():
        folders = class_folders(place)
        if known is None:
            known = [path.name for path in folders]
            if len(known) < 2:
                found.broken.append(Broken(str(place), "expected two or more folders, one a class"))
        for path in folders:
            images = find_images(path, found.passed_over)
            if path.name not in known:
                found.broken.append(Broken(str(path), "no class of the training data"))
            elif not images:
                found.broken.append(Broken(str(path), "no images in this class"))
            yield from ((part, path.name, file) for file in images)


def _note_small_classes(found: Inspection, needed: dict[str, int]) -> None:
    distinct: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for one in found.seen:
        distinct[one.part, one.label].add(one.content)
    for (part, label), contents in distinct.items():
        if len(contents) < needed.get(part, 1):
            reason = f"{len(contents)} different examples, at least {needed[part]} are needed"
            found.broken.append(Broken(f"class {label}", reason))


def _kind_of(group: Sequence[Seen]) -> str:
    kinds = ["across parts"] * (len({one.part for one in group}) > 1)
    kinds += ["different labels"] * (len({one.label for one in group}) > 1)
    return ", ".join(kinds) or "same class"
