"""Rows of a source, with their labels and ids, split into training, validation and test rows."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from instar.data.identity import original_rows
from instar.data.records.cells import about_codes, check_numbers, row_ids
from instar.data.records.files import ALL
from instar.data.records.frames import table_of, tables_in
from instar.data.records.guessing import found_roles
from instar.data.records.labels import Labels, joined_labels, labels_of
from instar.data.records.on_disk import taken
from instar.data.records.parting import by_column, cut_rows
from instar.data.records.places import PLACE, place_of, with_places
from instar.data.records.roles import Roles
from instar.data.records.tags import is_tagged, labels_of_words, without_empty
from instar.errors import DataError, InstarError
from instar.losses import NO_LABEL
from instar.naming import ROW_SOURCES, few, import_object

_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Records:
    """Rows with named columns, split."""

    parts: Mapping[str, pa.Table]
    """of train, validation and test"""
    labels: Mapping[str, Tensor]
    """(n,) int64 class numbers of each part, -1 for none"""
    ids: Mapping[str, Tensor]
    """(n,) int64 of each part, from the key or the content of the rows"""
    class_names: tuple[str, ...]
    roles: Roles
    source: str
    notes: tuple[str, ...] = ()
    """what was guessed or decided, a sentence each"""
    label_probs: Mapping[str, Tensor] | None = None
    """(n, classes) of each part, where the labels are distributions"""
    shares_no_copies: bool = False
    """whether no row of a part can be a copy of one of another: all were cut from one, by their content"""


def read_records(
    source: Any, roles: Roles | None = None, *, validation_fraction: float = 0.1, split_seed: int = 0
) -> Records:
    """Read the rows of a source and split them.

    Args:
        source: `csv:`, `jsonl:`, `parquet:`, `hf:` or `webdataset:` and a place, or what `frames.tables_in` takes.
        roles: of the columns; those that are not named are guessed where there is one choice.
        validation_fraction, split_seed: as for `load_data`.

    Raises:
        DataError: files that cannot be read; names file and row.
        UsageError: a column that is not there, or a role that could be several columns.

    Example:
        >>> rows = read_records({"text": [f"text {number}" for number in range(30)], "label": [0, 1, 2] * 10})
        >>> {part: len(table) for part, table in rows.parts.items()}, rows.notes[0]
        ({'train': 21, 'validation': 3, 'test': 6}, "the class is column 'label'")
    """
    name, tables = tables_of(source)
    try:
        about = {"validation_fraction": validation_fraction, "split_seed": split_seed}
        return split_records(tables, name, roles or Roles(), **about)  # type: ignore[arg-type]
    except InstarError as error:
        raise error if str(error).startswith(name) else type(error)(f"{name}: {error}") from error


def tables_of(source: Any) -> tuple[str, dict[str, pa.Table]]:
    """What messages call a source, and all its columns by part."""
    if not isinstance(source, str):
        return type(source).__name__, tables_in(source)
    scheme, _, place = source.partition(":")
    return source, import_object(f"instar.data.records.{ROW_SOURCES[scheme]}:read_tables")(place)


def files_of(source: str) -> list[Path]:
    """The files that a source names, fetched where it is a name of the hub.

    Raises:
        UsageError: there are none.
        DataError: some of their names tell a part and others do not.
    """
    scheme, _, place = source.partition(":")
    parts = import_object(f"instar.data.records.{ROW_SOURCES[scheme]}:parts_of")(place)
    return [file for files in parts.values() for file in files]


def split_records(
    tables: Mapping[str, pa.Table],
    source: str,
    roles: Roles,
    *,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
) -> Records:
    """Tables by part as records; those without parts are split, a fifth for the test."""
    tables, roles, notes, class_names = _with_roles(tables, source, roles)
    found = _labels(tables, roles, class_names)
    labels, said = found.numbers, [*notes, *found.notes]
    if {"test", "validation"} <= set(labels) and not bool((labels["test"] != NO_LABEL).any()):
        said.append("the test rows have no label and are left out")
        tables = {part: table for part, table in tables.items() if part != "test"}
    if "validation" in tables and "test" not in tables:
        said.append("the validation rows are the test, there is no other")
        tables = {"train": tables["train"], "test": tables["validation"]}
        found = found.as_test()
    records = _with_ids(tables, found, roles, source, said)
    return _checked(_cut(_with_equal_rows_said(records), validation_fraction, split_seed))


def whole_records(parts: Mapping[str, Any]) -> Records:
    """Rows in memory as the parts that they were given as, of which the training part is the first: none is split.

    Args:
        parts: of each part what `frames.table_of` takes.

    Raises:
        DataError, UsageError: as `read_records`.
    """
    tables = {part: with_places([table_of(data)], [f"the {part} rows"]) for part, data in parts.items()}
    source = type(parts["train"]).__name__
    tables, roles, notes, class_names = _with_roles(tables, source, Roles())
    found = _labels(tables, roles, class_names)
    return _checked(_with_equal_rows_said(_with_ids(tables, found, roles, source, [*notes, *found.notes])))


def _with_roles(
    tables: Mapping[str, pa.Table], source: str, roles: Roles
) -> tuple[dict[str, pa.Table], Roles, tuple[str, ...], tuple[str, ...]]:
    """The columns that have a role, what was guessed of these, and the classes that columns are called after."""
    for part, table in tables.items():
        if len(table) == 0:
            raise DataError(f"the {part} part has no row" if part != ALL else "there are no rows")
    tables, class_names = joined_labels(tables, roles.label)
    roles, notes = found_roles(next(iter(tables.values())), roles, source)
    for part, table in tables.items():
        if missing := [name for name in roles.columns if name not in table.column_names]:
            where = place_of(table, 0).rpartition(", row ")[0] or f"the {part} part"
            raise DataError(f"{where}: there is no column {few(missing)}, which the training rows have")
    tables = {part: table.select([*roles.columns, PLACE]) for part, table in tables.items()}
    if is_tagged(next(iter(tables.values())), roles):
        tables, said = without_empty(tables, roles)
        notes = (*notes, *said)
    if roles.part is not None and ALL in tables:
        tables = by_column(tables[ALL], roles.part)
    for table in tables.values():
        check_numbers(table, roles.features)
    about = about_codes(next(iter(tables.values())), [*roles.features, str(roles.label)])
    return tables, roles, (*notes, *about), class_names


def _labels(tables: Mapping[str, pa.Table], roles: Roles, class_names: Sequence[str]) -> Labels:
    if is_tagged(next(iter(tables.values())), roles):
        return labels_of_words(tables, roles)
    return labels_of(tables, str(roles.label), class_names)


def _with_ids(
    tables: Mapping[str, pa.Table], found: Labels, roles: Roles, source: str, said: Sequence[str]
) -> Records:
    ids = {part: row_ids(table, roles, found.order(part)) for part, table in tables.items()}
    return Records(dict(tables), found.numbers, ids, found.class_names, roles, source, tuple(said), found.probs)


def _checked(records: Records) -> Records:
    """Say how many rows have no label, and refuse classes that cannot be learned."""
    notes = list(records.notes)
    is_of_words = is_tagged(records.parts["train"], records.roles)  # its labels only say how rows are split
    learned = torch.bincount(records.labels["train"] + 1, minlength=len(records.class_names) + 1)[1:] > 0
    for part, labels in {} if is_of_words else records.labels.items():
        if num := int((labels == NO_LABEL).sum()):
            notes.append(f"{num:,} of {len(labels):,} {part} rows have no label")
        strange = ((labels != NO_LABEL) & ~learned[labels.clamp(min=0)]).nonzero()
        if len(strange):
            row = int(strange[0])
            name = records.class_names[int(labels[row])]
            raise DataError(f"{place_of(records.parts[part], row)}: class {name!r} is in the {part} part alone")
    if group := records.roles.group:
        named = {part: table[group].cast(pa.string()).fill_null("") for part, table in records.parts.items()}
        known = pc.unique(named["train"])
        known = known.filter(pc.not_equal(known, ""))
        for part in records.parts.keys() - {"train"}:
            shared = pc.is_in(named[part], value_set=known)
            if row := pc.index(shared, True).as_py() + 1:
                value = records.parts[part][group][row - 1].as_py()
                raise DataError(
                    f"{place_of(records.parts[part], row - 1)}: {group} {value!r} is in the {part} and in the "
                    "training part, and a group stays in one"
                )
        counts = ", ".join(f"{pc.count_distinct(one).as_py():,} {part}" for part, one in named.items())
        num_without = sum(pc.sum(pc.equal(one, "")).as_py() for one in named.values())
        without = f"; {num_without:,} rows without one are a group of their own" if num_without else ""
        notes.append(f"groups of {group!r}: {counts}{without}")
    return dataclasses.replace(records, notes=tuple(notes))


def _with_equal_rows_said(records: Records) -> Records:
    """Say how many rows have two classes: before they are cut, which takes as much memory."""
    part = ALL if ALL in records.parts else "train"
    if is_tagged(records.parts[part], records.roles):  # its labels only say how rows are split
        return records
    num, num_rows = _num_of_two_classes(records.ids[part], records.labels[part]), len(records.ids[part])
    if not num:
        return records
    is_cut = "validation" not in records.parts and not records.roles.group
    rows = "rows" if part == ALL else "training rows"
    together = "; equal rows are in the same part" if is_cut else ""
    said = f"{num:,} of {num_rows:,} {rows} equal others that have another class{together}"
    return dataclasses.replace(records, notes=(*records.notes, said))


def _num_of_two_classes(ids: Tensor, labels: Tensor) -> int:
    """How many rows have copies, by their ids, that have another label."""
    originals = original_rows(ids)
    copied = torch.unique(originals[originals != torch.arange(len(ids))])
    if not len(copied):  # as in most data, of which there may be millions
        return 0
    rows = (torch.isin(originals, copied) & (labels != NO_LABEL)).nonzero().squeeze(1)
    groups, known = torch.searchsorted(copied, originals[rows]), labels[rows]
    first, last = (torch.zeros(len(copied), dtype=torch.int64) for _ in range(2))
    for found, least_or_most in ((first, "amin"), (last, "amax")):
        found.scatter_reduce_(0, groups, known, least_or_most, include_self=False)
    return int((first != last)[groups].sum())


def _cut(records: Records, validation_fraction: float, split_seed: int) -> Records:
    """The parts that are not there yet, split off from one that is; its rows are taken once, at the end."""
    whole = ALL if ALL in records.parts else "train"
    rows = {"train": torch.arange(len(records.parts[whole]))}
    if whole == ALL:
        rows["train"], rows["test"] = _cut_off(records, whole, rows["train"], _TEST_FRACTION, split_seed, parts=3)
    if "validation" not in records.parts:
        rows["train"], rows["validation"] = _cut_off(
            records, whole, rows["train"], validation_fraction, split_seed
        )
    if len(rows) == 1:
        return records

    def with_rows(values: Mapping[str, Any], take: Any) -> dict[str, Any]:
        found = {**values, **{part: take(values[whole], some) for part, some in rows.items()}}
        return {part: found[part] for part in ("train", "validation", "test") if part in found}

    probs = records.label_probs
    return dataclasses.replace(
        records,
        parts=with_rows(records.parts, lambda table, some: taken(table, some.numpy())),
        labels=with_rows(records.labels, operator.getitem),
        ids=with_rows(records.ids, operator.getitem),
        label_probs=None if probs is None else with_rows(probs, operator.getitem),
        shares_no_copies=whole == ALL and records.roles.key is None and records.roles.group is None,
    )


def _cut_off(
    records: Records, whole: str, rows: Tensor, fraction: float, split_seed: int, *, parts: int = 2
) -> tuple[Tensor, Tensor]:
    """Of some rows of a part those that stay, and the share that is split off, both ascending."""
    table, labels, roles = records.parts[whole], records.labels[whole], records.roles
    contents = None
    if roles.key is not None and roles.group is None:
        contents = row_ids(table, dataclasses.replace(roles, key=None), labels)[rows]
    stay, go = cut_rows(
        records.ids[whole][rows],
        labels[rows],
        None if roles.group is None else table[roles.group].take(pa.array(rows.numpy())),
        fraction=fraction,
        split_seed=split_seed,
        class_names=records.class_names,
        contents=contents,
        parts=parts,
        place=lambda row: place_of(table, int(rows[row])),
    )
    return rows[stay], rows[go]
