"""The binary archives of CIFAR-10 and CIFAR-100, read without unpacking them to disk."""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch

from instar.data.readers import LabelledImages, read_bytes
from instar.errors import DataError

_LIMIT_BYTES = 1 << 29  # both archives hold about 185 MB
_PIXELS = 3 * 32 * 32
_NAMES = {"batches.meta.txt", "fine_label_names.txt"}


def read_cifar_archive(path: Path) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images of `cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz`.

    Each record is a label (CIFAR-10) or a coarse and a fine label (CIFAR-100; the fine label is used), then 3,072
    bytes: red, green, blue, each row by row.

    Raises:
        DataError: missing, truncated, corrupted, or another kind of archive.
    """
    members = _members(path)
    names = next((members[name] for name in members if name in _NAMES), None)
    if names is None:
        raise DataError(f"{path}: no class names inside (none of {', '.join(sorted(_NAMES))})")
    try:
        class_names = tuple(names.decode("ascii").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the class names are not text: {error}") from error
    num_labels = 2 if "fine_label_names.txt" in members else 1
    train = [name for name in sorted(members) if name == "train.bin" or name.startswith("data_batch_")]
    test = [name for name in members if name in ("test.bin", "test_batch.bin")]
    if not train or not test:
        raise DataError(f"{path}: training or test images are missing inside; found {', '.join(sorted(members))}")
    return (
        _images(path, b"".join(members[name] for name in train), num_labels, class_names),
        _images(path, members[test[0]], num_labels, class_names),
    )


def _members(path: Path) -> dict[str, bytes]:
    """The content of each regular file by its base name."""
    content = read_bytes(path, limit_bytes=_LIMIT_BYTES)
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                # A forged size may be negative, which makes some versions of tarfile loop forever.
                if not 0 <= member.size <= len(content):
                    raise DataError(f"{path}: {member.name!r} inside claims {member.size:,} bytes; corrupted")
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
                    file = archive.extractfile(member)
                    members[Path(member.name).name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole tar archive: {error}") from error
    return members


def _images(path: Path, records: bytes, num_labels: int, class_names: tuple[str, ...]) -> LabelledImages:
    record_bytes = num_labels + _PIXELS
    if not records or len(records) % record_bytes:
        raise DataError(
            f"{path}: {len(records):,} bytes of images are not a multiple of {record_bytes}-byte records"
        )
    table = torch.from_numpy(np.frombuffer(records, np.uint8).reshape(-1, record_bytes).copy())
    labels = table[:, num_labels - 1].long()
    if int(labels.max()) >= len(class_names):
        raise DataError(f"{path}: label {int(labels.max())}, but {len(class_names)} class names; corrupted")
    return LabelledImages(table[:, num_labels:].reshape(-1, 3, 32, 32), labels, class_names)
