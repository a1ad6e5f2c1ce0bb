"""Parquet tables of images in Hugging Face's schema: `img` or `image` {bytes, path}, and a label column."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.data.progress import tracked
from instar.data.readers import LabelledImages
from instar.data.readers.images import ImageForm
from instar.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_ROWS_AT_ONCE = 1000
_LIMITS = {"thrift_string_size_limit": 1 << 26, "thrift_container_size_limit": 1 << 20}  # of a footer


def read_image_table(path: Path, *, label_column: str, form: ImageForm, progress: bool = True) -> LabelledImages:
    """Decode a table of images.

    Args:
        path: the file.
        label_column: a column of integers, whose class names are in the schema's metadata.
        form: the form of every image.
        progress: draw a bar on stderr.

    Raises:
        DataError: missing, truncated or corrupted, of another schema, or an image of another form.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, **_LIMITS) as table:
            num_rows, file_bytes = table.metadata.num_rows, path.stat().st_size
            if not 0 < num_rows <= file_bytes:  # an image takes at least a byte
                raise DataError(f"{path}: claims {num_rows:,} rows in {file_bytes:,} bytes")
            class_names = _class_names(path, table.schema_arrow.metadata, label_column)
            examples = _examples(path, table, label_column, form)
            bar = tracked(examples, total=num_rows, description=f"decoding {path.name}", show=progress)
            images, labels = zip(*bar, strict=True)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: not a whole Parquet file: {reason}") from error
    wrong = sorted({label for label in labels if label is None or not 0 <= label < len(class_names)}, key=str)
    if wrong or len(labels) != num_rows:
        raise DataError(
            f"{path}: {len(labels):,} of {num_rows:,} rows, labels outside the {len(class_names)} classes: {wrong}"
        )
    return LabelledImages(torch.stack(images), torch.tensor(labels), class_names)


def _examples(path: Path, table: Any, label_column: str, form: ImageForm) -> Iterator[tuple[Tensor, int | None]]:
    columns = table.schema_arrow.names
    image_column = next((name for name in _IMAGE_COLUMNS if name in columns), None)
    if image_column is None or label_column not in columns:
        expected = f"{' or '.join(_IMAGE_COLUMNS)} and {label_column}"
        raise DataError(f"{path}: expected columns {expected}, found {', '.join(columns)}")
    row = 0
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[image_column, label_column]):
        cells = zip(batch.column(image_column).to_pylist(), batch.column(label_column).to_pylist(), strict=True)
        for cell, label in cells:
            content = cell.get("bytes") if isinstance(cell, dict) else None
            if not isinstance(content, bytes) or not isinstance(label, int | None):
                raise DataError(f"{path}: row {row}: expected an image {{bytes, path}} and an integer")
            yield form.decode(content, f"{path}, row {row}"), label
            row += 1


def _class_names(path: Path, metadata: dict[bytes, bytes] | None, label_column: str) -> tuple[str, ...]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label_column]["names"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no class names of {label_column!r} in the schema's metadata") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the class names of {label_column!r} in the schema's metadata are not texts")
    return tuple(names)
