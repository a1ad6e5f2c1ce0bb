"""Readers of examples beside second readers of the same files: IDX, Parquet, a folder of pictures."""

import gzip
import io
import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.mutations import Files

Read = Callable[[Path], Any]


def as_they_are(files: Files, draw: random.Random) -> Files:
    """Nothing more is done to the changed files."""
    del draw
    return files


class Reader(NamedTuple):
    """What is tried: each `read` takes the folder that the files lie in."""

    valid: Callable[[], list[Files]]
    read: Read
    second: tuple[Read, ...]
    """others' readers; one of them should give an equal value"""
    finish: Callable[[Files, random.Random], Files] = as_they_are
    """done to the files after they were changed: packing, checksums"""


def _noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def only_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.is_file())


# --- IDX ---


def _idx_files() -> list[Files]:
    def content(array: np.ndarray) -> bytes:
        return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()

    return [
        {"images": content(_noise(3, 4, 5))},
        {"labels": content(_noise(9))},
        {"images": content(_noise(1, 8, 8))},
    ]


def _packed(files: Files, draw: random.Random) -> Files:
    """Half of them in gzip, whose own bytes are changed in some."""
    if draw.random() < 0.5:
        return files
    packed = {name: gzip.compress(content, 1, mtime=0) for name, content in files.items()}
    if draw.random() < 0.3:
        for name, content in packed.items():
            at = draw.randrange(len(content))
            packed[name] = content[:at] + draw.randbytes(1) + content[at + draw.randint(0, 2) :]
    return packed


def _read_idx(folder: Path) -> Any:
    from instar.data.readers.idx import read_idx

    path = only_file(folder)
    return read_idx(path, dims=3 if path.name == "images" else 1).numpy()


def _idx_by_struct(folder: Path) -> Any:
    content = only_file(folder).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    zero, kind, dims = struct.unpack_from(">HBB", content)
    shape = struct.unpack_from(f">{dims}I", content, 4)
    if zero or kind != 8 or len(content) != 4 + 4 * dims + math.prod(shape):
        raise ValueError("not IDX")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)


# --- pictures: a table and a folder ---


def _picture(pixels: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def _tables() -> list[Files]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("img", cell), ("label", pa.int64())], metadata=metadata)
    found = []
    for form, compression in (("PNG", "snappy"), ("BMP", "none"), ("PNG", "zstd")):
        cells = [{"bytes": _picture(_noise(4, 3, 3, seed=row), form), "path": f"{row}"} for row in range(5)]
        sink = io.BytesIO()
        table = pa.table({"img": cells, "label": [0, 1, 0, 1, 1]}, schema=schema)
        pq.write_table(table, sink, compression=compression, use_dictionary=form == "BMP")
        found.append({"table.parquet": sink.getvalue()})
    return found


def _read_table(folder: Path) -> Any:
    from instar.data.readers.images import ImageForm
    from instar.data.readers.parquet import read_image_table

    form = ImageForm("RGB", 4, 3)
    found = read_image_table(folder / "table.parquet", label_column="label", form=form, progress=False)
    return found.images.permute(0, 2, 3, 1).numpy(), found.labels.numpy(), list(found.class_names)


def _table_by_arrow(folder: Path) -> Any:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "table.parquet", columns=["img", "label"])
    names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    pictures = np.stack([_pixels(cell["bytes"]) for cell in table["img"].to_pylist()])
    return pictures, table["label"].to_numpy(), names


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(ImageOps.exif_transpose(image))


ENDINGS = (".png", ".jpg", ".bmp", ".gif")


def _folders() -> list[Files]:
    def classes(form: str, ending: str, place: str = "", number: int = 5) -> Files:
        shape = (4, 5) if form == "GIF" else (4, 5, 3)
        return {
            f"{place}{name}/{row}{ending}": _picture(_noise(*shape, seed=10 * row + seed), form)
            for seed, name in enumerate(("cat", "dog"))
            for row in range(number)
        }

    return [
        classes("PNG", ".png"),
        classes("JPEG", ".jpg"),
        {**classes("BMP", ".bmp", "train/"), **classes("BMP", ".bmp", "test/", 3)},
    ]


def _renamed(files: Files, draw: random.Random) -> Files:
    """Some with another ending, hidden, or in another folder."""
    if draw.random() < 0.8:
        return files
    name = draw.choice(sorted(files))
    path = Path(name)
    others = (
        path.with_suffix(".txt"),
        path.with_suffix(".JPG"),
        path.parent / f".{path.name}",
        path.parent / "more" / path.name,
    )
    return {
        **{other: content for other, content in files.items() if other != name},
        str(draw.choice(others)): files[name],
    }


def _read_folder(folder: Path) -> Any:
    from instar.data import load_data

    splits = load_data(f"folder:{folder}", progress=False)
    found = []
    for part in (splits.train, splits.validation, splits.test):
        pictures = part.raw(part.rows(part.ids)).permute(0, 2, 3, 1)
        labels = part.labels(part.ids).tolist()
        found += [
            (part.class_names[label], row.numpy().tobytes()) for label, row in zip(labels, pictures, strict=True)
        ]
    return sorted(found)


def _folder_by_pillow(folder: Path) -> Any:
    files = [
        path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    ]
    parts = {"train", "test"}
    names = [[part for part in path.relative_to(folder).parts if part not in parts] for path in files]
    return sorted((name[0], _pixels(path.read_bytes()).tobytes()) for name, path in zip(names, files, strict=True))


DATA_READERS = {
    "idx": Reader(_idx_files, _read_idx, (_idx_by_struct,), _packed),
    "parquet": Reader(_tables, _read_table, (_table_by_arrow,)),
    "folder of pictures": Reader(_folders, _read_folder, (_folder_by_pillow,), _renamed),
}
