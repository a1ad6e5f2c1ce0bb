"""The files of a soft-target store: Arrow IPC shards and a manifest, written atomically, with checksums.

Rows are ordered by (view, id), so that the position of a row is computed. Each shard is one uncompressed record
batch, so that it can be memory-mapped.
"""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from instar.errors import DataError, RunError, UsageError
from instar.files import write_bytes, writing
from instar.identity import first_difference

FORMAT_VERSION = 2
"""Of stores with what came later (`_LATER`); all others are written as version 1, which older ones read."""
MANIFEST, LOCK = "store.json", ".lock"
CLASSES, REST, DRAWN = ".classes", ".rest", ".drawn"
SEQUENCES, HEAD, FULL = "sequences.arrow", "head.safetensors", "full.arrow"
_LATER = ("num_draws", "draws_at", "num_full", "hidden_width", "num_positions", "length", "tokens")
_MOST_ROWS, _MOST_SHARDS = 2**40, 2**20
_GOLDEN = (math.sqrt(5) - 1) / 2
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class StoreSettings:
    """Everything that determines the content of a store; differences are reported in the order of the fields."""

    class_names: tuple[str, ...]
    data_fingerprint: str
    content: Mapping[str, str]
    """hashes of some raw examples by id: ids that a user has chosen do not depend on the content"""
    views: str
    view_seed: int
    num_views: int
    teachers: Mapping[str, str]
    """fingerprint of each member"""
    top_k: int | None
    dtype: str
    temperatures: tuple[float, ...]
    """for a top-k store those it can be used at, for a full store those at which its error was measured"""
    rows_per_shard: int
    num_examples: int
    split: Mapping[str, Any] | None = None
    """which examples are validation, where it is known; None in stores from older versions"""
    answers: Mapping[str, Mapping[str, Any]] | None = None
    """what each member answers to some examples, a sketch: its code and preprocessing, and what the examples were
    scaled by; None in stores from older versions"""
    num_draws: int | None = None
    """of the classes outside the top k, in each row; None in stores that are not read sparse"""
    draws_at: float | None = None
    """temperature of the draws"""
    num_full: int | None = None
    """rows that are kept in full too, to measure what is left out"""
    hidden_width: int | None = None
    """of the last hidden states, where these are kept in place of logits"""
    num_positions: int | None = None
    """of all examples together, where a row is a position of a sequence"""
    length: int | None = None
    """of all sequences, padding included; None where a batch is padded to its longest"""
    tokens: str | None = None
    """what the ids of the sequences are of, where their form says so"""

    @property
    def is_sparse(self) -> bool:
        """Whether the rows are read as `SparseTargets`."""
        return self.num_draws is not None

    @property
    def num_rows(self) -> int:
        """Number of rows: one for each (view, example), or for each (view, example, position)."""
        return self.num_views * (self.num_positions or self.num_examples)

    def spread_rows(self, number: int) -> list[int]:
        """At most so many rows, spread evenly, and in no step with the lengths of sequences."""
        return sorted({int(math.fmod(place * _GOLDEN, 1) * self.num_rows) for place in range(1, 1 + number)})

    def other_files(self) -> list[str]:
        """The names of the files beside the shards."""
        there = {SEQUENCES: self.num_positions, HEAD: self.hidden_width, FULL: self.num_full}
        return [name for name, number in there.items() if number]

    def written(self) -> dict[str, Any]:
        """The settings without those that came later, where they are None: so old stores stay as they are."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _LATER}

    def rows_of(self, number: int) -> range:
        """The rows of shard `number`."""
        return range(self.num_rows)[number * self.rows_per_shard : (number + 1) * self.rows_per_shard]

    def files(self) -> list[str]:
        """The names of all shards, in order."""
        return [f"shard-{number:05d}.arrow" for number in range(-(-self.num_rows // self.rows_per_shard))]

    def column_names(self) -> list[str]:
        """The columns of each shard; of a top-k store `NAME.classes`, `NAME.rest` and perhaps `NAME.drawn` too."""
        own = [] if self.num_positions else ["id", "view"]
        return [*own, *(f"{name}{ending}" for name in self.teachers for ending in self.widths)]

    def column_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """The shape of each column of a shard with so many rows."""
        wide = {
            f"{name}{ending}": (rows, width) for name in self.teachers for ending, width in self.widths.items()
        }
        return {name: wide.get(name, (rows,)) for name in self.column_names()}

    @property
    def widths(self) -> dict[str, int]:
        """How many numbers a row has of one member, by the suffix of the column's name."""
        if self.top_k is None:
            return {"": self.hidden_width or len(self.class_names)}
        drawn = {DRAWN: self.num_draws} if self.num_draws else {}
        return {"": self.top_k, CLASSES: self.top_k, REST: len(self.temperatures), **drawn}


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard in the manifest, with the errors of its soft targets at each temperature."""

    rows: int
    bytes: int
    sha256: str
    max_l1: tuple[float, ...]
    mean_l1: tuple[float, ...]


@dataclass(frozen=True)
class FileEntry:
    """A finished file beside the shards in the manifest."""

    bytes: int
    sha256: str


@dataclass
class Manifest:
    """`store.json`: the settings and the finished shards and other files."""

    path: Path
    settings: StoreSettings
    shards: dict[str, ShardEntry] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the manifest of the store at `path`.

        Raises:
            UsageError: there is no store.
            RunError: the store was written by a newer instar.
            DataError: the manifest is damaged.
        """
        try:
            raw = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise UsageError(f"{path} is not a soft-target store: {MANIFEST}: {error.strerror}") from error
        damaged = DataError(f"{path / MANIFEST} is damaged; remove {path} and write the store again")
        try:
            content = json.loads(raw)
            version = content["format_version"]
            if not 1 <= version <= FORMAT_VERSION:
                raise RunError(
                    f"{path} has format version {version}, this instar reads up to {FORMAT_VERSION}: update instar"
                )
            settings = StoreSettings(**_tuples(content["settings"]))
            shards = {name: ShardEntry(**_tuples(about)) for name, about in content["shards"].items()}
            files = {name: FileEntry(**about) for name, about in content.get("files", {}).items()}
            _check_values(settings, shards, content)
            manifest = cls(path, settings, shards, files)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged from error
        # Writing it again gives the same bytes, checksum included, only if no byte has changed.
        if manifest._bytes() != raw:
            raise damaged
        return manifest

    @classmethod
    def begin(cls, path: Path, settings: StoreSettings) -> Self:
        """The manifest of a store to write: a new one, or the existing one where it has the same settings.

        Raises:
            UsageError: the existing store has other settings.
            RunError, DataError: as `read`.
        """
        for temporary in path.glob(".*.tmp"):  # from a process that was killed while writing
            temporary.unlink(missing_ok=True)
        if (path / MANIFEST).exists():
            manifest = cls.read(path)
            check_class_names(path, manifest.settings.class_names, settings.class_names)
            difference = first_difference(manifest.settings.written(), settings.written())
            if difference:
                raise UsageError(
                    f"{path} is a store with other settings: {difference}; write to another folder or remove it"
                )
            return manifest
        manifest = cls(path, settings)
        manifest.write()
        return manifest

    def write(self) -> None:
        """Replace `store.json`."""
        write_bytes(self.path / MANIFEST, self._bytes())

    def _bytes(self) -> bytes:
        shards = {name: asdict(about) for name, about in sorted(self.shards.items())}
        settings = self.settings.written()
        version = FORMAT_VERSION if any(key in settings for key in _LATER) else 1
        for key in ("split", "answers"):  # stores from older versions do not have them
            if settings[key] is None:
                del settings[key]
        content = {"format_version": version, "settings": settings, "shards": shards}
        if self.files:
            content["files"] = {name: asdict(about) for name, about in sorted(self.files.items())}
        content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return json.dumps(content, indent=1).encode() + b"\n"


def _check_values(settings: StoreSettings, shards: Mapping[str, ShardEntry], content: Mapping[str, Any]) -> None:
    """Raise a ValueError where a value is of another type or range: a faulty writer signs it with the rest."""
    from pydantic import TypeAdapter

    kinds = {"settings": StoreSettings, "shards": dict[str, ShardEntry], "files": dict[str, FileEntry]}
    for part, kind in kinds.items():
        TypeAdapter(kind).validate_json(json.dumps(content.get(part, {})), strict=True)
    positions = 1 if settings.num_positions is None else settings.num_positions
    counts = (positions, settings.num_views, settings.num_examples, settings.rows_per_shard)
    if not all(0 < count <= _MOST_ROWS for count in counts) or settings.num_rows > _MOST_SHARDS * counts[-1]:
        raise ValueError(f"counts {counts}")
    if not 0 < (1 if settings.top_k is None else settings.top_k) <= len(settings.class_names):
        raise ValueError(f"top_k {settings.top_k}, {len(settings.class_names)} classes")
    sizes = (settings.num_draws, settings.num_full, settings.hidden_width)
    if not all(size is None or 0 <= size <= _MOST_ROWS for size in sizes) or settings.hidden_width == 0:
        raise ValueError(f"sizes {sizes}")
    places = {file: number for number, file in enumerate(settings.files())}
    for name, shard in shards.items():
        errors = (len(shard.max_l1), len(shard.mean_l1))
        if shard.rows != len(settings.rows_of(places[name])) or {*errors} != {len(settings.temperatures)}:
            raise ValueError(f"shard {name}")


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


@contextmanager
def lock_store(path: Path) -> Iterator[None]:
    """Create a store's folder where it does not exist, and lock it against other writers inside the block.

    Raises:
        UsageError: the folder holds something else.
        RunError: another process has locked it, or it cannot be created.
    """
    with writing(path):
        others = [file for file in path.iterdir() if not file.name.startswith(".")] if path.is_dir() else []
        if others and not (path / MANIFEST).exists():
            raise UsageError(f"{path} is neither empty nor a soft-target store; choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            # `lockf` locks for this process alone; its forked workers would keep a `flock` after it is killed.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{path} is being written by another process: wait for it or stop it") from None
        yield
    finally:
        os.close(lock)


def shard_bytes(columns: Columns, about: Mapping[str, Any]) -> bytes:
    """The content of a shard's file; `about` is written into its schema, so that each shard describes itself."""
    import pyarrow as pa

    arrays = [
        pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        for values in columns.values()
    ]
    batch = pa.record_batch(arrays, names=list(columns))
    batch = batch.replace_schema_metadata({key: json.dumps(value) for key, value in about.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def map_shard(path: Path, expected: ShardEntry | FileEntry) -> Columns:
    """Check a shard's checksum and map its columns into memory, without a copy.

    Raises:
        DataError: the shard is missing or damaged.
    """
    import pyarrow as pa

    batch = pa.ipc.open_file(map_file(path, expected)).get_batch(0)
    return {name: _as_numpy(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def map_file(path: Path, expected: ShardEntry | FileEntry) -> Any:
    """Check a file's checksum and map it into memory, without a copy.

    Raises:
        DataError: it is missing or damaged.
    """
    import pyarrow as pa

    mend = "repeat the same `write` to replace this shard; the others are kept"
    try:
        found = path.stat().st_size
        if found != expected.bytes:
            raise DataError(f"{path} is damaged: {found} bytes, expected {expected.bytes}; {mend}")
        with pa.memory_map(str(path)) as file:
            buffer = file.read_buffer()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {mend}") from error
    if hashlib.sha256(buffer).hexdigest() != expected.sha256:
        raise DataError(f"{path} is damaged: its checksum is not the one in {MANIFEST}; {mend}")
    return buffer


def _as_numpy(column: Any) -> NDArray[Any]:
    """A column as an array (rows,), or (rows, width) where its cells are lists."""
    flat = column.flatten() if hasattr(column.type, "list_size") else column
    values: NDArray[Any] = np.asarray(flat.to_numpy(zero_copy_only=True))
    return values.reshape(len(column), -1) if flat is not column else values


def check_class_names(path: Path, stored: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Refuse other classes, or the same classes in another order.

    Raises:
        UsageError: names the first difference.
    """
    if len(stored) != len(found):
        raise UsageError(
            f"{path} has {len(stored)} classes, the data has {len(found)}; use data of the same classes"
        )
    for index, (there, here) in enumerate(zip(stored, found, strict=True)):
        if there != here:
            same = sorted(stored) == sorted(found)
            raise UsageError(
                f"{path}: class {index} is {there!r}, in the data it is {here!r}: "
                + ("the same in another order; reorder them" if same else "use data of the same classes")
            )
