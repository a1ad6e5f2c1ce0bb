"""Rows of tables as data sets: read, prepared, in memory."""

from typing import NamedTuple

from instar.data.kinds import KindOptions, Preparation, fit_preparation
from instar.data.kinds.text import checked_texts
from instar.data.memory import InMemoryDataset
from instar.data.records.reading import Records
from instar.errors import DataError, InstarError


class Prepared(NamedTuple):
    """The parts of records as data sets, and what they went through."""

    parts: tuple[InMemoryDataset, InMemoryDataset, InMemoryDataset]
    """training, validation and test data"""
    preparation: Preparation


def prepared(records: Records, options: KindOptions) -> Prepared:
    """Fit the preparation on the training rows, and prepare all parts.

    Raises:
        DataError: rows that cannot be used; names the source, the file and the row.
    """
    try:
        preparation = fit_preparation(records, options)
        train, validation, test = (
            _dataset(records, part, preparation) for part in ("train", "validation", "test")
        )
    except InstarError as error:
        raise type(error)(f"{records.source}: {error}") from error
    return Prepared((train, validation, test), preparation)


def _dataset(records: Records, part: str, preparation: Preparation) -> InMemoryDataset:
    table = records.parts[part]
    if len(table) == 0:
        raise DataError(f"the {part} part has no row")
    data = InMemoryDataset(
        preparation.inputs(table, records.roles),
        records.labels[part],
        class_names=records.class_names,
        ids=records.ids[part],
    )
    if preparation.kind == "text" and len(records.roles.text) == 1:  # for teachers that read them
        data.texts = checked_texts(table, records.roles.text[0])
    return data
