"""A folder of images, one folder a class."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from instar.data.dataset import Dataset, InMemoryDataset, StreamingDataset
from instar.data.identity import content_ids
from instar.data.progress import tracked
from instar.data.readers.images import (
    CHANNELS,
    CONVERTED,
    IMAGE_SUFFIXES,
    OFFER_TO_FIT,
    ImageForm,
    check_convertible,
    content_of,
    describe,
    opened,
)
from instar.errors import DataError, UsageError


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder, sorted, with their classes."""

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]


def list_image_folder(folder: Path, *, class_names: Sequence[str] | None = None) -> ImageFolder:
    """Find the images of a folder that has one folder a class.

    Args:
        folder: hidden files, and files that are no images by their name, are passed over.
        class_names: where another folder has settled them; this one may lack some, and has no others.

    Raises:
        DataError: no class, a single one, one without images, or one that `class_names` lacks.
        UsageError: no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"folder:{folder}: no such folder")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if class_names is None:
        class_names = [path.name for path in classes]
        if len(classes) < 2:
            found = ", ".join(class_names) or "none"
            raise DataError(f"{folder}: expected two or more folders, one a class, found {found}")
    files: list[Path] = []
    labels: list[int] = []
    for path in classes:
        if path.name not in class_names:
            raise DataError(
                f"{path}: class {path.name!r} is not one of the training classes {', '.join(class_names)}"
            )
        images = sorted(file for file in path.rglob("*") if is_image(file))
        if not images:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"{path}: no images in this class ({kinds} are read); add some or remove the folder")
        files += images
        labels += [class_names.index(path.name)] * len(images)
    if not files:
        raise DataError(f"{folder}: empty; expected one folder a class")
    return ImageFolder(folder, tuple(files), tuple(labels), tuple(class_names))


def common_form(files: Sequence[Path], *, image_size: int | None = None, progress: bool = True) -> ImageForm:
    """The form that all images are read in: the first one's, or square of an image size.

    Args:
        files: at least one.
        image_size: height and width; colour, unless every image is grey.
        progress: draw a bar on stderr.

    Raises:
        DataError: an image that cannot be read, or of a mode that cannot be used.
    """
    if image_size is None:
        mode, height, width = _header(files[0])
        if mode not in CHANNELS:
            check_convertible(mode, files[0])
            found = describe(mode, height, width)
            raise DataError(f"{files[0]}: expected grey or colour of eight bits, found {found}; {OFFER_TO_FIT}")
        return ImageForm(mode, height, width)
    modes = set()
    for file in tracked(files, total=len(files), description="looking at images", show=progress):
        mode, _, _ = _header(file)
        check_convertible(mode, file)
        modes.add(CONVERTED[mode])
    return ImageForm("RGB" if "RGB" in modes else "L", image_size, image_size, fit=True)


def folder_dataset(
    listing: ImageFolder, form: ImageForm, *, memory_budget_bytes: int, progress: bool = True
) -> Dataset:
    """The data set of a folder: in memory where the decoded images fit the budget, else streaming.

    Ids are made from the bytes of the files either way, and every image is looked at now, not in the first epoch.

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
    images = torch.empty(len(files), *form.shape, dtype=torch.uint8)
    ids = content_ids(_decoding(bar, form, images), labels)
    return InMemoryDataset(images, labels, class_names=listing.class_names, ids=ids)


def _decoding(files: Iterable[Path], form: ImageForm, images: Tensor) -> Iterator[bytes]:
    """The content of each file, while the rows of `images` fill: a file is read once."""
    for row, file in enumerate(files):
        content = content_of(file)
        images[row] = form.decode(content, file)
        yield content


def _checked_content(file: Path, form: ImageForm) -> bytes:
    content = content_of(file)
    with opened(content, file) as image:
        form.check(image, file)
    return content


def _header(file: Path) -> tuple[str, int, int]:
    with opened(file, file) as image:
        return image.mode, image.height, image.width


def is_image(file: Path) -> bool:
    """Whether a file is a picture by its name, and not hidden."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
