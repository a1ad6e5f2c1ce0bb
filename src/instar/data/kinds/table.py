"""Tables: numbers standardised by the training rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from instar.data.kinds import KindOptions
from instar.data.records.places import place_of
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.errors import DataError
from instar.structures import Inputs


class TablePreparation:
    """Each column less its mean, divided by its standard deviation."""

    kind = "table"

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = list(mean), list(std)

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, columns) float32."""
        values = numbers_of(table, roles)
        return torch.from_numpy((values - np.array(self.mean)) / np.array(self.std)).float()

    def record(self) -> dict[str, Any]:
        """Itself as JSON."""
        return {"kind": self.kind, "mean": self.mean, "std": self.std}

    def in_words(self) -> str:
        """What it does."""
        return f"{len(self.mean)} numbers, standardised"


def fit(records: Records, options: KindOptions) -> TablePreparation:
    """Mean and standard deviation of each column."""
    values = numbers_of(records.parts["train"], records.roles)
    std = values.std(0)
    return TablePreparation(values.mean(0).tolist(), np.where(std > 0, std, 1).tolist())


def read(record: Mapping[str, Any]) -> TablePreparation:
    """What `record` wrote."""
    return TablePreparation(record["mean"], record["std"])


def numbers_of(table: pa.Table, roles: Roles) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """(rows, columns) of the features."""
    columns = []
    for name in roles.features:
        try:
            values = table[name].cast(pa.float64()).to_numpy()
        except pa.ArrowException as error:
            raise DataError(
                f"{place_of(table, 0)}: {name!r} holds {table[name].type}, expected numbers"
            ) from error
        broken = np.flatnonzero(~np.isfinite(values))
        if len(broken):
            raise DataError(f"{place_of(table, int(broken[0]))}: {name!r} has no value")
        columns.append(values)
    return np.stack(columns, axis=1)
