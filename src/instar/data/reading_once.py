"""Rows that were read before: what reading and preparing them gave is in the cache, by their files' content."""

import contextlib
import functools
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from instar.data.kept import bytes_of, make_room, make_room_once, most_bytes, read_kept, was_used, write_kept
from instar.data.kinds import KindOptions, read_preparation
from instar.data.prepared import PARTS, Prepared, opened, prepared, with_origin
from instar.data.records.places import PLACE
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.data.sources import cache_folder
from instar.errors import DataError, DataWarning, UsageError
from instar.files import file_hash, written_whole

_FORMAT = 3  # of what is kept; another number invalidates it
_SAME_ANYWAY = ("memory_budget_bytes", "progress")
"""Options that change nothing of what is read."""
_SAID: dict[str | tuple[str, type[Warning], int], int] = {}  # the same warning is not repeated


def read_once(
    files: Sequence[Path], name: str, roles: Roles, about: Any, options: KindOptions, read: Callable[[], Records]
) -> Prepared:
    """Rows of files, prepared; from the cache where they were read so before, with the warnings of then.

    What is in the cache is checked, and made again where it is damaged. Rows that name the files of pictures or
    sounds are read each time: these alone say whether they have changed.

    Args:
        files: that the rows come from.
        name: of the data.
        roles: of the columns, as far as they are named.
        about: what else decides what is read, as JSON.
        options: of the preparation.
        read: reads the rows.

    Raises:
        DataError: as `prepared`.
        UsageError: `INSTAR_CACHE_GIB` is no number.
    """
    most_bytes()  # raises now what would be raised when the rows have been read
    content = _content(files, options)
    entry = _entry(content, [name, roles.record(), about], options)
    if entry is not None and (kept := _kept(entry, options)) is not None:
        found, said = kept
        for text in said:
            warnings.warn(text, DataWarning, stacklevel=3)
        return found
    given: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as given:
            records = read()
            found = prepared(records, options)
    finally:
        for one in given:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, registry=_SAID)
    if entry is not None and None not in found.folders and _holds_all(records):
        said = [str(one.message) for one in given if issubclass(one.category, DataWarning)]
        _keep(entry, records, found, said)
        named = _entry(content, [name, found.roles.record(), about], options)  # with nothing left to be guessed
        if named is not None and named != entry:
            with contextlib.suppress(OSError), written_whole(named) as part:
                shutil.copyfile(entry, part)
    return found


def _content(files: Sequence[Path], options: KindOptions) -> list[list[str]] | None:
    """The names and checksums of files, those of a tokenizer too; None where one cannot be read."""
    tokenizer = Path(options.tokenizer or "").expanduser()
    if options.tokenizer and tokenizer.exists():
        files = [*files, *([tokenizer] if tokenizer.is_file() else sorted(tokenizer.iterdir()))]
    try:
        return [[str(file), file_hash(file)] for file in files if file.is_file()]
    except UsageError:
        return None


def _entry(content: list[list[str]] | None, about: Any, options: KindOptions) -> Path | None:
    """The file of the cache; None where there is none."""
    asked = {name: one for name, one in vars(options).items() if name not in _SAME_ANYWAY}
    whole = [_FORMAT, _version(), pa.__version__, about, asked, content]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    try:
        return None if content is None else cache_folder() / "read" / f"{digest[:32]}.safetensors"
    except UsageError:  # there is no home directory
        return None


@functools.cache
def _version() -> str:
    return metadata.version("instar")  # looked up in milliseconds


def _holds_all(records: Records) -> bool:
    """Whether all content is in the files that were read, none in files that these name; no sounds are kept."""
    if records.roles.audio is not None:  # networks may take the clips themselves
        return False
    column = records.roles.image
    for table in records.parts.values() if column is not None else ():
        kind = table.schema.field(column).type
        cells = table[column].chunks
        if pa.types.is_struct(kind):
            cells = [chunk.field("bytes") for chunk in cells]
        elif not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return False
        if any(cell.null_count for cell in cells):
            return False
    return True


def _keep(entry: Path, records: Records, found: Prepared, said: Sequence[str]) -> None:
    """Keep what tells the rows apart, and where the examples are; `like` has the types of columns, and no row."""
    inputs = list(records.roles.inputs)
    tensors = {"like": _as_bytes(records.parts["train"].select(inputs).schema.empty_table())}
    for part, data in zip(PARTS, found.parts, strict=True):
        texts = () if data.texts is None else records.roles.text
        keys = () if records.roles.key is None else (records.roles.key,)
        columns = dict.fromkeys((PLACE, *texts, *keys))
        tensors[f"{part}.rows"] = _as_bytes(records.parts[part].select(list(columns)))
        tensors |= {f"{part}.ids": records.ids[part], f"{part}.labels": records.labels[part]}
        if records.label_probs is not None:
            tensors[f"{part}.label_probs"] = records.label_probs[part]
    about = {
        "class_names": records.class_names,
        "roles": records.roles.record(),
        "source": records.source,
        "notes": records.notes,
        "preparation": found.preparation.record(),
        "folders": [folder.name for folder in found.folders if folder is not None],
        "said": said,
    }
    write_kept(entry, tensors, about)
    make_room(entry, *(folder for folder in found.folders if folder is not None))


def _kept(entry: Path, options: KindOptions) -> tuple[Prepared, list[str]] | None:
    """What was read before, and the warnings of then; None where it is not there, or is damaged."""
    if (kept := read_kept(entry)) is None:
        return None
    tensors, about = kept
    roles, preparation = Roles.read(about["roles"]), read_preparation(about["preparation"])
    like = preparation.inputs(_as_table(tensors["like"]), roles)  # of no row
    folders = [entry.parent.parent / "prepared" / name for name in about["folders"]]
    parts = []
    for part, folder in zip(PARTS, folders, strict=True):
        try:
            is_large = bytes_of(folder) > options.memory_budget_bytes
            table = _as_table(tensors[f"{part}.rows"])
            lacks_texts = len(roles.text) == 1 and not is_large and roles.text[0] not in table.column_names
            if lacks_texts:
                return None
            given = {"class_names": about["class_names"], "ids": tensors[f"{part}.ids"]}
            labels = tensors[f"{part}.labels"]
            data = opened(folder, like, labels, is_large=is_large, in_full=True, **given)
        except (OSError, DataError):  # another process has made room
            return None
        data = data.with_label_probs(tensors.get(f"{part}.label_probs"))
        parts.append(with_origin(data, table, roles, preparation))
        was_used(folder)
    make_room_once(entry, *folders)
    notes = tuple(about["notes"])
    return Prepared(tuple(parts), preparation, roles, about["source"], notes, tuple(folders)), about["said"]


def _as_bytes(table: pa.Table) -> Tensor:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return torch.frombuffer(sink.getvalue(), dtype=torch.uint8)


def _as_table(content: Tensor) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(content.numpy())).read_all()
