"""The named data sets of texts: CLINC150 and SST-2, as tables with the columns `text` and `label`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from instar.data.records.places import with_places
from instar.data.records.reading import Records, split_records
from instar.data.records.roles import Roles
from instar.data.sources import TEXT_SOURCES, obtain
from instar.errors import DataError

ROLES = Roles(label="label", text=("text",))
"""Of their columns."""


def files_of(name: str, *, base_url: str | None = None, progress: bool = True) -> list[Path]:
    """The files of one of `TEXT_SOURCES`, found or downloaded.

    Raises:
        DataError: a file is missing or cannot be downloaded.
        UsageError: `INSTAR_DATA` is not a folder.
    """
    folder, files = obtain(TEXT_SOURCES[name], base_url=base_url, progress=progress)
    return [folder / file for file in files]


def read_records(name: str, files: Sequence[Path]) -> Records:
    """The rows of one of `TEXT_SOURCES`.

    Raises:
        DataError: a file is damaged.
    """
    try:
        tables = _READERS[name](files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{name}: {files[0].parent} holds other files than those of {name}: {error}") from error
    return split_records(tables, name, ROLES)


def _clinc150(paths: Sequence[Path]) -> dict[str, pa.Table]:
    """150 intents, and what is of none of them: `oos`."""
    whole = json.loads(paths[0].read_text(encoding="utf-8"))
    parts = {"train": "train", "validation": "val", "test": "test"}
    return {part: _table([*whole[own], *whole[f"oos_{own}"]], paths[0]) for part, own in parts.items()}


def _sst2(paths: Sequence[Path]) -> dict[str, pa.Table]:
    names = {"0": "negative", "1": "positive"}
    found = {}
    for part, path in zip(("train", "validation", "test"), paths, strict=True):
        lines = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines() if line]
        found[part] = _table([(text, names[label]) for text, label in lines], path)
    return found


_READERS: Mapping[str, Callable[[Sequence[Path]], dict[str, pa.Table]]] = {"clinc150": _clinc150, "sst2": _sst2}


def _table(rows: Sequence[Sequence[str]], path: Path) -> pa.Table:
    texts, labels = zip(*rows, strict=True)
    table = pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.string())})
    return with_places([table], [path.name], first=1)
