"""Decodes images to tensors, and checks their headers."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
_FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "PPM",
)  # Pillow knows more; some of them run other programs
_ORIENTATION = 0x0112  # the EXIF tag
_MOST_PIXELS = 1 << 26  # 8192 x 8192: more is a mistake or an attack
OFFER_TO_FIT = (
    "--image-size N (image_size=N) resizes, crops and converts all, --colour rgb or grey (colour=...) converts all"
)
CHANNELS = {"L": 1, "RGB": 3}
MODES = {"grey": "L", "rgb": "RGB"}
"""Pillow's modes by what `--colour` calls them."""
_MODE_WORDS = {"L": "grey", "RGB": "colour"}
# The result of converting each of Pillow's modes; sixteen-bit modes would be clipped and are not converted.
CONVERTED = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}


@dataclass(frozen=True)
class ImageForm:
    """The form that all images of a data set are read in."""

    mode: str
    """`L` (grey) or `RGB`"""
    height: int
    width: int
    fit: bool = False
    """Resize, crop the centre and convert (transparent becomes white); else another size is an error."""
    convert: bool = False
    """Convert to the mode without resizing; without `fit` and `convert` another mode is an error."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return CHANNELS[self.mode], self.height, self.width

    def read(self, path: Path) -> Tensor:
        """The image in a file: (channels, height, width) uint8.

        Raises:
            DataError: it cannot be read, or has another size or mode and `fit` is off.
        """
        return self.decode(content_of(path), path)

    def decode(self, content: bytes, where: object) -> Tensor:
        """`read` from bytes; `where` names them in errors."""
        with opened(content, where) as image:
            return self.of_image(image, where)

    def of_image(self, image: "Image", where: object) -> Tensor:
        """`read` from an image of Pillow; `where` names it in errors."""
        # numpy takes less time for so few bytes than torch
        return torch.from_numpy(np.array(self._pixels(image, where), order="C"))

    def write(self, content: bytes, where: object, out: NDArray[np.uint8]) -> None:
        """`decode` into an array (channels, height, width): of many small images half the time."""
        with opened(content, where) as image:
            out[:] = self._pixels(image, where)

    def _pixels(self, image: "Image", where: object) -> NDArray[np.uint8]:
        """(channels, height, width), in the order of the image's own memory."""
        image.load()  # what some files say of their orientation comes last
        orientation = image.getexif().get(_ORIENTATION, 1)
        self._check(image, orientation, where)
        upright = image
        if self.fit or self.convert or orientation != 1:
            from PIL import Image, ImageOps

            upright = ImageOps.exif_transpose(image) if orientation != 1 else image
            if self.fit or self.convert:
                upright = _opaque(upright)
                upright = upright if upright.mode == self.mode else upright.convert(self.mode)
            if self.fit:
                upright = ImageOps.fit(upright, (self.width, self.height), Image.Resampling.BICUBIC)
        pixels: NDArray[np.uint8] = np.asarray(upright).reshape(self.height, self.width, -1).transpose(2, 0, 1)
        return pixels

    def check(self, image: "Image", where: object) -> None:
        """Refuse an image, by its header, that cannot be read in this form."""
        self._check(image, image.getexif().get(_ORIENTATION, 1), where)

    def _check(self, image: "Image", orientation: int, where: object) -> None:
        if self.fit or self.convert:
            check_convertible(image.mode, where)
        if self.fit:
            return
        width, height = _upright(image, orientation)
        mode_fits = self.convert or image.mode == self.mode
        if not mode_fits or (height, width) != (self.height, self.width):
            expected, found = describe(self.mode, self.height, self.width), describe(image.mode, height, width)
            raise DataError(f"{where}: expected {expected} like the first image, found {found}; {OFFER_TO_FIT}")


def upright_size(image: "Image") -> tuple[int, int]:
    """Width and height as the picture is shown: EXIF orientations 5 to 8 turn it by a quarter."""
    return _upright(image, image.getexif().get(_ORIENTATION, 1))


def _upright(image: "Image", orientation: int) -> tuple[int, int]:
    return (image.height, image.width) if orientation in (5, 6, 7, 8) else (image.width, image.height)


def _opaque(image: "Image") -> "Image":
    """The picture on white where it has transparent pixels, whose hidden colours would show without alpha."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


@contextmanager
def opened(source: bytes | Path, where: object) -> Iterator["Image"]:
    """Open an image and read its header; every error inside the block names the image.

    Raises:
        DataError: not an image, a damaged image, or too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns about odd metadata, and about very large images, which are refused below.
            warnings.simplefilter("ignore")
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise DataError(f"{where}: {image.width}x{image.height} pixels are too many; make it smaller")
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: not an image that can be read (or not a whole one)") from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors
        raise DataError(f"{where}: not a whole image: {error or type(error).__name__}") from error


def whole_picture(content: bytes, where: object) -> tuple[str, int, int]:
    """Mode, height and width of a picture, after decoding all of it.

    Raises:
        DataError: it is damaged, or of a mode that cannot be used.
    """
    with opened(content, where) as image:
        check_convertible(image.mode, where)
        mode, (width, height) = image.mode, upright_size(image)
    ImageForm("RGB", height, width, convert=True).decode(content, where)
    return mode, height, width


def content_of(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # a Path of each of many files takes longer than to read it
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_convertible(mode: str, where: object) -> None:
    """Refuse a mode whose values would be clipped by a conversion to eight-bit grey or colour."""
    if mode not in CONVERTED:
        raise DataError(f"{where}: images of mode {mode} are not supported; save it as eight-bit grey or colour")


def describe(mode: str, height: int, width: int) -> str:
    """A description of size and mode."""
    return f"{width}x{height} {_MODE_WORDS.get(mode, f'of mode {mode}')}"
