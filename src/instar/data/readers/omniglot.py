"""Omniglot: the publisher's two archives of drawings, or all drawings in one NumPy file."""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instar.data.progress import tracked
from instar.data.readers import LabelledImages
from instar.data.readers.images import ImageForm
from instar.errors import DataError

NUM_DRAWERS = 20  # of each character; the drawings of a class are in this order
_SIDE = 105
_DRAWING = re.compile(r"images_(?:background|evaluation)/([^/]+)/([^/]+)/\d+_(\d\d)\.png")
_ROWS_AT_ONCE = 1000  # unpacked and resized together, for memory

Key = tuple[str, int]  # class name and drawer


def read_omniglot_table(path: Path, *, side: int = _SIDE) -> LabelledImages:
    """Drawings from a `.npz` with `ink_packed`, `character`, `drawer` and `character_names`.

    Args:
        path: the file; a row of `ink_packed` is 105 x 105 bits, 1 for ink.
        side: height and width after resizing, by the mean over areas.

    Returns:
        (n, 1, side, side), ink 255; classes `Alphabet/character` in the order of their names, with the drawings
        of the 20 drawers of a class one after another.

    Raises:
        DataError: the file is missing, damaged, or not Omniglot.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            packed, character, drawer, names = (
                file[key] for key in ("ink_packed", "character", "drawer", "character_names")
            )
        keys = [(str(names[number]), int(drawn)) for number, drawn in zip(character, drawer, strict=True)]
        order = _order(keys, path)
        parts = [
            np.unpackbits(packed[order[start : start + _ROWS_AT_ONCE]], axis=1, count=_SIDE * _SIDE)
            for start in range(0, len(order), _ROWS_AT_ONCE)
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a table of Omniglot's drawings: {error}") from error
    images = torch.cat([_resized(torch.from_numpy(255 * part), side) for part in parts])
    return _labelled(images, [keys[row][0] for row in order])


def read_omniglot_archives(paths: Sequence[Path], *, side: int = _SIDE, progress: bool = True) -> LabelledImages:
    """`read_omniglot_table` for the publisher's archives `images_background.zip` and `images_evaluation.zip`.

    Args:
        paths: the archives.
        side: as for `read_omniglot_table`.
        progress: draw a bar on stderr.

    Raises:
        DataError: the file is missing, damaged, or not Omniglot.
    """
    form = ImageForm("L", _SIDE, _SIDE, fit=True)
    drawings: dict[Key, Tensor] = {}
    for path in paths:
        try:
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                found = [match for match in map(_DRAWING.fullmatch, archive.namelist()) if match]
                for match in tracked(
                    iter(found), total=len(found), description=f"decoding {path.name}", show=progress
                ):
                    key = (f"{match[1]}/{match[2]}", int(match[3]))
                    drawings[key] = 255 - form.decode(archive.read(match[0]), f"{path}: {match[0]}")
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise DataError(f"{path}: not a whole archive of Omniglot's drawings: {error}") from error
    keys = list(drawings)
    ordered = [keys[row] for row in _order(keys, *paths)]
    rows = [drawings[key].flatten() for key in ordered]
    parts = [torch.stack(rows[start : start + _ROWS_AT_ONCE]) for start in range(0, len(rows), _ROWS_AT_ONCE)]
    return _labelled(torch.cat([_resized(part, side) for part in parts]), [name for name, _ in ordered])


def _order(keys: Sequence[Key], *paths: Path) -> list[int]:
    """The rows in the order of class and drawer, after checking that no drawing is missing."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    drawers = [keys[row][1] for row in order]
    if not keys or drawers != list(range(1, NUM_DRAWERS + 1)) * (len(keys) // NUM_DRAWERS):
        where = ", ".join(map(str, paths))
        raise DataError(f"{where}: {len(keys):,} drawings, expected those of drawers 1 to 20 of every character")
    return order


def _resized(flat: Tensor, side: int) -> Tensor:
    images = flat.view(-1, 1, _SIDE, _SIDE)
    if side == _SIDE:
        return images
    return F.interpolate(images.float(), size=(side, side), mode="area").round().to(torch.uint8)


def _labelled(images: Tensor, names: Sequence[str]) -> LabelledImages:
    class_names = tuple(dict.fromkeys(names))
    return LabelledImages(images, torch.arange(len(class_names)).repeat_interleave(NUM_DRAWERS), class_names)
