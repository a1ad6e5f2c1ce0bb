"""What a picture is read as: a test for each row of the table in docs/methods/data.md."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from data_files import image_bytes, random_images, to_image, write_image_folder, write_mnist
from instar.data import load_data
from instar.data.pictures import PictureForm, in_colour, resized
from instar.data.readers.images import ImageForm
from instar.errors import DataError, UsageError

GREY, COLOUR = ImageForm("L", 4, 4, convert=True), ImageForm("RGB", 4, 4, convert=True)
PIXELS = random_images(3, 4, 4)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def read(content: bytes, form: ImageForm = COLOUR) -> np.ndarray:
    """(height, width) or (height, width, 3)."""
    return form.decode(content, "picture").permute(1, 2, 0).squeeze(2).numpy()


def test_eight_bits_are_kept_and_colour_becomes_luma() -> None:
    assert torch.equal(COLOUR.decode(image_bytes(PIXELS), "picture"), PIXELS)
    expected = np.asarray(to_image(PIXELS).convert("L"))
    assert np.array_equal(read(image_bytes(PIXELS), GREY), expected)
    assert np.array_equal(in_colour(PIXELS[None], "grey")[0, 0].numpy(), expected)  # tensors as files
    grey = image_bytes(PIXELS[:1])
    assert np.array_equal(read(grey), np.repeat(PIXELS[0].numpy()[:, :, None], 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    bits = Image.fromarray(PIXELS[0].numpy() > 127).convert("1")
    assert np.array_equal(read(encoded(bits), GREY), np.where(PIXELS[0].numpy() > 127, 255, 0))


def test_a_palette_is_looked_up_and_its_transparent_colour_is_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((0, 0), 0)
    found = read(encoded(palette))
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[3, 3].tolist() == [200, 100, 50]
    assert read(encoded(palette, transparency=0))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_on_white(mode: str) -> None:
    image = to_image(PIXELS).convert(mode)
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[0], [0], [255], [255]]), 4, axis=1)))
    found = read(encoded(image), GREY if mode == "LA" else COLOUR)
    assert (found[:2] == 255).all()
    assert np.array_equal(found[2:], np.asarray(to_image(PIXELS).convert("L" if mode == "LA" else "RGB"))[2:])


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 100, 200, 128))
    assert np.abs(read(encoded(image))[0, 0].astype(int) - [127, 177, 227]).max() <= 1


def test_cmyk_is_converted_without_a_colour_profile() -> None:
    ink = Image.new("CMYK", (4, 4), (255, 0, 0, 0))  # cyan
    assert read(encoded(ink, "TIFF"))[0, 0].tolist() == [0, 255, 255]
    assert np.abs(read(encoded(ink, "JPEG"))[0, 0].astype(int) - [0, 255, 255]).max() <= 2


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
    assert read(content)[0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_grey_bits_are_refused(mode: str) -> None:
    content = encoded(Image.new(mode, (4, 4)), "TIFF")
    for form in (GREY, COLOUR, ImageForm("L", 8, 8, fit=True)):
        with pytest.raises(DataError, match="not supported; save it as eight-bit grey or colour"):
            read(content, form)


def test_of_sixteen_bits_of_colour_the_upper_eight_are_read() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">3H", 0x12FF, 0x3400, 0x56AB) * 4
    header = struct.pack(">2I5B", 4, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    assert read(b"\x89PNG\r\n\x1a\n" + parts)[0, 0].tolist() == [0x12, 0x34, 0x56]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_and_mirrored_as_its_exif_says(orientation: int) -> None:
    image, exif = to_image(random_images(3, 4, 6)), Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, exif=exif)
    with Image.open(io.BytesIO(content)) as stored:
        upright = ImageOps.exif_transpose(stored)
    form = ImageForm("RGB", upright.height, upright.width)
    assert np.array_equal(read(content, form), np.asarray(upright))
    assert (upright.size == image.size) == (orientation < 5)


@pytest.mark.parametrize("budget", [2**30, 10], ids=["in memory", "streaming"])
def test_grey_and_colour_together_are_brought_into_one(tmp_path: Path, budget: int) -> None:
    write_image_folder(tmp_path)
    grey = random_images(1, 6, 5)
    (tmp_path / "dog" / "2.png").write_bytes(image_bytes(grey))
    for colour, channels in (("rgb", 3), ("grey", 1)):
        splits = load_data(f"folder:{tmp_path}", colour=colour, memory_budget_bytes=budget)
        assert splits.train.example_shape == (channels, 6, 5)
        small = load_data(f"folder:{tmp_path}", colour=colour, image_size=3, memory_budget_bytes=budget)
        assert small.train.example_shape == (channels, 3, 3)
        parts = [part.gather(part.ids, 0) for part in (splits.train, splits.validation, splits.test)]
        wanted = (grey.float() / 255).expand(channels, -1, -1)
        assert any(torch.allclose(picture, wanted, atol=1e-6) for picture in torch.cat(parts))
    (tmp_path / "dog" / "3.png").write_bytes(image_bytes(random_images(3, 9, 9)))
    with pytest.raises(DataError, match=r"3\.png: expected 5x6 colour like the first image, found 9x9"):
        load_data(f"folder:{tmp_path}", colour="rgb")  # which changes no size


def test_named_data_are_brought_into_a_form_and_keep_their_ids_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path))
    for name, white in (("mnist", 255), ("digits", 16)):
        plain, large = load_data(name), load_data(name, colour="rgb", image_size=32)
        assert large.train.example_shape == (3, 32, 32)
        assert torch.equal(large.validation.ids, plain.validation.ids)
        assert large.fingerprint != plain.fingerprint
        ids = plain.train.ids[:5]
        raw = plain.train.raw(plain.train.rows(ids))
        expected = resized(raw, 32, white=white).float() / white
        assert torch.allclose(large.train.gather(ids, 0), expected.expand(-1, 3, -1, -1))
        assert float(large.train.gather(large.train.ids, 0).max()) <= 1
        assert torch.equal(load_data(name, colour="grey").train.gather(ids, 0), plain.train.gather(ids, 0))


def test_pictures_are_resized_as_pillow_does() -> None:
    smooth = torch.linspace(0, 255, 12).round().to(torch.uint8).expand(3, 12, 12).contiguous()
    for size in (8, 20):
        pillow = np.asarray(to_image(smooth).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
        found = resized(smooth[None], size)[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - pillow).max() <= 1


def test_what_would_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"2 pictures of 4096 x 4096 pixels take 0\.1 GiB"):
        PictureForm(4096, "rgb", memory_budget_bytes=2**20).of(random_images(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("digits", {"image_size": 0}, "image_size 0 should be at least 1"),
        ("digits", {"colour": "blue"}, "unknown colour 'blue'"),
        ("python:numpy:zeros", {"colour": "rgb"}, "the function of data 'python:numpy:zeros' decides"),
        ("python:numpy:zeros", {"image_size": 8}, "the function of data 'python:numpy:zeros' decides"),
    ],
)
def test_a_form_that_is_none_is_refused(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_data(name, **options)


def test_a_first_picture_that_claims_to_be_large_is_named_before_memory_is_taken_for_all(tmp_path: Path) -> None:
    """Three hundred pictures of 8192 x 8192 would take 60 GB; the header alone says so."""
    write_image_folder(tmp_path, per_class=150)
    first = min((tmp_path / "cat").iterdir())
    content = bytearray(image_bytes(PIXELS, form="BMP"))
    content[18:26] = struct.pack("<ii", 8192, 8192)
    first.write_bytes(content)
    with pytest.raises(DataError, match=f"{first.name}: not a whole image"):
        load_data(f"folder:{tmp_path}", memory_budget_bytes=2**60, progress=False)
