"""Class numbers from a column of labels: texts, whole numbers, categories, or distributions over the classes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data.checks import ABOUT_1
from instar.data.identity import order_of_copies
from instar.data.records.places import columns_of_user, place_of
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.naming import few, unknown_name

_AS_TEST = {"train": "train", "test": "validation"}


class Labels(NamedTuple):
    """The labels of all parts."""

    class_names: tuple[str, ...]
    numbers: dict[str, Tensor]
    """(n,) int64 of each part, -1 for none"""
    notes: tuple[str, ...] = ()
    """what was decided, a sentence each"""
    probs: Mapping[str, Tensor] | None = None
    """(n, classes) of each part, where the column holds distributions"""

    def order(self, part: str) -> Tensor:
        """(n,) int64: the order in which copies of one row are told apart, which is not that of the rows."""
        return order_of_copies(self.numbers[part], None if self.probs is None else self.probs[part])

    def as_test(self) -> "Labels":
        """With the validation labels in the place of those of the test."""
        numbers = {part: self.numbers[old] for part, old in _AS_TEST.items()}
        probs = None if self.probs is None else {part: self.probs[old] for part, old in _AS_TEST.items()}
        return self._replace(numbers=numbers, probs=probs)


def labels_of(tables: Mapping[str, pa.Table], column: str, names: Sequence[str] = ()) -> Labels:
    """Read the labels of all parts; the training part says which classes there are.

    Categories keep their own order, numbers are in ascending order, and texts in that of the alphabet. Nothing
    (null, an empty text, -1 among whole numbers) is no label.

    Args:
        tables: by part, the first is that which knows all classes.
        column: of the labels.
        names: of the classes, where labels are distributions; by default their numbers.

    Raises:
        DataError: fractions, distributions that do not sum to 1, or a class that the first part lacks.
    """
    kinds = {part: table.schema.field(column).type for part, table in tables.items()}
    if any(is_list(kind) for kind in kinds.values()):
        return _distributions(tables, column, names)
    if all(pa.types.is_dictionary(kind) for kind in kinds.values()):
        return _named(tables, column, _categories(tables, column), ())
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds.values()):
        return _counted(tables, column)
    texts = {part: table.set_column(*_as_texts(table, column)) for part, table in tables.items()}
    first = next(iter(texts.values()))
    names = sorted(one for one in pc.unique(first[column]).to_pylist() if one)
    return _named(texts, column, tuple(names), _alike(names))


def _alike(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence about classes that may be one, mistyped.

    Example:
        >>> _alike(["No", "Yes", "yes "])
        ("the classes 'Yes', 'yes ' differ in spaces or capitals alone",)
    """
    written: dict[str, list[str]] = {}
    for name in names:
        written.setdefault(" ".join(name.split()).casefold(), []).append(name)
    alike = [few(several) for several in written.values() if len(several) > 1]
    return tuple(f"the classes {one} differ in spaces or capitals alone" for one in alike[:3])


def is_list(kind: pa.DataType) -> bool:
    """Whether cells are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _as_texts(table: pa.Table, column: str) -> tuple[int, str, pa.ChunkedArray]:
    place = table.column_names.index(column)
    values = table[column]
    try:
        return place, column, values.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"{place_of(table, 0)}: {column!r} holds {values.type}, expected a class: a text, a whole number or a "
            "distribution"
        ) from error


def _categories(tables: Mapping[str, pa.Table], column: str) -> tuple[str, ...]:
    """The categories of all parts: those of the first in its order."""
    names: dict[str, None] = {}
    for table in tables.values():
        for chunk in table[column].unify_dictionaries().chunks[:1]:
            names |= dict.fromkeys(str(name) for name in chunk.dictionary.to_pylist())
    return tuple(name for name in names if name)


def _counted(tables: Mapping[str, pa.Table], column: str) -> Labels:
    """Whole numbers: the class names are the numbers."""
    whole: dict[str, pa.Table] = {}
    for part, table in tables.items():
        values = table[column]
        if pa.types.is_floating(values.type):
            plain = pc.fill_null(pc.if_else(pc.is_nan(values), None, values), float(NO_LABEL))
            fractions = np.flatnonzero(plain.to_numpy() % 1)
            if len(fractions):
                row = int(fractions[0])
                raise DataError(
                    f"{place_of(table, row)}: {column!r} is {values[row].as_py()!r}, expected a class: "
                    "fractions are something to be measured, not classes"
                )
            values = plain
        place = table.column_names.index(column)
        whole[part] = table.set_column(place, column, pc.fill_null(values.cast(pa.int64()), NO_LABEL))
    found = sorted(pc.unique(next(iter(whole.values()))[column]).to_pylist())
    notes: tuple[str, ...] = ()
    if found == [NO_LABEL, 1]:
        notes = (f"{column}: -1 and 1 are the two classes",)
    else:
        found = [number for number in found if number != NO_LABEL]
    return _named(whole, column, tuple(map(str, found)), notes)


def _named(tables: Mapping[str, pa.Table], column: str, names: tuple[str, ...], notes: tuple[str, ...]) -> Labels:
    """The numbers of labels that are names, once they are texts."""
    numbers = {}
    for part, table in tables.items():
        values = table[column].combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        texts = values.cast(pa.string())
        places = pc.index_in(texts, value_set=pa.array(names, pa.string()))
        found = pc.fill_null(places, NO_LABEL).to_numpy(zero_copy_only=False).astype(np.int64)
        is_none = pc.fill_null(pc.equal(texts, ""), True).to_numpy(zero_copy_only=False)
        if pa.types.is_integer(values.type) and str(NO_LABEL) not in names:
            is_none |= pc.equal(texts, str(NO_LABEL)).to_numpy(zero_copy_only=False)
        unknown = np.flatnonzero((found == NO_LABEL) & ~is_none)
        if len(unknown):
            row = int(unknown[0])
            raise DataError(
                f"{place_of(table, row)}: class {texts[row].as_py()!r} of {column!r} is not one of the training "
                f"classes {few(names)}"
            )
        numbers[part] = torch.from_numpy(found)
    if len(names) < 2:
        table = next(iter(tables.values()))
        raise DataError(
            f"{place_of(table, 0)}: expected two or more classes in {column!r}, found {few(names) or 0}"
        )
    return Labels(names, numbers, notes)


def _distributions(tables: Mapping[str, pa.Table], column: str, class_names: Sequence[str]) -> Labels:
    """One-hot labels and distributions: the class is the most probable one, of several the first; 0 are none."""
    numbers, probs = {}, {}
    width = num_ties = 0
    for part, table in tables.items():
        kind = table.schema.field(column).type
        if not is_list(kind):
            raise DataError(f"{place_of(table, 0)}: {column!r} holds {kind}, elsewhere lists")
        if not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
            raise DataError(
                f"{place_of(table, 0)}: {column!r} holds lists of {kind.value_type}, expected probabilities"
            )
        width = width or pc.max(pc.list_value_length(table[column])).as_py() or 0
        values = _probs(table, column, width)
        is_none = values.sum(1) == 0
        largest = values == values.max(1, initial=0.0, keepdims=True)
        num_ties += int(((largest.sum(1) > 1) & ~is_none).sum())
        numbers[part] = torch.from_numpy(np.where(is_none, NO_LABEL, values.argmax(1)))
        probs[part] = torch.from_numpy(values).float()
    names = tuple(class_names) or tuple(str(number) for number in range(width))
    if not any(bool(((one > 0) & (one < 1)).any()) for one in probs.values()):
        return Labels(names, numbers)
    ties = f" (of {num_ties:,} rows with several the first)" if num_ties else ""
    notes = (f"{column} holds probabilities: they are learned, and scored by the likeliest class{ties}",)
    return Labels(names, numbers, notes, probs)


def _probs(table: pa.Table, column: str, width: int) -> NDArray[np.float64]:
    """(rows, width), 0 where a row has none."""
    found = np.zeros((len(table), width))
    lengths = pc.fill_null(pc.list_value_length(table[column]), -1).to_numpy()
    is_there = lengths >= 0
    if (wrong := is_there & (lengths != width)).any() or not width:
        raise _no_probs(table, column, int(wrong.argmax()), width)
    flat = pc.list_flatten(table[column]).cast(pa.float64()).to_numpy()  # a missing number is NaN
    found[is_there] = flat.reshape(-1, width)
    sums = found.sum(1)
    is_right = (found >= 0).all(1) & ((np.abs(sums - 1) <= ABOUT_1) | (sums == 0))
    if not is_right.all():
        raise _no_probs(table, column, int(is_right.argmin()), width)
    return found


def _no_probs(table: pa.Table, column: str, row: int, width: int) -> DataError:
    return DataError(
        f"{place_of(table, row)}: {column!r} is {str(table[column][row].as_py())[:60]}, expected {width} "
        "probabilities that sum to 1, or zeros for no label"
    )


def joined_labels(
    tables: Mapping[str, pa.Table], label: str | None
) -> tuple[dict[str, pa.Table], tuple[str, ...]]:
    """Tables in which several columns of probabilities, `ant,bee,wasp`, are one of that name; and their names.

    A row that has none of them has no label.

    Raises:
        DataError: a cell that is no number, or is missing beside others; names the row.

    Example:
        >>> tables, names = joined_labels({"train": pa.table({"a": [0.25, 1.0], "b": [0.75, 0.0]})}, "a,b")
        >>> tables["train"]["a,b"].to_pylist(), names
        ([[0.25, 0.75], [1.0, 0.0]], ('a', 'b'))
    """
    names = tuple(one.strip() for one in (label or "").split(","))
    first = next(iter(tables.values()))
    if label is None or label in first.column_names or len(names) < 2:
        return dict(tables), ()
    if len(set(names)) < len(names):
        raise UsageError(f"--label {label}: one column is named twice")
    for name in names:
        if name not in first.column_names:
            raise UsageError(unknown_name("column", name, columns_of_user(first)))
    return {part: _with_list(table, label, names) for part, table in tables.items()}, names


def _with_list(table: pa.Table, label: str, names: Sequence[str]) -> pa.Table:
    columns = []
    for name in names:
        kind = table.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise DataError(f"{place_of(table, 0)}: {name!r} holds {kind}, expected a probability in each column")
        columns.append(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))
    values = np.stack(columns, axis=1)
    is_none = np.isnan(values).all(1)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), len(names), mask=pa.array(is_none))
    return table.drop_columns(list(names)).append_column(label, lists)
