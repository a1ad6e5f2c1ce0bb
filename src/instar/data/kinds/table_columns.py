"""One column of a table: what it is, fitted on the training rows, and how its values become numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from instar.data.records.cells import CODE, NOTHING
from instar.data.records.on_disk import let_go
from instar.data.records.places import place_of
from instar.errors import DataError
from instar.naming import few

MOST_VALUES = 256
"""Columns that one column of categories becomes at most; the rarer ones share one."""

ROWS_AT_ONCE = 1 << 16
"""Computed in double precision at once, so that millions of rows take little memory beside themselves."""

_COLUMNS_AT_ONCE = 32  # whose numbers are fitted together

_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_MOSTLY = 0.9  # of the texts of a column: where so many are numbers, the others are mistakes
_LONGEST = 40  # letters of a value on a page
_DAY = 86_400e6  # microseconds

Place = Callable[[int], str]
"""What a message calls a row."""


@dataclass(frozen=True)
class Number:
    """(x - mean) / sd; where it is missing 0, and 1 beside it if training rows lack it too."""

    name: str
    mean: float
    sd: float
    missing: bool = False
    is_date: bool = False
    """in days since 1970"""
    is_whole: bool = False
    """whether training rows have whole numbers alone"""
    is_boolean: bool = False
    """whether training rows have yes and no, which may come as texts later"""

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 + self.missing

    @property
    def example(self) -> Any:
        """A value as a row may have it: the mean of the training rows."""
        if self.is_boolean:
            return self.mean > 0.5
        if self.is_date:
            return self.in_words(self.mean)
        return round(self.mean) if self.is_whole else float(self.in_words(self.mean))

    def write(self, values: pa.ChunkedArray, out: NDArray[np.float32], place: Place) -> dict[str, int]:
        """Write values into (rows, width) of zeros; gives what training rows lack, and how often it is there."""
        if self.is_boolean and _is_text(values.type):
            values = _as_booleans(values)
        numbers = numbers_of(self.name, values, place, is_date=self.is_date)
        is_missing = np.isnan(numbers)
        standardised = numbers - self.mean
        standardised /= self.sd
        out[:, 0] = standardised
        if not (num_missing := int(is_missing.sum())):
            return {}
        out[is_missing, 0] = 0.0
        if self.missing:
            out[:, 1] = is_missing
        return {} if self.missing else {"": num_missing}

    def about_unknown(self, counts: Mapping[str, int]) -> str:
        """What a warning says of missing values."""
        return (
            f"column {self.name!r} has no value in {sum(counts.values()):,} rows and one in every training row: "
            f"the mean of these, {self.mean:.6g}, stands for it"
        )

    def read(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """What was written."""
        numbers: NDArray[Any] = values[:, 0] * self.sd + self.mean
        if self.is_whole:  # what single precision has lost
            numbers = np.rint(numbers)
        return np.where(values[:, 1] > 0, np.nan, numbers) if self.missing else numbers

    def in_words(self, value: float) -> str:
        """A number that was read, nearly as a file has it: six digits, a time to the hour.

        Example:
            >>> Number("age", 0.0, 1.0).in_words(38.0), Number("born", 0.0, 1.0, is_date=True).in_words(365.5)
            ('38', '1971-01-01T12')
        """
        if np.isnan(value):
            return "missing"
        if self.is_date:
            return str(np.datetime64(round(value * 24), "h").astype("M8[D]" if self.is_whole else "M8[h]"))
        if self.is_boolean:
            return "yes" if value > 0.5 else "no"
        if self.is_whole:
            return f"{value:.0f}"
        size = max(abs(self.mean), self.sd)  # single precision kept so much of it, also where the value is near 0
        return f"{round(value, 5 - math.floor(math.log10(size))):.6g}"


@dataclass(frozen=True)
class Category:
    """1 at the place of its value: one of `values`, a rare one, a missing one; 0 everywhere of another."""

    name: str
    values: tuple[str, ...]
    others: bool = False
    """whether training rows have rare values too, which share a place"""
    missing: bool = False
    """whether training rows lack it"""

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return len(self.values) + self.others + self.missing

    @property
    def example(self) -> str:
        """A value as a row may have it."""
        return self.values[0]

    def write(self, values: pa.ChunkedArray, out: NDArray[np.float32], place: Place) -> dict[str, int]:
        """Write values into (rows, width) of zeros; gives what training rows lack, and how often it is there."""
        if pa.types.is_boolean(values.type):  # in the spelling of the training rows, which had texts: `False`
            spelled = {one.lower(): one for one in self.values}
            names = (spelled.get(word, word) for word in ("true", "false"))
            values = pc.if_else(values, *(pa.scalar(name, pa.large_string()) for name in names))
        texts = texts_of(self.name, values)
        known = pa.array(self.values, pa.large_string())
        found = pc.index_in(texts, value_set=known, skip_nulls=True)
        is_missing, is_known = (one.to_numpy(zero_copy_only=False) for one in (texts.is_null(), found.is_valid()))
        codes = found.fill_null(len(self.values)).to_numpy(zero_copy_only=False)
        if self.missing:
            codes = np.where(is_missing, self.width - 1, codes)
            is_known = is_known | is_missing
        is_other = ~is_known & ~is_missing
        written = is_known | is_other if self.others else is_known
        out[np.flatnonzero(written), codes[written]] = 1
        if self.others or is_known.all():
            return {}
        lost = pc.value_counts(texts.filter(pa.array(~is_known)).fill_null(""))
        return {one["values"].as_py(): one["counts"].as_py() for one in lost}

    def about_unknown(self, counts: Mapping[str, int]) -> str:
        """What a warning says of values that no training row has."""
        names = [name or "no value" for name in counts]
        return (
            f"column {self.name!r}: no training row has {few(names)} of {sum(counts.values()):,} rows: they count "
            "as none of its categories"
        )

    def read(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """What was written; None where it was none of the values."""
        names = np.array([*self.values, *[None] * (self.others + self.missing + 1)], dtype=object)
        codes = np.where(values.max(1) > 0, values.argmax(1), self.width)
        return names[codes]

    def in_words(self, value: str | None) -> str:
        """A value that was read; of one that is missing, rare or unknown no more is known."""
        return "missing or rare" if value is None else shorten(value, _LONGEST, placeholder=" ...")


Column = Number | Category


def read_column(record: Mapping[str, Any]) -> Column:
    """A column from its JSON."""
    if "values" in record:
        return Category(**{**record, "values": tuple(record["values"])})
    return Number(**record)


def fit_columns(table: pa.Table, names: Sequence[str], categories: Sequence[str] = ()) -> list[Column | str]:
    """What columns are, by the training rows; or why one is left out, in words.

    Numbers, booleans and dates are numbers, and so are texts that all are, but for codes such as 02139. Other
    texts are categories: of more than 256 the rarer ones are one. Names, most of which differ, are left out.

    Args:
        table: the training rows.
        names: of the columns.
        categories: those whose numbers are categories.

    Raises:
        DataError: one holds something else, texts of which most are numbers, or infinity.
    """
    found: dict[str, Column | str] = {}
    for name in names:
        if (one := _fit_texts(table, name, is_category=name in categories)) is not None:
            found[name] = one
        let_go()
    numbers = [name for name in names if name not in found]
    for start in range(0, len(numbers), _COLUMNS_AT_ONCE):
        found |= _fit_numbers(table, numbers[start : start + _COLUMNS_AT_ONCE])
    return [found[name] for name in names]


def _fit_texts(table: pa.Table, name: str, *, is_category: bool) -> Category | str | None:
    """None where a column holds numbers."""
    values = table[name]
    if values.null_count == len(values):
        return "no row has a value"
    if not is_category and not _is_text(values.type) and not pa.types.is_dictionary(values.type):
        return None
    texts = texts_of(name, values)
    if texts.null_count == len(texts):
        return "no row has a value"
    if not is_category and not pa.types.is_dictionary(values.type) and _are_numbers(table, name, texts):
        return None
    return _fit_category(name, texts)


def _fit_numbers(table: pa.Table, names: Sequence[str]) -> dict[str, Number | str]:
    """Together, since scikit-learn's checks of an array take longer than its sums."""
    from sklearn import config_context
    from sklearn.preprocessing import StandardScaler

    scaler, kinds = StandardScaler(), [table.schema.field(name).type for name in names]
    num_missing, is_whole = np.zeros(len(names), dtype=np.int64), np.ones(len(names), dtype=np.bool_)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for start in range(0, len(table), ROWS_AT_ONCE):
        rows = table.slice(start, ROWS_AT_ONCE)
        values = np.empty((len(names), len(rows))).T  # a column lies in one piece, whose sum has the same bits
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            values[:, place] = numbers_of(name, rows[name], partial(place_of, rows), is_date=_is_date(kind))
        is_missing = np.isnan(values)
        num_missing += is_missing.sum(0)
        if not is_missing.all(0).any():
            with config_context(assume_finite=True, skip_parameter_validation=True):  # checked above; saves half
                scaler.partial_fit(values)
        elif len(names) > 1:  # of nothing there is no mean
            return {name: one for alone in names for name, one in _fit_numbers(table, [alone]).items()}
        low, high = np.fmin(low, np.fmin.reduce(values)), np.fmax(high, np.fmax.reduce(values))
        is_whole &= (is_missing | (np.rint(values) == values)).all(0)
        let_go()
    found: dict[str, Number | str] = {}
    for place, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if low[place] == high[place] and not num_missing[place]:
            found[name] = f"its value is {low[place]:g} in every training row"
            continue
        mean, sd, missing = float(scaler.mean_[place]), float(scaler.scale_[place]), bool(num_missing[place])
        is_boolean = bool(pa.types.is_boolean(kind))
        found[name] = Number(name, mean, sd, missing, _is_date(kind), bool(is_whole[place]), is_boolean)
    return found


def _fit_category(name: str, texts: pa.ChunkedArray) -> Category | str:
    counted = [(one["values"].as_py(), one["counts"].as_py()) for one in pc.value_counts(texts.drop_null())]
    missing, num_rows = texts.null_count > 0, len(texts) - texts.null_count
    if len(counted) == 1 and not missing:
        return f"its value is {counted[0][0]!r} in every training row"
    if len(counted) > max(MOST_VALUES, num_rows / 2):
        return f"{len(counted):,} different texts in {num_rows:,} training rows: names, or texts to be read"
    others = len(counted) > MOST_VALUES
    kept = sorted(counted, key=lambda one: (-one[1], one[0]))[: MOST_VALUES - 1 if others else None]
    return Category(name, tuple(sorted(value for value, _ in kept)), others, missing)


def _are_numbers(table: pa.Table, name: str, texts: pa.ChunkedArray) -> bool:
    present = _without_nothing(texts).drop_null()
    are = pc.match_substring_regex(present, _NUMBER)
    share = pc.mean(are).as_py() or 0.0
    if share < 1:
        if share >= _MOSTLY and pc.count_distinct(present).as_py() > MOST_VALUES:
            wrong = pc.invert(pc.match_substring_regex(_without_nothing(texts), _NUMBER))
            row = int(pc.index(wrong, True).as_py())
            found = texts[row].as_py()
            raise DataError(
                f"{place_of(table, row)}: column {name!r} has {found!r}, and numbers in {share:.1%} of the rows; "
                "correct it, or leave it empty where the number is missing"
            )
        return False
    return not pc.any(pc.match_substring_regex(present, CODE)).as_py()


def texts_of(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as texts; an empty one is missing.

    Raises:
        DataError: they are lists, bytes or the like.
    """
    values = _plain(name, values)
    texts = values.cast(pa.large_string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts)


def numbers_of(name: str, values: pa.ChunkedArray, place: Place, *, is_date: bool = False) -> NDArray[np.float64]:
    """Values as numbers in double precision, NaN where one is missing; dates in days since 1970.

    Raises:
        DataError: a text is no number or date, a number is infinite, or they are lists, bytes or the like.
    """
    values = _plain(name, values)
    kind = values.type
    numbers: NDArray[np.float64]
    try:
        if _is_text(kind):
            values = _without_nothing(texts_of(name, pc.utf8_trim_whitespace(values)))
        if is_date:
            days = values.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64())
            numbers = days.to_numpy(zero_copy_only=False) / _DAY
        elif pa.types.is_temporal(kind):
            numbers = _seconds(values)
        else:
            numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if not _is_text(kind):
            raise _no_value(name, kind) from error
        row, text = next(
            (row, text) for row, text in enumerate(values.to_pylist()) if not _can_be_read(text, is_date)
        )
        what = "date" if is_date else "number"
        raise DataError(f"{place(row)}: column {name!r} has {text!r}, expected a {what} as in training") from error
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.flatnonzero(infinite)[0])
        raise DataError(
            f"{place(row)}: column {name!r} is infinite; correct it, or leave it empty where it is missing"
        )
    return numbers


def _plain(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values without a dictionary of theirs."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_nested(values.type) or "binary" in str(values.type):
        raise _no_value(name, values.type)
    return values


def _as_booleans(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """`True` and `false` as 1 and 0; other texts as they are."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    for word, number in (("true", "1"), ("false", "0")):
        texts = pc.if_else(pc.fill_null(pc.equal(words, word), False), pa.scalar(number, texts.type), texts)
    return texts


def _without_nothing(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts without those that say that a number is missing."""
    is_nothing = pc.is_in(texts, value_set=pa.array(NOTHING, texts.type))
    return pc.if_else(is_nothing, pa.scalar(None, texts.type), texts)


def _seconds(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Times of the day and durations."""
    to = pa.duration("us") if pa.types.is_duration(values.type) else pa.time64("us")
    found: NDArray[np.float64] = values.cast(to).cast(pa.int64()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found / 1e6


def _can_be_read(text: str | None, is_date: bool) -> bool:
    try:
        pa.scalar(text, pa.large_string()).cast(pa.timestamp("us") if is_date else pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_date(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _no_value(name: str, kind: pa.DataType) -> DataError:
    return DataError(
        f"column {name!r} holds {kind}, and a table has numbers, texts and dates: leave it out of features"
    )
