"""Shards of WebDataset: tar archives in which files of one name and several endings are one example.

The index of a shard is our own: it says where in the file each member is, so that there are as many rows as files
say, and nothing is decoded, let alone unpickled, that is not asked for.
"""

import itertools
import json
import mmap
import re
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from instar.data.readers.images import IMAGE_SUFFIXES
from instar.data.records.files import parts_of_files, parts_of_paths
from instar.data.records.on_disk import in_little_memory
from instar.data.records.places import with_places
from instar.errors import DataError, DataWarning, UsageError, first_line

KEY = "__key__"
"""The column of the name that the members of an example share."""

TEXTS = ("txt", "text", "transcript", "caption")
NUMBERS = ("cls", "cls2", "index", "inx", "id")
"""Endings of whole numbers; where one is a name, they are texts."""
BYTES = (*(suffix.removeprefix(".") for suffix in sorted(IMAGE_SUFFIXES)), "wav", "flac")
_NEVER = ("pyd", "pkl", "pickle", "pth", "pt")  # would be unpickled
_SUFFIXES = (".tar",)
_GZIP = b"\x1f\x8b"
_READ_AT_ONCE = 1 << 20
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


class Sample(NamedTuple):
    """An example of a shard."""

    key: str
    members: dict[str, tuple[int, int]]
    """offset and size in the shard, by ending"""


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `webdataset:SHARDS` by part: a file, a folder, a pattern with * or with {0000..0015}.

    Raises:
        UsageError: there is no such shard.
        DataError: a shard that is cut off or damaged, or whose members make no examples; names shard and member.
    """
    return {
        part: with_places(in_little_memory(map(read_shard, shards)), [str(shard) for shard in shards], first=1)
        for part, shards in parts_of(place).items()
    }


def parts_of(place: str) -> dict[str, list[Path]]:
    """The shards that `read_tables` reads, by part."""
    if _RANGE.search(place):
        shards = [Path(name).expanduser() for name in expanded(place)]
        if missing := [shard for shard in shards if not shard.is_file()]:
            raise UsageError(
                f"webdataset:{place}: there is no shard {missing[0]} ({len(missing)} of {len(shards)})"
            )
        return parts_of_paths("webdataset", place, shards, shards[0].parent)
    return parts_of_files("webdataset", place, _SUFFIXES)


def expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces means.

    Example:
        >>> expanded("train-{08..10}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    pieces, start = [], 0
    for found in _RANGE.finditer(pattern):
        low, high, words = found.groups()
        numbers = words.split(",") if words else [f"{n:0{len(low)}}" for n in range(int(low), int(high) + 1)]
        pieces += [[pattern[start : found.start()]], numbers]
        start = found.end()
    return ["".join(parts) for parts in itertools.product(*pieces, [pattern[start:]])]


def index_of(shard: Path) -> list[Sample]:
    """The examples of a shard in its order.

    Raises:
        DataError: a shard that is cut off or damaged, members that do not stand together, or a name with dots.
    """
    samples: list[Sample] = []
    seen: set[str] = set()
    for name, offset, size in _members(shard):
        folder, _, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        key, ending = f"{folder}/{stem}" if folder else stem, ending.lower()
        if not samples or samples[-1].key != key:
            if key in seen:
                raise DataError(
                    f"{shard}, {name}: the members of {key!r} do not stand together, and other readers would make "
                    "several examples of them; sort the members by name when the shard is written"
                )
            seen.add(key)
            samples.append(Sample(key, {}))
        if ending in samples[-1].members:
            raise DataError(f"{shard}, {name}: {key!r} has two members .{ending}")
        samples[-1].members[ending] = (offset, size)
        last = ending.rpartition(".")[2]
        if last != ending and (last in samples[-1].members or ending[0].isdecimal()):
            raise DataError(
                f"{shard}, {name}: the first dot ends the name of an example, so this is .{ending} of {key!r}; "
                "names must have no dot but that before the ending"
            )
    if not samples:
        raise DataError(f"{shard}: holds no files")
    return samples


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each regular file, nothing hidden."""
    name = None
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                name = member.name
                if not 0 <= member.size <= size - member.offset_data:
                    raise DataError(f"{shard}, {name}: the shard is cut off here; write or get it again")
                hidden = name.rpartition("/")[2].startswith((".", "__"))
                if member.isreg() and not member.issparse() and not hidden:
                    yield name, member.offset_data, member.size
            end = archive.offset
        _check_end(shard, end, name)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if name is None:
            raise DataError(f"{shard}: {_no_archive(shard, error)}") from error
        raise DataError(f"{shard}, after {name}: not a whole tar archive: {first_line(error)}") from error


def _check_end(shard: Path, end: int, name: str | None) -> None:
    """Refuse what is not zeros behind the last member: tarfile takes a damaged header for the end, in silence."""
    with shard.open("rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            raise DataError(
                f"{shard}, after {name}: the shard has no end, and was cut off here; write or get it again"
            )
        if any(block):
            raise DataError(
                f"{shard}, after {name}: what follows is no tar header: the shard is damaged; "
                "write or get it again"
            )
        if any(part.strip(b"\0") for part in iter(partial(file.read, _READ_AT_ONCE), b"")):
            raise DataError(
                f"{shard}, after {name or 'the first block'}: bytes after the end mark: is it of shards "
                "that were joined by cat? Name them one by one, or write the shard again"
            )


def _no_archive(shard: Path, error: Exception) -> str:
    """What a file is that has no first member."""
    if isinstance(error, OSError):
        return first_line(error)
    with shard.open("rb") as file:
        start = file.read(len(_GZIP))
    if not start:
        return "an empty file, no tar archive; write or get it again"
    if start == _GZIP:
        return "compressed by gzip, and members are read where they stand in a shard; unpack it with `gunzip`"
    return f"no tar archive, or its first header is damaged: {first_line(error)}"


def read_shard(shard: Path) -> pa.Table:
    """The examples of a shard, a column for each ending; objects of JSON become columns by their keys."""
    samples = index_of(shard)
    endings = list(samples[0].members)
    for sample in samples:
        if list(sample.members) != endings and set(sample.members) != set(endings):
            missing = [one for one in endings if one not in sample.members]
            more = [one for one in sample.members if one not in endings]
            differs = f"lacks .{missing[0]}" if missing else f"also has .{more[0]}"
            raise DataError(
                f"{shard}, {sample.key}: {differs}, unlike {samples[0].key} before it, which has "
                f"{', '.join('.' + one for one in endings)}"
            )
    others = [one for one in endings if one.rpartition(".")[2] not in (*TEXTS, *NUMBERS, *BYTES, "json")]
    if others and set(endings) - set(_NEVER):
        pickles = ": a pickle could run any code" if set(others) & set(_NEVER) else ""
        warnings.warn(
            f"{shard}: not read: {', '.join('.' + one for one in others)}{pickles}", DataWarning, stacklevel=2
        )
    if not set(endings) - set(_NEVER):
        raise DataError(f"{shard}: .{endings[0]} is a pickle, which could run any code; instar reads none")
    columns: dict[str, Any] = {KEY: [sample.key for sample in samples]}
    with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for ending in endings:
            kind = ending.rpartition(".")[2]
            if ending in others:
                continue
            cells = [content[at : at + size] for at, size in (sample.members[ending] for sample in samples)]
            if kind in BYTES:
                columns[ending] = pa.array(
                    cells, pa.large_binary() if sum(map(len, cells)) > 2**31 else pa.binary()
                )
                continue
            texts = [_text(cell, shard, samples[row].key, ending) for row, cell in enumerate(cells)]
            if kind == "json":
                columns |= _objects(texts, shard, samples, ending, taken=columns)
            elif kind in NUMBERS and all(re.fullmatch(r"\s*-?\d+\s*", text) for text in texts):
                columns[ending] = [int(text) for text in texts]
            else:
                columns[ending] = [text.strip() if kind in NUMBERS else text for text in texts]
    return pa.table(columns)


def _text(cell: bytes, shard: Path, key: str, ending: str) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{shard}, {key}.{ending}: not text in UTF-8: {error.reason}") from error


def _objects(
    texts: Sequence[str], shard: Path, samples: Sequence[Sample], ending: str, *, taken: dict[str, Any]
) -> dict[str, Any]:
    """The keys of JSON objects as columns; one that has the name of an ending keeps both: `json.label`."""
    rows: list[dict[str, Any]] = []
    for text, sample in zip(texts, samples, strict=True):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise DataError(f"{shard}, {sample.key}.{ending}: not JSON: {first_line(error)}") from error
        rows.append(found if isinstance(found, dict) else {ending: found})
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            values = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise DataError(f"{shard}: {name!r} of .{ending} holds several types: {first_line(error)}") from error
        columns[f"{ending}.{name}" if name in taken else name] = values
    return columns
