"""Tables: numbers standardised, categories one-hot, missing values stated; fitted on the training rows."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from instar.data.kinds import KindOptions
from instar.data.kinds.table_columns import ROWS_AT_ONCE, Column, Number, fit_columns, read_column
from instar.data.records.on_disk import let_go
from instar.data.records.places import place_of
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.errors import DataError, DataWarning, UsageError
from instar.naming import few, unknown_name


class TablePreparation:
    """Rows of numbers and categories as vectors: (x - mean) / sd, and 1 at the place of a category, else 0.

    A number that is missing counts as the training mean; where training rows lack it too, an indicator beside it
    says so. A category that is missing is a category of its own where training rows lack it. A category that no
    training row has is 0 everywhere; in a column with rare values it is one of them.

    Args:
        columns: in the order of the vector.

    Example:
        >>> from instar.data.kinds.table_columns import Category
        >>> table = pa.table({"age": [20, 40, None], "port": ["S", "C", "S"]})
        >>> roles = Roles(label="survived", features=("age", "port"))
        >>> preparation = TablePreparation([Number("age", 30.0, 10.0, missing=True), Category("port", ("C", "S"))])
        >>> preparation.inputs(table, roles).tolist()
        [[-1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """

    kind = "table"

    def __init__(self, columns: Sequence[Column], left_out: Sequence[str] = ()) -> None:
        self.columns, self.left_out = tuple(columns), tuple(left_out)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [column.name for column in self.columns]

    @property
    def example(self) -> dict[str, Any]:
        """A row, near the means of the training rows."""
        return {column.name: column.example for column in self.columns}

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return sum(column.width for column in self.columns)

    @property
    def places(self) -> list[slice]:
        """Where each column stands in a vector."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return [slice(end - column.width, end) for column, end in zip(self.columns, ends, strict=True)]

    def inputs(self, table: pa.Table, roles: Roles) -> Tensor:
        """(rows, width) float32.

        Raises:
            DataError: a column is not there, or a value is no number or infinite.

        Warns:
            DataWarning: categories that no training row has, or missing numbers of which training rows lack none.
        """
        if lacking := [column.name for column in self.columns if column.name not in table.column_names]:
            raise DataError(f"there is no column {few(lacking)}, which the training rows have")
        found = torch.zeros(len(table), self.width)
        unknown = [Counter[str]() for _ in self.columns]
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = table.slice(start, ROWS_AT_ONCE)
            for (column, place), counts in zip(self._placed(), unknown, strict=True):
                part = found[start : start + len(rows), place].numpy()
                counts.update(column.write(rows[column.name], part, partial(place_of, rows)))
            let_go()
        for column, counts in zip(self.columns, unknown, strict=True):
            if counts:
                warnings.warn(column.about_unknown(counts), DataWarning, stacklevel=2)
        return found

    def rows(self, inputs: Tensor) -> dict[str, Any]:
        """The columns that vectors were made of, by name: numbers (NaN where missing) and texts.

        A text is None where it is missing, is rare, or is none of those that training rows have.

        Args:
            inputs: (rows, width).

        Example:
            >>> from instar.data.kinds.table_columns import Category
            >>> preparation = TablePreparation([Number("age", 30.0, 10.0), Category("port", ("C", "S"))])
            >>> preparation.rows(torch.tensor([[-1.0, 0.0, 1.0]]))
            {'age': array([20.]), 'port': array(['S'], dtype=object)}
        """
        values = inputs.double().cpu().numpy()
        return {column.name: column.read(values[:, place]) for column, place in self._placed()}

    def _placed(self) -> Iterator[tuple[Column, slice]]:
        return zip(self.columns, self.places, strict=True)

    def record(self) -> dict[str, Any]:
        """Itself as JSON: means, standard deviations, categories."""
        columns = [dict(vars(column)) for column in self.columns]
        for one in columns:
            if not one.get("is_boolean", True):
                del one["is_boolean"]  # what is not there is false: older preparations have none
        return {"kind": self.kind, "columns": columns, "left_out": list(self.left_out)}

    def in_words(self) -> str:
        """`9 numbers, 3 categories (2 with missing values): 30 numbers a row`."""
        numbers = [column for column in self.columns if isinstance(column, Number)]
        missing = sum(column.missing for column in self.columns)
        counts = (
            (len(numbers), "number", "numbers"),
            (len(self.columns) - len(numbers), "category", "categories"),
        )
        parts = [f"{count} {one if count == 1 else several}" for count, one, several in counts if count]
        said = ", ".join(parts) + (f" ({missing} with missing values)" if missing else "")
        left_out = f"; left out: {few(self.left_out)}" if self.left_out else ""
        return f"{said}: {self.width} numbers a row{left_out}"


def fit(records: Records, options: KindOptions) -> TablePreparation:
    """The preparation of the training rows.

    Raises:
        UsageError: `categories` names what is no feature.
        DataError: a column holds what is neither number nor text, no column is left, or a number is infinite.

    Warns:
        DataWarning: columns that are left out: with one value, or with texts that are nearly all different.
    """
    table = records.parts["train"]
    for name in options.categories:
        if name not in records.roles.features:
            raise UsageError(f"categories: {unknown_name('feature', name, records.roles.features)}")
    columns: list[Column] = []
    left_out = []
    fitted = fit_columns(table, records.roles.features, options.categories)
    for name, column in zip(records.roles.features, fitted, strict=True):
        if isinstance(column, str):
            left_out.append(name)
            warnings.warn(f"column {name!r} is left out: {column}", DataWarning, stacklevel=2)
        else:
            columns.append(column)
    if not columns:
        raise DataError(f"no column is left of {few(left_out)}; each row would be the same")
    return TablePreparation(columns, left_out)


def read(record: Mapping[str, Any]) -> TablePreparation:
    """What `record` wrote."""
    return TablePreparation([read_column(one) for one in record["columns"]], record["left_out"])
