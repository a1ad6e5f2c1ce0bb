"""Readers: whole files give what was written, broken ones a DataError that names the file."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import (
    CIFAR10_NAMES,
    CIFAR100_NAMES,
    cifar_archive,
    idx_bytes,
    image_bytes,
    random_images,
    tar_bytes,
    to_image,
    write_image_folder,
    write_table,
)
from instar.data import load_data
from instar.data.readers import read_bytes
from instar.data.readers.cifar import read_cifar_archive
from instar.data.readers.idx import read_idx
from instar.data.readers.images import ImageForm
from instar.data.readers.parquet import read_image_table
from instar.errors import DataError, DataWarning, InstarError, UsageError

COLOUR = ImageForm("RGB", 6, 5)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_names_the_file(caught: pytest.ExceptionInfo[InstarError], path: Path) -> None:
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(7, 5, 4), (9,)])
def test_idx_files_are_read(tmp_path: Path, packed: bool, shape: tuple[int, ...]) -> None:
    array = random_images(*shape)
    content = idx_bytes(array)
    path = written(tmp_path / "file", gzip.compress(content) if packed else content)
    assert torch.equal(read_idx(path, dims=len(shape)), array)


IDX = idx_bytes(random_images(7, 5, 4))
PACKED = gzip.compress(IDX, mtime=0)  # a time of its own would give each process another name for a test


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "found nothing"),
        (IDX[:3], "starts with 00000803"),
        (IDX[:10], "starts with 00000803"),
        (IDX[:-1], "expected 7x5x4 bytes by the header, found 139"),
        (IDX + b"!", "expected 7x5x4 bytes by the header, found 141"),
        (idx_bytes(random_images(9)), "found 00000801"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "expected 4294967295x"),
        (PACKED[:-1], "truncated gzip"),
        (PACKED[:40], "truncated gzip"),
        (PACKED[:60] + b"\0\0\0\0" + PACKED[64:], "corrupted gzip"),
        (PACKED[:-8] + bytes(8), "corrupted gzip"),
        (PACKED + b"trailing", "corrupted gzip"),
        (b"<html>404 Not Found</html>", "found 3c68746d"),
    ],
)
def test_broken_idx_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = written(tmp_path / "images", content)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path, dims=3)
    assert_names_the_file(caught, path)


def test_a_file_that_unpacks_without_end_is_stopped(tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.gz", gzip.compress(bytes(3_000_000)))
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        read_bytes(path, limit_bytes=1_000_000)
    assert len(read_bytes(path, limit_bytes=3_000_000)) == 3_000_000


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        for read in (lambda p: read_idx(p, dims=1), read_cifar_archive, COLOUR.read):
            with pytest.raises(DataError) as caught:
                read(path)
            assert_names_the_file(caught, path)
        with pytest.raises(DataError) as caught:
            read_image_table(path, label_column="label", form=COLOUR)
        assert_names_the_file(caught, path)


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_archives_are_read_channel_by_channel(tmp_path: Path, hundred: bool) -> None:
    path = written(tmp_path / "cifar.tar.gz", cifar_archive(hundred=hundred))
    names = CIFAR100_NAMES if hundred else CIFAR10_NAMES
    train, test = read_cifar_archive(path)
    assert train.class_names == test.class_names == names
    seeds = [0] if hundred else [0, 1]  # the training batches of CIFAR-10 come one after another
    expected = torch.cat([random_images(2 * len(names), 3, 32, 32, seed=seed) for seed in seeds])
    assert torch.equal(train.images, expected)
    assert torch.equal(train.labels, torch.arange(len(expected)) % len(names))
    assert torch.equal(test.images, random_images(2 * len(names), 3, 32, 32, seed=len(seeds)))


RECORDS = bytes(3073)
META = b"cat\ndog\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"batches.meta.txt": META, "data_batch_1.bin": RECORDS}, "training or test images are missing"),
        ({"batches.meta.txt": META, "test_batch.bin": RECORDS}, "training or test images are missing"),
        ({"data_batch_1.bin": RECORDS, "test_batch.bin": RECORDS}, "no class names"),
        (
            {"batches.meta.txt": META, "data_batch_1.bin": RECORDS[1:], "test_batch.bin": RECORDS},
            "not a multiple",
        ),
        ({"batches.meta.txt": META, "data_batch_1.bin": b"", "test_batch.bin": RECORDS}, "not a multiple"),
        (
            {"batches.meta.txt": META, "data_batch_1.bin": b"\7" + RECORDS[1:], "test_batch.bin": RECORDS},
            "label 7",
        ),
        ({"batches.meta.txt": b"\xff", "data_batch_1.bin": RECORDS, "test_batch.bin": RECORDS}, "not text"),
    ],
)
def test_incomplete_cifar_archives_are_refused(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    path = written(tmp_path / "cifar.tar.gz", gzip.compress(tar_bytes(files)))
    with pytest.raises(DataError, match=says) as caught:
        read_cifar_archive(path)
    assert_names_the_file(caught, path)


def test_truncated_cifar_archives_are_refused(tmp_path: Path) -> None:
    packed = cifar_archive(hundred=False, per_class=1)
    plain = gzip.decompress(packed)
    for content in (packed[: len(packed) // 2], packed[:-4], gzip.compress(plain[:20_000]), b"", b"no archive"):
        path = written(tmp_path / "cifar.tar.gz", content)
        with pytest.raises(DataError) as caught:
            read_cifar_archive(path)
        assert_names_the_file(caught, path)


def test_a_forged_size_in_an_archive_does_not_hang(tmp_path: Path) -> None:
    header = bytearray(tar_bytes({"data_batch_1.bin": b"x" * 600})[:512])
    header[124:136] = b"\xff" * 11 + b"\x00"  # a size below 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = written(tmp_path / "cifar.tar.gz", gzip.compress(bytes(header) * 4))
    with pytest.raises(DataError, match=r"corrupted|not a whole tar"):
        read_cifar_archive(path)


def test_tables_of_images_are_read(tmp_path: Path) -> None:
    images = random_images(2500, 3, 6, 5)  # more than are read at once
    labels = [row % 3 for row in range(2500)]
    path = write_table(tmp_path / "t.parquet", images, labels, ("x", "y", "z"), label_column="fine_label")
    found = read_image_table(path, label_column="fine_label", form=COLOUR)
    assert torch.equal(found.images, images)
    assert found.labels.tolist() == labels
    assert found.class_names == ("x", "y", "z")


def test_tables_of_another_schema_or_content_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", random_images(4, 3, 6, 5), [0, 1, 0, 5], ("x", "y"))
    for arguments, says in (
        ({"label_column": "label", "form": COLOUR}, r"labels outside the 2 classes: \[5\]"),
        ({"label_column": "coarse", "form": COLOUR}, "no class names of 'coarse'"),
        ({"label_column": "label", "form": ImageForm("RGB", 7, 5)}, "row 0: expected 5x7 colour"),
        ({"label_column": "label", "form": ImageForm("L", 6, 5)}, "row 0: expected 5x6 grey"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            read_image_table(path, **arguments)  # type: ignore[arg-type]
        assert_names_the_file(caught, path)
    content = path.read_bytes()
    for broken in (content[:-1], content[: len(content) // 2], content[10:], b"", b"PAR1"):
        with pytest.raises(DataError) as caught:
            read_image_table(written(path, broken), label_column="label", form=COLOUR)
        assert_names_the_file(caught, path)


@pytest.mark.parametrize(
    ("form", "channels"),
    [*((form, channels) for form in ("PNG", "BMP", "TIFF", "PPM") for channels in (1, 3)), ("WEBP", 3)],
)
def test_lossless_images_are_read_as_they_are(tmp_path: Path, form: str, channels: int) -> None:
    pixels = random_images(channels, 6, 5)
    path = written(tmp_path / f"image.{form.lower()}", image_bytes(pixels, form=form))
    assert torch.equal(ImageForm("RGB" if channels == 3 else "L", 6, 5).read(path), pixels)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    for side in (9000, 40_000):
        header = struct.pack(">II5B", side, side, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        idat = b"IDAT" + zlib.compress(b"\0" * 100)
        png += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
        path = written(tmp_path / "huge.png", png)
        with pytest.raises(DataError, match=r"too many|exceeds limit") as caught:
            ImageForm("RGB", side, side).read(path)
        assert_names_the_file(caught, path)


def folder_error(folder: Path, **options: object) -> str:
    with pytest.raises(InstarError) as caught:
        load_data(f"folder:{folder}", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_a_test_part_gives_a_fifth_of_each_class(tmp_path: Path) -> None:
    splits = load_data(f"folder:{write_image_folder(tmp_path, per_class=10)}", validation_fraction=0.25)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 4, 4]
    assert splits.class_names == ("cat", "dog")
    assert splits.train.example_shape == (3, 6, 5)
    other = load_data(f"folder:{tmp_path}", validation_fraction=0.25, split_seed=1)
    assert other.test.fingerprint != splits.test.fingerprint


@pytest.mark.parametrize("validation", [None, "validation", "val", "Valid", "DEV"])
def test_a_folder_with_parts_of_its_own_keeps_them(tmp_path: Path, validation: str | None) -> None:
    for seed, part in enumerate(filter(None, ("train", "test", validation))):
        write_image_folder(tmp_path / part, seed=seed, per_class=5 + seed)
    splits = load_data(f"folder:{tmp_path}")
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sizes == ([8, 2, 12] if validation is None else [10, 14, 12])


def test_parts_without_train_or_test_are_no_classes(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val")):
        write_image_folder(tmp_path / part, seed=seed)
    assert "expected train/ and test/ and perhaps validation/, found train/ and val/" in folder_error(tmp_path)
    (tmp_path / "train").rename(tmp_path / "test")
    assert "found val/ and test/" in folder_error(tmp_path)
    (tmp_path / "test").rename(tmp_path / "van")
    assert "val/ and van/ hold the same folders cat/, dog/: are they parts" in folder_error(tmp_path)
    (tmp_path / "val").rename(tmp_path / "Training")
    (tmp_path / "van").rename(tmp_path / "TESTING")
    splits = load_data(f"folder:{tmp_path}")
    assert splits.class_names == ("cat", "dog")
    (tmp_path / "train").mkdir()
    assert "Training/ and train/ are both the train part" in folder_error(tmp_path)


def test_hidden_files_linked_folders_and_other_files_are_not_read_and_counted(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    before = load_data(f"folder:{tmp_path}").fingerprint
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "cat" / "readme.md").write_text("hello")
    (tmp_path / "cat" / "more").mkdir()
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "more" / "renamed.PNG")
    for hidden in (tmp_path / "cat" / ".thumbnails", tmp_path / "dog" / "more" / "__MACOSX"):
        hidden.mkdir(parents=True)
        (hidden / "1.png").write_bytes(b"no image")
    (tmp_path / "dog" / "linked").symlink_to(tmp_path / "cat")
    with pytest.warns(DataWarning, match=r"not read: \.md files \(1\), linked folders \(1\); images end in \.bmp"):
        splits = load_data(f"folder:{tmp_path}")
    assert splits.fingerprint == before


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    upright = to_image(random_images(3, 6, 4))
    turn = Image.Exif()
    turn[0x0112] = 6  # shown turned by a quarter to the right
    upright.save(tmp_path / "plain.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turn)
    plain, turned = (ImageForm("RGB", 6, 4).read(tmp_path / name) for name in ("plain.png", "turned.png"))
    assert torch.equal(plain, turned)
    write_image_folder(tmp_path / "data")
    for name in ("cat", "dog"):
        for number in range(4):
            (tmp_path / "data" / name / f"{number}.png").write_bytes((tmp_path / "turned.png").read_bytes())
    with pytest.raises(DataError, match="expected 4x6 colour like the first image"):
        load_data(f"folder:{tmp_path / 'data'}")  # the rest is 5x6


def test_transparent_pixels_are_white_where_pictures_are_converted(tmp_path: Path) -> None:
    hidden = np.zeros((4, 4, 4), dtype=np.uint8)  # black below, wholly transparent
    hidden[:2, :, 3] = 255
    Image.fromarray(hidden, "RGBA").save(tmp_path / "alpha.png")
    grey = Image.fromarray(np.stack([np.full((4, 4), 90, np.uint8), np.zeros((4, 4), np.uint8)], 2), "LA")
    grey.save(tmp_path / "grey.png")
    found = ImageForm("RGB", 4, 4, fit=True).read(tmp_path / "alpha.png")
    assert found[:, :2].eq(0).all()
    assert found[:, 2:].eq(255).all()
    assert ImageForm("L", 4, 4, fit=True).read(tmp_path / "grey.png").eq(255).all()


def test_a_truncated_picture_is_found_before_training_where_pictures_stream(tmp_path: Path) -> None:
    write_image_folder(tmp_path, per_class=6)
    cut = tmp_path / "dog" / "3.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    for budget in (2**30, 10):
        message = folder_error(tmp_path, memory_budget_bytes=budget)
        assert f"{cut}: not a whole image" in message
        assert message.endswith(f"(instar data check folder:{tmp_path} lists all that is broken)")


def test_copies_in_two_parts_are_counted(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        write_image_folder(tmp_path / part, seed=seed)
    load_data(f"folder:{tmp_path}")
    (tmp_path / "test" / "dog" / "again.png").write_bytes((tmp_path / "train" / "dog" / "0.png").read_bytes())
    with pytest.warns(DataWarning, match="1 of 11 test examples are byte-identical to training examples"):
        load_data(f"folder:{tmp_path}")


def test_folders_without_two_classes_of_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_data(f"folder:{tmp_path / 'absent'}")
    assert "expected two or more folders, one a class, found none" in folder_error(tmp_path)
    write_image_folder(tmp_path, classes=("cat",))
    assert "found cat" in folder_error(tmp_path)
    (tmp_path / "dog").mkdir()
    assert f"{tmp_path / 'dog'}: no images in this class" in folder_error(tmp_path)


def test_a_test_part_with_a_class_of_its_own_or_with_nothing_is_refused(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train")
    (tmp_path / "test").mkdir()
    assert "test: empty" in folder_error(tmp_path)
    write_image_folder(tmp_path / "test", classes=("cat", "cow"))
    assert "class 'cow' is not one of the training classes cat, dog" in folder_error(tmp_path)


@pytest.mark.parametrize("budget", [2**30, 10], ids=["in memory", "streaming"])
def test_an_image_of_another_size_or_mode_is_named_and_a_way_out_offered(tmp_path: Path, budget: int) -> None:
    write_image_folder(tmp_path)
    odd = tmp_path / "dog" / "2.png"
    for image, found in ((random_images(3, 6, 9), "9x6 colour"), (random_images(1, 6, 5), "5x6 grey")):
        odd.write_bytes(image_bytes(image))
        message = folder_error(tmp_path, memory_budget_bytes=budget)
        assert f"{odd}: expected 5x6 colour like the first image, found {found}" in message
        assert "--image-size" in message


def test_an_image_size_brings_all_into_one_form(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    to_image(random_images(3, 40, 20)).convert("P").save(tmp_path / "dog" / "2.png")
    to_image(random_images(1, 9, 9)).convert("1").save(tmp_path / "dog" / "3.png")
    to_image(random_images(3, 8, 8)).convert("RGBA").save(tmp_path / "dog" / "4.png")
    for budget in (2**30, 10):
        splits = load_data(f"folder:{tmp_path}", image_size=8, memory_budget_bytes=budget)
        assert splits.train.example_shape == (3, 8, 8)
        assert splits.train.gather(splits.train.ids, 0).shape == (6, 3, 8, 8)
    write_image_folder(tmp_path / "grey", channels=1)
    assert load_data(f"folder:{tmp_path / 'grey'}", image_size=7).train.example_shape == (1, 7, 7)


def test_the_centre_is_kept_when_an_image_is_cropped(tmp_path: Path) -> None:
    wide = torch.zeros(3, 10, 30, dtype=torch.uint8)
    wide[:, :, 10:20] = 200
    path = written(tmp_path / "wide.png", image_bytes(wide))
    found = ImageForm("RGB", 10, 10, fit=True).read(path)
    assert torch.equal(found, torch.full_like(found, 200))


def test_sixteen_bit_images_are_refused_with_and_without_an_image_size(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    odd = tmp_path / "cat" / "0.png"
    Image.new("I;16", (5, 6)).save(odd)
    for size in (None, 8):
        assert f"{odd}: images of mode I;16 are not supported" in folder_error(tmp_path, image_size=size)


@pytest.mark.parametrize("budget", [2**30, 10], ids=["in memory", "streaming"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes, budget: int) -> None:
    write_image_folder(tmp_path)
    written(tmp_path / "dog" / "3.png", content)
    assert f"{tmp_path / 'dog' / '3.png'}: not an image" in folder_error(tmp_path, memory_budget_bytes=budget)
    assert "3.png" in folder_error(tmp_path, image_size=4)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_image_is_named(tmp_path: Path, form: str) -> None:
    stream = io.BytesIO()
    to_image(random_images(3, 60, 50)).save(stream, form)
    path = written(tmp_path / f"image.{form.lower()}", stream.getvalue()[: len(stream.getvalue()) // 2])
    with pytest.raises(DataError, match=r"not (a whole|an) image") as caught:
        ImageForm("RGB", 60, 50, fit=True).read(path)
    assert_names_the_file(caught, path)
