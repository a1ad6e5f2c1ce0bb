"""Rows of tables as data sets: read, prepared, in memory or in files that are mapped into it."""

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from torch import Tensor

from instar.data.columns import Mask, Varying, columns_of
from instar.data.copies import warn_of_copies
from instar.data.kinds import KindOptions, Preparation, fit_preparation, kind_of
from instar.data.kinds.text import checked_texts
from instar.data.mapped import MappedDataset, keep_examples, read_examples
from instar.data.memory import InMemoryDataset
from instar.data.progress import tracked
from instar.data.records.cells import row_ids
from instar.data.records.places import PLACE, Places
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.data.records.tags import is_tagged
from instar.data.sounds import Sounds
from instar.data.sources import TEXT_SOURCES, cache_folder
from instar.data.tagged_rows import tagged_parts
from instar.errors import DataError, InstarError, RunError, UsageError
from instar.structures import Inputs, tensors_in

_FORMAT = 2  # of what is kept; another number invalidates it
PARTS = ("train", "validation", "test")
_SLOW = ("sound", "picture")
"""Kinds that are decoded: their examples are kept, so that this is done once."""
_FEW, _TRIED = 1_000, 16  # rows: so few fit in memory, and are soon read again; so many tell what the others take
_BYTES_AT_ONCE = 2**26


class Prepared(NamedTuple):
    """The parts of records as data sets, and what they went through."""

    parts: tuple[InMemoryDataset, ...]
    """training, validation and test data, as far as they are there"""
    preparation: Preparation
    roles: Roles
    source: str
    notes: tuple[str, ...]
    """what was guessed or decided, a sentence each"""
    folders: tuple[Path | None, ...] = (None, None, None)
    """the examples of each part in the cache, where they are kept"""


def prepared(records: Records, options: KindOptions) -> Prepared:
    """Fit the preparation on the training rows, and prepare all parts.

    A part that takes more memory than the budget stays in files in the cache, and is read as it is needed. What
    has to be decoded, and what many rows became, is kept there too.

    Raises:
        DataError: rows that cannot be used; names the source, the file and the row.
        RunError: a part does not fit in memory, and cannot be kept in the cache.
    """
    try:
        if is_tagged(records.parts["train"], records.roles):
            words, parts = tagged_parts(records, options)
            _warn_of_copies(records.source, parts)
            return Prepared(tuple(parts), words, records.roles, records.source, records.notes)
        preparation = fit_preparation(records, options)
        is_small = preparation.kind not in _SLOW and sum(map(len, records.parts.values())) <= _FEW
        like = None if is_small else _tried(preparation, records)
        names = [part for part in PARTS if part in records.parts]
        made = [_dataset(records, part, preparation, like, options) for part in names]
    except InstarError as error:
        raise type(error)(f"{records.source}: {error}") from error
    datasets, folders = (tuple(each) for each in zip(*made, strict=True))
    if not records.shares_no_copies:
        _warn_of_copies(records.source, datasets)
    return Prepared(datasets, preparation, records.roles, records.source, records.notes, folders)


def _warn_of_copies(source: str, parts: Sequence[InMemoryDataset]) -> None:
    if source not in TEXT_SOURCES:
        warn_of_copies(source, dict(zip(("training", "validation", "test"), parts, strict=False)))


def _dataset(
    records: Records, part: str, preparation: Preparation, like: Inputs | None, options: KindOptions
) -> tuple[InMemoryDataset, Path | None]:
    table = records.parts[part]
    if len(table) == 0:
        raise DataError(f"the {part} part has no row")
    data, folder = _examples(records, part, preparation, like, options)
    if records.label_probs is not None:
        data = data.with_label_probs(records.label_probs[part])
    return with_origin(data, table, records.roles, preparation), folder


def with_origin(data: InMemoryDataset, table: pa.Table, roles: Roles, preparation: Preparation) -> InMemoryDataset:
    """The data with what it knows of its rows: places or keys, what prepared them, and their texts or sounds."""
    if roles.key is None:  # the ids are those of the content, as those of files
        data.files = Places(table)
    else:
        data.keys = table[roles.key].cast(pa.string())
    data.table = preparation if preparation.kind == "table" else None
    return with_sources(data, table, roles)


def with_sources(data: InMemoryDataset, table: pa.Table, roles: Roles) -> InMemoryDataset:
    """The data with its texts or sounds, for networks that take these; pairs have none, nor what stays in files.

    The paths of sounds take little memory, and are kept.
    """
    is_large = isinstance(data, MappedDataset)
    if len(roles.text) == 1 and not is_large:
        data.texts = checked_texts(table, roles.text[0])
    elif kind_of(roles) == "sound":
        clips = table.select([name for name in (roles.audio, PLACE) if name in table.column_names])
        if not is_large or pa.types.is_string(clips[roles.audio].type):
            data.sounds = Sounds(clips, str(roles.audio))
    return data


def _examples(
    records: Records, part: str, preparation: Preparation, like: Inputs | None, options: KindOptions
) -> tuple[InMemoryDataset, Path | None]:
    """The data set of a part, and the folder that keeps its examples; without `like` none keeps its few."""
    table, labels = records.parts[part], records.labels[part]
    about: dict[str, Any] = {"class_names": records.class_names, "ids": records.ids[part]}
    if like is None:
        return InMemoryDataset(preparation.inputs(table, records.roles), labels, **about), None
    is_slow = preparation.kind in _SLOW
    row_bytes = _bytes_of(like) / len(tensors_in(like)[0])
    is_large = row_bytes * len(table) > options.memory_budget_bytes
    try:
        folder = _folder(records, part, preparation)
        if not is_slow and not is_large:
            inputs = columns_of(preparation.inputs(table, records.roles))
            keep_examples(folder, [inputs])
            return InMemoryDataset.of_columns(inputs, labels, **about), folder
        slices = _slices(table, max(1, int(_BYTES_AT_ONCE / row_bytes)))
        bar = tracked(slices, total=len(slices), description=f"preparing {part}", show=options.progress)
        inputs_at_once = (preparation.inputs(rows, records.roles) for rows in bar)
        keep_examples(folder, inputs_at_once, in_full=not is_large)
        with contextlib.suppress(*() if is_large else (DataError,)):  # another process has made room
            return opened(folder, like, labels, is_large=is_large, **about), folder
    except (RunError, UsageError, OSError):  # there is no cache, or another process has made room in it
        if is_large:
            raise
    return InMemoryDataset(preparation.inputs(table, records.roles), labels, **about), None


def opened(
    folder: Path, like: Any, labels: Tensor, *, is_large: bool, in_full: bool = False, **about: Any
) -> InMemoryDataset:
    """The examples in a folder as a data set, mapped into memory where they are large.

    Args:
        in_full: check each byte of what is not.

    Raises:
        DataError: the folder is not whole.
    """
    if is_large:
        return MappedDataset(folder, like, labels, **about)
    return InMemoryDataset.of_columns(read_examples(folder, like, in_full=in_full), labels, **about)


def _tried(preparation: Preparation, records: Records) -> Inputs:
    """What the first training rows become."""
    with warnings.catch_warnings():  # it warns when it prepares all
        warnings.simplefilter("ignore")
        return columns_of(preparation.inputs(records.parts["train"].slice(0, _TRIED), records.roles))


def _bytes_of(columns: Inputs) -> int:
    values = [one.values if isinstance(one, Varying) else one for one in tensors_in(columns)]
    return sum(one.nbytes for one in values if not isinstance(one, Mask))


def _slices(table: pa.Table, num_rows: int) -> list[pa.Table]:
    return [table.slice(start, num_rows) for start in range(0, len(table), num_rows)]


def _folder(records: Records, part: str, preparation: Preparation) -> Path:
    """The folder in the cache that holds the examples of a part."""
    roles, ids = records.roles, records.ids[part]
    if roles.key is not None:  # these ids do not tell the content
        ids = row_ids(records.parts[part], dataclasses.replace(roles, key=None), records.labels[part])
    about = json.dumps([_FORMAT, preparation.record(), preparation.in_words(), roles.inputs], sort_keys=True)
    digest = hashlib.sha256(about.encode())
    digest.update(ids.numpy().data)
    return cache_folder() / "prepared" / digest.hexdigest()[:32]
