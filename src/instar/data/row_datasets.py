"""Rows with named columns that are in memory, as data sets: they are prepared, and not split."""

from typing import Any

from instar.data.dataset import Dataset
from instar.data.kinds import KindOptions
from instar.data.prepared import prepared
from instar.data.records.frames import is_rows
from instar.data.records.reading import whole_records
from instar.errors import UsageError
from instar.naming import described


def row_datasets(train: Any, validation: Any = None) -> tuple[Dataset, Dataset | None]:
    """All rows of a frame as training data, and of another as validation data, prepared as the first.

    Columns are found and prepared as by `load_data`, fitted on the training rows.

    Args:
        train: a frame of pandas or polars, a table of Arrow, a mapping of columns, rows as mappings, or a
            `datasets.Dataset`, with a column that is called label, class, target or the like.
        validation: the same, with the same columns.

    Raises:
        UsageError: columns that have to be named, or validation data of another kind.
        DataError: rows that cannot be used; names the row.

    Example:
        >>> ants = {"width": [1.0, 2.0, 3.0, 4.0], "kind": ["a", "a", "b", "b"], "label": [0, 0, 1, 1]}
        >>> data, _ = row_datasets(ants)
        >>> len(data), data.example_shape, data.class_names
        (4, (3,), ('0', '1'))
    """
    if validation is not None and not is_rows(validation):
        raise UsageError(f"validation: expected rows with the columns of train, found {described(validation)}")
    parts = {"train": train} if validation is None else {"train": train, "validation": validation}
    try:
        made = prepared(whole_records(parts), KindOptions(progress=False))
    except UsageError as error:
        raise UsageError(
            f"{error}; from Python: data = instar.load_data(rows, label=..., features=...), then data.train"
        ) from error
    return made.parts[0], made.parts[1] if validation is not None else None
