"""A folder of images, with one folder for each class."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.identity import content_ids
from instar.data.kept import was_used
from instar.data.mapped import is_whole, keep_examples, read_examples
from instar.data.memory import InMemoryDataset
from instar.data.progress import tracked
from instar.data.readers.audio import SOUND_SUFFIXES
from instar.data.readers.images import (
    CHANNELS,
    CONVERTED,
    IMAGE_SUFFIXES,
    MODES,
    OFFER_TO_FIT,
    ImageForm,
    check_convertible,
    content_of,
    describe,
    opened,
    upright_size,
)
from instar.data.sources import cache_folder
from instar.data.streaming import StreamingDataset
from instar.errors import DataError, DataWarning, RunError, UsageError

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""The usual names of the parts of a data set, in upper or lower case."""

_FEW = 1_000  # pictures: fewer are decoded in less time than it takes to notice
_FORMAT = 1  # of those that are kept; another number invalidates them


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder, sorted, with their classes."""

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]


def list_image_folder(folder: Path, *, class_names: Sequence[str] | None = None) -> ImageFolder:
    """Find the images of a folder that has one folder for each class.

    Args:
        folder: hidden files and folders, linked folders, and files without the name of an image are not read.
        class_names: the classes of the training data; this folder may lack some, but has no others.

    Raises:
        DataError: fewer than two classes, a class without images, or one that is not in `class_names`.
        UsageError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UsageError(f"folder:{folder}: no such folder")
    classes = class_folders(folder)
    if class_names is None:
        class_names = [path.name for path in classes]
        if len(classes) < 2:
            found = ", ".join(class_names) or "none"
            raise DataError(f"{folder}: expected two or more folders, one a class, found {found}")
    files: list[Path] = []
    labels: list[int] = []
    passed_over: Counter[str] = Counter()
    for path in classes:
        if path.name not in class_names:
            raise DataError(
                f"{path}: class {path.name!r} is not one of the training classes {', '.join(class_names)}"
            )
        images = find_images(path, passed_over)
        if not images:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"{path}: no images in this class ({kinds} are read); add some or remove the folder")
        files += images
        labels += [class_names.index(path.name)] * len(images)
    if not files:
        raise DataError(f"{folder}: empty; expected one folder a class")
    warn_of_passed_over(folder, passed_over)
    return ImageFolder(folder, tuple(files), tuple(labels), tuple(class_names))


def common_form(
    files: Sequence[Path] | Sequence[bytes],
    names: Sequence[object] | None = None,
    *,
    image_size: int | None = None,
    colour: str | None = None,
    progress: bool = True,
) -> ImageForm:
    """The form that all images are read in: that of the first image, or a given size or colour.

    Args:
        files: at least one file, or its content.
        names: what messages call them.
        image_size: height and width of a square.
        colour: `rgb` or `grey`; by default, with an image size, colour unless every image is grey.
        progress: draw a bar on stderr.

    Raises:
        DataError: an image that cannot be read, or has a mode that cannot be used.
    """
    names = list(files) if names is None else names
    if colour is not None and image_size is not None:
        return ImageForm(MODES[colour], image_size, image_size, fit=True)
    if image_size is None:
        mode, height, width = _header(files[0], names[0])
        if colour is not None:
            return ImageForm(MODES[colour], height, width, convert=True)
        if mode not in CHANNELS:
            check_convertible(mode, names[0])
            found = describe(mode, height, width)
            raise DataError(f"{names[0]}: expected eight-bit grey or colour, found {found}; {OFFER_TO_FIT}")
        return ImageForm(mode, height, width)
    modes = set()
    bar = tracked(range(len(files)), total=len(files), description="looking at images", show=progress)
    for row in bar:
        mode, _, _ = _header(files[row], name := names[row])
        check_convertible(mode, name)
        modes.add(CONVERTED[mode])
    return ImageForm("RGB" if "RGB" in modes else "L", image_size, image_size, fit=True)


def folder_dataset(
    listing: ImageFolder, form: ImageForm, *, memory_budget_bytes: int, progress: bool = True
) -> Dataset:
    """The data set of a folder: in memory where the decoded images fit the budget, else streaming.

    Ids are made from the bytes of the files either way. Every image is decoded now, so a broken one is found
    before anything is trained.

    Raises:
        DataError: an image that cannot be read, or of another form.
    """
    files, labels = listing.files, torch.tensor(listing.labels)
    bar = tracked(files, total=len(files), description=f"reading {listing.folder.name}", show=progress)
    if len(files) * math.prod(form.shape) > memory_budget_bytes:
        return StreamingDataset(
            files,
            labels,
            decode=form.read,
            class_names=listing.class_names,
            example_shape=form.shape,
            ids=content_ids((_checked_content(file, form) for file in bar), labels),
        )
    form.read(files[0])  # a damaged header may claim a size that there is no memory for
    if len(files) <= _FEW:
        images = torch.empty(len(files), *form.shape, dtype=torch.uint8)
        ids = content_ids(_decoding(bar, form, images), labels)
    else:
        ids = content_ids(map(content_of, files), labels)
        images = _decoded_once(files, form, ids, bar)
    data = InMemoryDataset(images, labels, class_names=listing.class_names, ids=ids)
    data.files = files
    return data


def _decoding(files: Iterable[Path], form: ImageForm, images: Tensor) -> Iterator[bytes]:
    """Yield the content of each file, and decode it into `images`, so that each file is read once."""
    for row, file in enumerate(files):
        content = content_of(file)
        form.write(content, file, images[row].numpy())
        yield content


def _decoded_once(files: Sequence[Path], form: ImageForm, ids: Tensor, bar: Iterable[Path]) -> Tensor:
    """The images of files, from the cache where files of this content were decoded before."""
    about = json.dumps([_FORMAT, "folder", dataclasses.asdict(form)]).encode()
    try:
        folder = cache_folder() / "prepared" / hashlib.sha256(about + ids.numpy().tobytes()).hexdigest()[:32]
        if is_whole(folder, in_full=True):
            was_used(folder)
            found = read_examples(folder, torch.empty(0, *form.shape, dtype=torch.uint8))
            assert isinstance(found, Tensor)
            return found
    except (UsageError, DataError, OSError):  # there is no cache, or another process has made room
        folder = None
    images = torch.empty(len(files), *form.shape, dtype=torch.uint8)
    for _ in _decoding(bar, form, images):
        pass
    if folder is not None:
        with contextlib.suppress(RunError):
            keep_examples(folder, [images])
    return images


def _checked_content(file: Path, form: ImageForm) -> bytes:
    content = content_of(file)
    form.decode(content, file)
    return content


def _header(file: Path | bytes, name: object) -> tuple[str, int, int]:
    with opened(file, name) as image:
        width, height = upright_size(image)
        return image.mode, height, width


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def find_images(folder: Path, passed_over: Counter[str] | None = None) -> list[Path]:
    """The images below a folder, as `_find`."""
    return _find(folder, IMAGE_SUFFIXES, passed_over)


def find_sounds(folder: Path) -> list[Path]:
    """The sounds below a folder, as `_find`."""
    return _find(folder, SOUND_SUFFIXES)


def holds_sounds(folder: Path) -> bool:
    """Whether the first picture or sound below a folder is a sound."""
    endings = (file.suffix.lower() for file in _files(folder))
    return (
        next((ending for ending in endings if ending in SOUND_SUFFIXES | IMAGE_SUFFIXES), None) in SOUND_SUFFIXES
    )


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder one by one, sorted; nothing hidden, and no linked folder."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _is_hidden(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file():
            yield path


def _find(folder: Path, suffixes: Set[str], passed_over: Counter[str] | None = None) -> list[Path]:
    """The files of some endings below a folder, sorted. Nothing hidden is read at any depth, and no linked folder.

    Args:
        folder: searched to any depth.
        suffixes: of the files.
        passed_over: counts what is not read, by kind: other endings, linked folders.
    """
    passed_over = Counter() if passed_over is None else passed_over
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        passed_over["linked folders"] += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        for name in files:
            file = Path(place, name)
            if _is_hidden(name) or not file.is_file():
                continue
            if file.suffix.lower() in suffixes:
                found.append(file)
            else:
                passed_over[f"{file.suffix or 'other'} files"] += 1
    return sorted(found)


def warn_of_passed_over(folder: Path, passed_over: Counter[str]) -> None:
    """One warning that counts what was not read, if anything was."""
    if counts := [f"{kind} ({number})" for kind, number in sorted(passed_over.items()) if number]:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        warnings.warn(f"{folder}: not read: {', '.join(counts)}; images end in {kinds}", DataWarning, stacklevel=2)


def find_parts(folder: Path) -> dict[str, Path]:
    """The folders that are parts of a data set by their names, `train`, `test` and perhaps `validation`, or none.

    Raises:
        DataError: two folders are the same part, train or test is missing beside another part, or folders of other
            names hold the same class folders.
        UsageError: no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"folder:{folder}: no such folder")
    inside = class_folders(folder)
    parts: dict[str, Path] = {}
    for part, names in PARTS.items():
        found = [path for path in inside if path.name.lower() in names]
        if len(found) > 1:
            raise DataError(
                f"{folder}: {' and '.join(f'{path.name}/' for path in found)} are both the {part} part by their "
                "names; keep one"
            )
        if found:
            parts[part] = found[0]
    if len(parts) < 2:
        _refuse_unnamed_parts(folder, inside)
        return {}  # a single one is a class with that name
    if not {"train", "test"} <= set(parts):
        raise DataError(
            f"{folder}: expected train/ and test/ and perhaps validation/, found "
            f"{'/ and '.join(path.name for path in parts.values())}/; add what is missing, or remove the "
            "parts: with one folder for each class the data is split into three"
        )
    return parts


def _refuse_unnamed_parts(folder: Path, inside: Sequence[Path]) -> None:
    """Folders that hold the same folders and no image of their own are parts of a data set, not classes."""
    names = {path: _folders_alone(path) for path in inside}
    for path in inside[1:]:
        same = sorted(names[inside[0]] & names[path])
        if len(same) > 1:
            raise DataError(
                f"{folder}: {inside[0].name}/ and {path.name}/ hold the same folders {same[0]}/, {same[1]}/: are "
                "they parts of the data? Name them train/, validation/ and test/, or put the images of a class "
                "into one folder"
            )


def _folders_alone(path: Path) -> set[str]:
    """The names of the folders in a folder without files; empty where there are files."""
    entries = [entry for entry in path.iterdir() if not _is_hidden(entry.name)]
    return {entry.name for entry in entries} if all(entry.is_dir() for entry in entries) else set()


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
