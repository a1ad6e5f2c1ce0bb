"""The named data sets with their publishers' training and test sets."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data.columns import contents
from instar.data.dataset import Dataset
from instar.data.decoded import decoded_once
from instar.data.hashing import key_of, keyed_hash
from instar.data.identity import content_ids
from instar.data.memory import InMemoryDataset
from instar.data.pictures import AS_PUBLISHED, PictureForm, in_colour
from instar.data.readers import LabelledImages
from instar.data.readers.cifar import read_cifar_archive
from instar.data.readers.idx import read_idx
from instar.data.readers.images import ImageForm
from instar.data.readers.omniglot import NUM_DRAWERS, read_omniglot_archives, read_omniglot_table
from instar.data.readers.parquet import read_image_table
from instar.data.sources import SOURCES, obtain
from instar.errors import DataError

_DIGITS = tuple("0123456789")
_IDX_CLASSES = {
    "mnist": _DIGITS,
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
_IDX_SIZE = (28, 28)
_CIFAR_FORM = ImageForm("RGB", 32, 32)
_LABEL_COLUMNS = {"cifar10": "label", "cifar100": "fine_label"}


def load_digits(form: PictureForm = AS_PUBLISHED) -> Dataset:
    """The 1,797 digits of scikit-learn, 8x8 pixels, grey values 0 to 16, without a test set."""
    table = torch.from_numpy(_digits_table())
    images, labels = table[:, :-1].to(torch.uint8).view(-1, 1, 8, 8), table[:, -1].long()
    ids = content_ids(contents(images), labels)
    return InMemoryDataset(form.of(images, white=16), labels, class_names=_DIGITS, ids=ids, scale=1 / 16)


def _digits_table() -> NDArray[np.float64]:
    """(1797, 65): the pixels and the label of each digit, without importing scikit-learn, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
        if file.exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn import datasets  # which knows where it keeps the file

    return np.column_stack(datasets.load_digits(return_X_y=True))


def load_official(
    name: str, form: PictureForm = AS_PUBLISHED, *, base_url: str | None, progress: bool
) -> tuple[Dataset, Dataset]:
    """Training and test data of one of `SOURCES`, found or downloaded.

    Raises:
        DataError: a file is missing, damaged or cannot be downloaded.
        UsageError: `INSTAR_DATA` is not a folder, or pictures of this form would take too much memory.
    """
    folder, files = obtain(SOURCES[name], base_url=base_url, progress=progress)
    paths = [folder / file for file in files]
    if name in _IDX_CLASSES:
        class_names = _IDX_CLASSES[name]
        train = _idx_pair(paths[0], paths[1], class_names)
        test = _idx_pair(paths[2], paths[3], class_names)
        return _in_memory(train, form), _in_memory(test, form)
    if len(paths) == 1:
        train, test = read_cifar_archive(paths[0])
    else:
        train, test = (_decoded_table(path, _LABEL_COLUMNS[name], progress) for path in paths)
    mean, std = channel_statistics(train.images if form.colour is None else in_colour(train.images, form.colour))
    return _in_memory(train, form, mean=mean, std=std), _in_memory(test, form, mean=mean, std=std)


_TEST_DRAWERS = (18, 19, 20)  # the same for everybody, whatever split_seed is
_NUM_VALIDATION_DRAWERS = 2


def load_omniglot(
    form: PictureForm, *, split_seed: int, base_url: str | None, progress: bool
) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test data of Omniglot, split by drawer: 15, 2 and 3 of the 20 of each character.

    Args:
        form: of the drawings; 105 pixels high and wide by default.
        split_seed: chooses the drawers of the validation data.
        base_url: as for `load_data`.
        progress: draw bars on stderr.

    Raises:
        DataError: a file is missing, damaged or cannot be downloaded.
        UsageError: `INSTAR_DATA` is not a folder.
    """
    folder, files = obtain(SOURCES["omniglot"], base_url=base_url, progress=progress)
    paths = [folder / file for file in files]
    side = {} if form.image_size is None else {"side": form.image_size}
    if len(paths) == 1:
        drawings = read_omniglot_table(paths[0], **side)
    else:
        drawings = read_omniglot_archives(paths, progress=progress, **side)
    whole = _in_memory(drawings, form)
    drawers = torch.arange(len(whole)) % NUM_DRAWERS + 1
    others = torch.tensor([drawer for drawer in range(1, NUM_DRAWERS + 1) if drawer not in _TEST_DRAWERS])
    hashes = keyed_hash(key_of("drawers", split_seed), others)
    validation = others[hashes.argsort()[:_NUM_VALIDATION_DRAWERS]]
    is_test, is_validation = torch.isin(drawers, torch.tensor(_TEST_DRAWERS)), torch.isin(drawers, validation)
    parts = (~is_test & ~is_validation, is_validation, is_test)
    train, chosen, test = (whole.subset(whole.ids[part]) for part in parts)
    return train, chosen, test


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """The exact mean and standard deviation of each channel on a scale from 0 to 1, from counts of the 256 values.

    Args:
        images: (n, channels, height, width) uint8.

    Returns: (channels,) and (channels,) float64; a constant channel gets standard deviation 1.
    """
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    weights = counts.double() / counts.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    std = (weights * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    return mean, torch.where(std > 0, std, 1.0)


def _idx_pair(images_path: Path, labels_path: Path, class_names: tuple[str, ...]) -> LabelledImages:
    images, labels = read_idx(images_path, dims=3), read_idx(labels_path, dims=1).long()
    if len(images) == 0 or images.shape[1:] != _IDX_SIZE:
        found = "x".join(map(str, images.shape))
        raise DataError(f"{images_path}: expected images of 28x28, found an array of {found}")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path}: {len(labels):,} labels for the {len(images):,} images of {images_path.name}"
        )
    if int(labels.max()) >= len(class_names):
        raise DataError(f"{labels_path}: label {int(labels.max())}, but there are {len(class_names)} classes")
    return LabelledImages(images[:, None], labels, class_names)


def _decoded_table(path: Path, label_column: str, progress: bool) -> LabelledImages:
    return decoded_once(
        path,
        lambda: read_image_table(path, label_column=label_column, form=_CIFAR_FORM, progress=progress),
    )


def _in_memory(
    data: LabelledImages, form: PictureForm, *, mean: Tensor | None = None, std: Tensor | None = None
) -> Dataset:
    """The data set of some images; ids are those of the published images, in any form."""
    ids = content_ids(contents(data.images), data.labels)
    return InMemoryDataset(
        form.of(data.images), data.labels, class_names=data.class_names, ids=ids, mean=mean, std=std
    )
