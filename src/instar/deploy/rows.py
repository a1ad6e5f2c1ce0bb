"""The rows that a network takes: what prepares them is kept beside its weights, and makes inputs of rows."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from instar.data import InMemoryDataset, Splits
from instar.data.kinds import Preparation, kind_of, read_preparation
from instar.data.records.roles import Roles
from instar.errors import RunError, UsageError, first_line
from instar.files import write_bytes
from instar.naming import described, few
from instar.structures import Inputs

if TYPE_CHECKING:
    import pyarrow as pa

PREPARATION = "preparation.json"
"""The file beside the weights."""

_VERSION = 1


class Rows(NamedTuple):
    """Which columns a network takes, and what they go through."""

    roles: Roles
    preparation: Preparation

    @classmethod
    def of(cls, splits: Splits) -> "Rows | None":
        """Those of data that are rows of a table; None of other data."""
        if splits.preparation is None or splits.roles is None:
            return None
        return cls(splits.roles, splits.preparation)

    @property
    def content(self) -> bytes:
        """The content of the file."""
        about = {
            "format": "instar-preparation",
            "version": _VERSION,
            "roles": self.roles.record(),
            "preparation": self.preparation.record(),
        }
        return json.dumps(about, ensure_ascii=False, sort_keys=True, allow_nan=False).encode() + b"\n"

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, by which a run knows it."""
        return hashlib.sha256(self.content).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_bytes(folder / PREPARATION, self.content)

    @classmethod
    def read(cls, folder: Path, checksum: str) -> "Rows":
        """Read the file in a folder.

        Raises:
            RunError: it is missing, changed, or was written by a newer instar.
        """
        file = folder / PREPARATION
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != checksum:
                raise ValueError("its checksum is another one")
            about = json.loads(content)
            if about["version"] > _VERSION:
                raise RunError(
                    f"{file} has format version {about['version']}, this instar reads {_VERSION}: update it"
                )
            return cls(Roles.read(about["roles"]), read_preparation(about["preparation"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunError(
                f"{file} is damaged ({first_line(error)}): train or export the network again"
            ) from error

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have."""
        return self.roles.inputs

    def inputs(self, table: "pa.Table") -> Inputs:
        """What the network sees of the rows of a table.

        Raises:
            DataError: a row that cannot be used.
        """
        return self.preparation.inputs(table, self.roles)

    def give_sources(self, data: InMemoryDataset, table: "pa.Table") -> None:
        """Give examples the texts or sounds that they were made of, for a network that takes these itself."""
        from instar.data.prepared import with_sources

        with_sources(data, table, self.roles)

    def takes(self, examples: Any) -> bool:
        """Whether examples are rows, not what `inputs` made of some: tensors, and pictures one by one."""
        from instar.data.records.frames import is_rows

        first = next(iter(examples), None) if isinstance(examples, list | tuple) else examples
        if isinstance(first, Mapping):
            return not any(isinstance(one, Tensor) for one in first.values())
        if isinstance(examples, Tensor) or isinstance(first, Tensor):
            return False
        if isinstance(examples, list | tuple) and not examples:
            return False
        return is_rows(examples) or kind_of(self.roles) in ("text", "table", "sound")

    def table(self, examples: Any) -> "tuple[pa.Table, bool]":
        """The rows that a user gives as a table, and whether it is a single one.

        Args:
            examples: a frame or a table; a mapping of columns, or of single values; a list of such rows; for texts
                a text or several, for pairs tuples of two; for numbers a list or an array in the order of the
                columns.

        Raises:
            UsageError: none of these, or a column is missing.

        Example:
            >>> from instar import load_data
            >>> ages = {"age": [10, 20, 30, 40, 50, 60], "old": ["no", "no", "no", "yes", "yes", "yes"]}
            >>> rows = Rows.of(load_data(ages, label="old", features="age"))
            >>> rows.table({"age": 35})[0].num_rows, rows.table([[35], [45]])[0]["age"].to_pylist()
            (1, [35, 45])
        """
        from instar.data.records.frames import is_rows, table_of
        from instar.data.records.places import with_places

        is_one = False
        if isinstance(examples, Mapping) and not any(_is_column(one) for one in examples.values()):
            examples, is_one = [examples], True
        if not is_rows(examples):
            examples, is_one = self._named(examples)
        table = table_of(examples)
        return with_places([self.checked(table)], [""]), is_one

    def checked(self, table: "pa.Table") -> "pa.Table":
        """The columns of a table that the network takes, and the key of its rows where it has one.

        Raises:
            UsageError: one is missing.
        """
        from instar.data.records.places import PLACE, columns_of_user

        if missing := [name for name in self.columns if name not in table.column_names]:
            raise UsageError(
                f"the rows lack {few(missing)}; this network takes {few(self.columns, most=20)}, the rows have "
                f"{few(columns_of_user(table), most=20)}"
            )
        others = (one for one in (self.roles.key, PLACE) if one in table.column_names and one not in self.columns)
        return table.select([*self.columns, *others])

    def _named(self, examples: Any) -> tuple[dict[str, Any], bool]:
        """Examples without names of columns, as columns."""
        columns, is_text = self.columns, kind_of(self.roles) == "text"
        if isinstance(examples, np.ndarray):
            is_one, found = examples.ndim == 1, np.atleast_2d(examples).tolist()
        else:
            several = isinstance(examples, list | tuple)
            of_values = several and len(examples) > 0 and not isinstance(examples[0], list | tuple)
            is_one = not several or (of_values and len(columns) > 1)
            found = [examples] if is_one else list(examples)
        rows = [one if isinstance(one, list | tuple) else (one,) for one in found]
        for number, row in enumerate(rows):
            if len(row) != len(columns) or (is_text and not all(isinstance(one, str) for one in row)):
                raise UsageError(
                    f"row {number}: expected {few(columns, most=20)}, found {described(found[number])}; give rows "
                    "as mappings, or the values in this order"
                )
        return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)), is_one


def _is_column(value: Any) -> bool:
    """Whether a value of a mapping is a column, not a cell."""
    return hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)


def checksum_of(splits: Splits) -> str | None:
    """The checksum of what prepares the rows of data; None for data that are no rows."""
    rows = Rows.of(splits)
    return None if rows is None else rows.checksum


def keep_rows(folder: Path, splits: Splits) -> None:
    """Write what prepares the rows of data into the folder of a fit, where they are rows."""
    if (rows := Rows.of(splits)) is not None:
        rows.write(folder)
