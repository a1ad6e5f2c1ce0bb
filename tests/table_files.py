"""Small real tables in every format that rows are read from, for the tests to use and to break."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Columns = Mapping[str, Sequence[Any]]
KINDS = ("ant", "bee", "wasp")


def insects(number: int = 30) -> dict[str, list[Any]]:
    """Three kinds, told apart by their width; 'place' is the same for six in a row."""
    return {
        "width": [round(0.5 + row % 3 + row / 100, 2) for row in range(number)],
        "legs": [row % 7 for row in range(number)],
        "place": [f"nest {row // 6}" for row in range(number)],
        "kind": [KINDS[row % 3] for row in range(number)],
    }


def write_csv(path: Path, columns: Columns, **dialect: Any) -> Path:
    """A table of texts; quotes where a cell needs them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, **dialect)
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def write_jsonl(path: Path, columns: Columns) -> Path:
    """A JSON object a line."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, columns: Columns, *, classes: Mapping[str, Sequence[str]] | None = None) -> Path:
    """A table with the names of numbered classes in Hugging Face's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {name: {"_type": "ClassLabel", "names": list(names)} for name, names in (classes or {}).items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), path)
    return path


def write_shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """A tar archive of members in this order."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path
