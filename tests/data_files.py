"""Small real files of every format that the data layer reads, for the tests to use and to break."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_NAMES = tuple(f"fine_{index}" for index in range(100))


def random_images(*shape: int, seed: int = 0) -> Tensor:
    """uint8 noise."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def idx_bytes(array: Tensor) -> bytes:
    """An idx file of bytes."""
    header = bytes((0, 0, 8, array.dim())) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.numpy().tobytes()


def write_mnist(folder: Path, *, num_train: int = 60, num_test: int = 20, packed: bool = True) -> Path:
    """The four files of MNIST, of noise; class `row % 10`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, number) in enumerate((("train", num_train), ("t10k", num_test))):
        arrays = {
            f"{part}-images-idx3-ubyte": random_images(number, 28, 28, seed=seed),
            f"{part}-labels-idx1-ubyte": (torch.arange(number) % 10).to(torch.uint8),
        }
        for name, array in arrays.items():
            content = idx_bytes(array)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def cifar_archive(*, hundred: bool, per_class: int = 2) -> bytes:
    """A whole binary archive, of noise, as its publisher lays it out."""
    names = CIFAR100_NAMES if hundred else CIFAR10_NAMES
    folder = "cifar-100-binary" if hundred else "cifar-10-batches-bin"
    number = per_class * len(names)
    labels = (torch.arange(number) % len(names)).to(torch.uint8)[:, None]
    label_columns = torch.cat([torch.zeros_like(labels), labels], dim=1) if hundred else labels

    def records(seed: int) -> bytes:
        pixels = random_images(number, 3 * 32 * 32, seed=seed)
        return torch.cat([label_columns, pixels], dim=1).numpy().tobytes()

    files = {"fine_label_names.txt" if hundred else "batches.meta.txt": "\n".join([*names, ""]).encode()}
    if hundred:
        files |= {"train.bin": records(0), "test.bin": records(1), "coarse_label_names.txt": b"all\n"}
    else:
        files |= {"data_batch_1.bin": records(0), "data_batch_2.bin": records(1), "test_batch.bin": records(2)}
    return gzip.compress(tar_bytes({f"{folder}/{name}": content for name, content in files.items()}))


def tar_bytes(files: dict[str, bytes]) -> bytes:
    """An uncompressed tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def image_bytes(pixels: Tensor, *, form: str = "PNG") -> bytes:
    """An image file of (channels, height, width) uint8."""
    stream = io.BytesIO()
    to_image(pixels).save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


def to_image(pixels: Tensor) -> Image.Image:
    """(channels, height, width) uint8 as a picture."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array))


def write_table(
    path: Path, images: Tensor, labels: list[int], names: tuple[str, ...], *, label_column: str = "label"
) -> Path:
    """A Parquet table of images in the schema of Hugging Face."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": image_bytes(image, form="WEBP"), "path": f"{row}.webp"} for row, image in enumerate(images)]
    features = {"img": {"_type": "Image"}, label_column: {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema(
        [("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), (label_column, pa.int64())],
        metadata=metadata,
    )
    pq.write_table(pa.table({"img": cells, label_column: labels}, schema=schema), path)
    return path


def write_image_folder(
    folder: Path,
    *,
    classes: tuple[str, ...] = ("cat", "dog"),
    per_class: int = 5,
    channels: int = 3,
    seed: int = 0,
) -> Path:
    """One folder a class, 6x5 pixels of noise each."""
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for row, image in enumerate(random_images(per_class, channels, 6, 5, seed=100 * seed + index)):
            (folder / name / f"{row}.png").write_bytes(image_bytes(image))
    return folder


def omniglot_drawings(alphabets: dict[str, int], *, seed: int = 0) -> dict[tuple[str, int], np.ndarray]:
    """Bits of 105 x 105 for each (`Alphabet/character`, drawer): noise, 1 for ink."""
    draw = np.random.default_rng(seed)
    names = [f"{name}/character{number:02d}" for name, size in alphabets.items() for number in range(1, size + 1)]
    return {
        (name, drawer): draw.integers(0, 2, (105, 105), dtype=np.uint8)
        for name in names
        for drawer in range(1, 21)
    }


def write_omniglot_table(path: Path, drawings: dict[tuple[str, int], np.ndarray]) -> None:
    """All of them in one `.npz`, in any order."""
    keys = list(drawings)[::-1]
    names = sorted({name for name, _ in keys})
    np.savez(
        path,
        ink_packed=np.packbits(np.stack([drawings[key].ravel() for key in keys]), axis=1),
        character=np.array([names.index(name) for name, _ in keys], dtype=np.uint16),
        drawer=np.array([drawer for _, drawer in keys], dtype=np.uint8),
        character_names=np.array(names),
    )


def write_omniglot_archive(path: Path, drawings: dict[tuple[str, int], np.ndarray]) -> None:
    """As the publisher lays it out: black ink on white, one bit a pixel."""
    names = sorted({name for name, _ in drawings})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/", "")
        for (name, drawer), ink in drawings.items():
            content = io.BytesIO()
            Image.fromarray(255 * (1 - ink)).convert("1").save(content, "PNG")
            archive.writestr(f"{path.stem}/{name}/{names.index(name):04d}_{drawer:02d}.png", content.getvalue())
