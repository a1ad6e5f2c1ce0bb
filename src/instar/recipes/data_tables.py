"""What `instar data` and `instar data check` show."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from instar.data import Inspection, Splits, TokenDataset, inspect_folder, inspect_splits, known_data
from instar.data.copies import copies_of
from instar.data.readers.images import OFFER_TO_FIT
from instar.errors import UsageError
from instar.naming import is_source, is_text_files
from instar.recipes.reading_settings import checked
from instar.recipes.record_tables import about_records, record_tables, records_of, sentence
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.reports import Column, Table
from instar.structures import Form, form_in_words

_FORMS = 12
"""Sizes and modes of pictures that a table shows: photographs have as many as there are pictures."""


def known_table() -> Table:
    """The data sets that are known by name, and where they are on this machine."""
    rows = [
        {"name": name, "what": what, "found": str(found) if found else "", "publisher": publisher}
        for name, what, found, publisher in known_data()
    ]
    return Table("Data sets", rows, columns=[Column("name"), Column("what"), Column("found", "on this machine")])


def data_tables(settings: Mapping[str, Any]) -> Iterator[Table]:
    """The parts of a data set, which is fetched if it is not on this machine; of rows also their columns.

    Args:
        settings: those of `DataSettings`.
    """
    data = checked(DataSettings, settings)
    splits = load_splits(data)
    if isinstance(splits.train, TokenDataset):
        about = [*([splits.preparation.in_words()] if splits.preparation else []), *splits.notes]
        yield Table(splits.name, _parts_of_text(splits), caption="\n".join(map(sentence, about)))
        return
    names = ", ".join(splits.class_names[:12]) + (", ..." if len(splits.class_names) > 12 else "")
    said = [f"{len(splits.class_names)} classes: {names}"]
    if splits.roles is not None and not is_source(data.name):  # a folder of sounds, which has no columns
        about = [] if splits.preparation is None else [splits.preparation.in_words()]
        said += map(sentence, (*about, *splits.notes))
    yield Table(splits.name, _parts_of(splits), caption="\n".join(said))
    if splits.roles is not None and is_source(data.name):
        yield from record_tables(*records_of(data), splits)


def data_record(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `data_tables` shows, as JSON can hold it."""
    data = checked(DataSettings, settings)
    splits = load_splits(data)
    if isinstance(splits.train, TokenDataset):
        return {"name": splits.name, "notes": list(splits.notes), "parts": _parts_of_text(splits)}
    about = {"name": splits.name, "class_names": list(splits.class_names), "parts": _parts_of(splits)}
    has_columns = splits.roles is not None and is_source(data.name)
    return about | (about_records(*records_of(data), splits) if has_columns else {})


def _parts_of_text(splits: Splits) -> list[dict[str, Any]]:
    """The documents and tokens of each part of running text."""
    return [
        {
            "part": part,
            "documents": len(data.num_bytes),
            "bytes": int(data.num_bytes.sum()),
            "tokens": data.num_positions,
            "sequences": len(data),
            "fingerprint": data.fingerprint[:12],
        }
        for part in ("train", "validation", "test")
        if isinstance(data := getattr(splits, part), TokenDataset)
    ]


def _parts_of(splits: Splits) -> list[dict[str, Any]]:
    rows = []
    for part in ("train", "validation", "test"):
        data = getattr(splits, part)
        labels = data.labels(data.ids).flatten()
        counts = torch.bincount(labels[labels >= 0], minlength=len(splits.class_names))
        rows.append(
            {
                "part": part,
                "examples": len(data),
                "shape": _shape_in_words(data.example_shape),
                "smallest class": int(counts.min()),
                "largest class": int(counts.max()),
                "copies of training examples": None if part == "train" else len(copies_of(splits.train, data)[0]),
                "fingerprint": data.fingerprint[:12],
            }
        )
    return rows


def _shape_in_words(form: Form) -> str:
    """`<=128 ids` of texts, whose mask says no more; of others their form."""
    if isinstance(form, Mapping) and set(form) == {"input_ids", "attention_mask"}:
        return f"{form['input_ids'][-1]} ids"
    return form_in_words(form)


def inspect(settings: Mapping[str, Any], *, progress: bool = True) -> Inspection:
    """Look at every example of a data set.

    Args:
        settings: those of `DataSettings`.
        progress: draw a bar on stderr.
    """
    data = checked(DataSettings, settings)
    if data.name.startswith("folder:"):
        return inspect_folder(Path(data.name.removeprefix("folder:")).expanduser(), progress=progress)
    if is_text_files(data.name):
        raise UsageError(f"{data.name}: copies and unreadable files are left out and said: instar data show")
    return inspect_splits(load_splits(data))


def inspection_tables(found: Inspection) -> Iterator[Table]:
    """What was found, as tables; a kind of finding without any has none."""
    forms = _form_rows(found)
    skipped = ", ".join(f"{kind} ({number})" for kind, number in sorted(found.passed_over.items()) if number)
    if parts := _part_rows(found):
        yield Table(found.name, parts, caption=f"Not read: {skipped}" if skipped else "")
        notes = [f"{len(forms) - _FORMS:,} more, see --json."] if len(forms) > _FORMS else []
        notes += [OFFER_TO_FIT] if len({row["form"] for row in forms}) > 1 else []
        yield Table("Sizes and modes", forms[:_FORMS], caption=" ".join(notes))
    if found.broken:
        yield Table("Broken", [one._asdict() for one in found.broken])
    if copies := found.copies:
        rows = [{"kind": one.kind, "examples": ", ".join(seen.name for seen in one.examples)} for one in copies]
        yield Table("Byte-identical examples", rows)


def inspection_record(found: Inspection) -> dict[str, Any]:
    """What was found, as JSON can hold it."""
    return {
        "name": found.name,
        "parts": _part_rows(found),
        "forms": _form_rows(found),
        "broken": [one._asdict() for one in found.broken],
        "copies": [
            {"kind": one.kind, "examples": [[seen.part, seen.label, seen.name] for seen in one.examples]}
            for one in found.copies
        ],
        "not_read": {kind: number for kind, number in sorted(found.passed_over.items()) if number},
    }


def summary(found: Inspection) -> str:
    """The findings in one line.

    Example:
        >>> summary(Inspection("mine"))
        'mine: 0 examples, nothing broken, no copies'
    """
    kinds = Counter(one.kind for one in found.copies)
    copies = ", ".join(f"groups of copies ({kind}): {number}" for kind, number in kinds.items()) or "no copies"
    return f"{found.name}: {len(found.seen)} examples, {len(found.broken) or 'nothing'} broken, {copies}"


def _form_rows(found: Inspection) -> list[dict[str, Any]]:
    """The forms, the most frequent first."""
    forms = sorted(found.forms.items(), key=lambda item: (-item[1], item[0]))
    return [{"part": part, "form": form, "examples": number} for (part, form), number in forms]


def _part_rows(found: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "examples": counts.total(),
            "classes": len(counts),
            "smallest class": min(counts.values()),
            "largest class": max(counts.values()),
        }
        for part, counts in found.classes.items()
    ]
