"""What `instar data show` says of rows with named columns."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from instar.data import Splits
from instar.data.records.places import columns_of_user, place_of, type_in_words
from instar.data.records.reading import Records, split_records, tables_of
from instar.data.records.roles import Roles
from instar.data.records.tags import is_tagged, numbers_of_tags
from instar.recipes.settings import DataSettings
from instar.recipes.splits import COLUMNS
from instar.reports import Column, Table

_CLASSES, _EXAMPLES = 20, 3
_LONG = 48  # characters of a cell


def records_of(settings: DataSettings) -> tuple[Records, pa.Table]:
    """The rows of data that are in files, split, and the training table with all its columns."""
    source, tables = tables_of(settings.name)
    about = {"validation_fraction": settings.validation_fraction, "split_seed": settings.split_seed}
    named = {role: name for role, name in settings.model_dump(include=COLUMNS).items() if name is not None}
    roles = Roles(**named)
    return split_records(tables, source, roles, **about), next(iter(tables.values()))  # type: ignore[arg-type]


def record_tables(records: Records, whole: pa.Table, splits: Splits) -> Iterator[Table]:
    """Columns, classes and some examples."""
    said = [splits.preparation.in_words()] if splits.preparation is not None else []
    rows = column_rows(records, whole)
    yield Table("Columns", rows, caption="\n".join([*map(sentence, (*said, *records.notes))]))
    classes = class_rows(records)
    more = f"{len(classes) - _CLASSES:,} more classes, see --json." if len(classes) > _CLASSES else ""
    yield Table("Classes", classes[:_CLASSES], caption=more)
    examples = example_rows(records)
    yield Table("Examples", examples, columns=[Column("class"), *map(Column, records.roles.inputs[:3])])


def column_rows(records: Records, whole: pa.Table) -> list[dict[str, Any]]:
    """A row for each column: its type, its role, how often it is empty, and a value."""
    roles: dict[str, str] = {}
    for role, columns in records.roles.record().items():
        if isinstance(columns, str):  # one, or the probabilities of labels, `no,yes`
            columns = [columns] if columns in whole.column_names else columns.split(",")
        roles |= dict.fromkeys((name.strip() for name in columns), role)
    rows = []
    for name in columns_of_user(whole):
        values, kind = whole[name], whole.schema.field(name).type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        is_empty = pc.fill_null(pc.equal(values, ""), True) if is_text else values.is_null()
        first = pc.index(is_empty, False).as_py()
        row = {"column": name, "type": type_in_words(kind), "role": roles.get(name, "")}
        instance = "" if first < 0 else _cell(values[first].as_py())
        rows.append({**row, "empty": pc.sum(is_empty).as_py() or 0, "for instance": instance})
    return rows


def class_rows(records: Records) -> list[dict[str, Any]]:
    """The number of rows (or words) of each class by part, the most frequent first."""
    size, all_labels = len(records.class_names), dict(records.labels)
    if is_tagged(records.parts["train"], records.roles):
        for part, table in records.parts.items():
            all_labels[part] = torch.cat(numbers_of_tags(table, records.roles, records.class_names))
    counts = {
        part: torch.bincount(labels[labels >= 0], minlength=size).tolist() for part, labels in all_labels.items()
    }
    rows = [
        {"class": name, **{part: count[number] for part, count in counts.items()}}
        for number, name in enumerate(records.class_names)
    ]
    return sorted(rows, key=lambda row: -int(row["train"]))


def example_rows(records: Records) -> list[dict[str, Any]]:
    """The first training rows."""
    table, labels = records.parts["train"], records.labels["train"].tolist()
    names = [records.class_names[number] if number >= 0 else "" for number in labels]
    tags = table[str(records.roles.label)] if is_tagged(table, records.roles) else None
    return [
        {
            "row": place_of(table, row),
            "class": names[row] if tags is None else _cell(list(map(str, tags[row].as_py()))),
            **{name: _cell(table[name][row].as_py()) for name in records.roles.inputs},
        }
        for row in range(min(_EXAMPLES, len(table)))
    ]


def about_records(records: Records, whole: pa.Table, splits: Splits) -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        "roles": records.roles.record(),
        "notes": list(records.notes),
        "preparation": None if splits.preparation is None else splits.preparation.in_words(),
        "columns": column_rows(records, whole),
        "classes": class_rows(records),
        "examples": example_rows(records),
    }


def _cell(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = " ".join(value)  # words, or their tags
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def sentence(text: str) -> str:
    """A note as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}."
