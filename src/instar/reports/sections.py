"""The sections of a page: frozen records of numbers and texts, checked at their creation.

Sections are independent of HTML, of the terminal and of the meaning of their numbers. A number that is None or not
finite is missing: a table shows an en dash, a chart no point.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instar.errors import UsageError
from instar.reports.records import Row, chart_records, printable, words_of
from instar.reports.sounds import Audio


@dataclass(frozen=True)
class Headline:
    """The main result in one sentence, in large type; `detail` gives its interval and n.

    Example:
        >>> Headline("31 fewer errors.", "95 % interval 27 to 35, 5 seeds").sentence
        '31 fewer errors.'
    """

    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class Text:
    """Paragraphs, under a heading where `title` is given."""

    paragraphs: str | Sequence[str]
    title: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `format` is a format string: `{}` is the row's `key`, `{other}` any field of the row, so an interval is
    `{mean:.1f} [{low:.1f}, {high:.1f}]`; `{:si}B` writes 9580840 as 9.58 MB. `note` is shown under the table and
    explains the column and its unit.
    """

    key: str
    heading: str = ""
    format: str = "{}"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of rows; without `columns`, it has a column for each field of the rows.

    `labels` are the columns that say what a row is of, by default the first: where a table is printed in parts,
    each has them.

    Example:
        >>> Table("Errors", [{"network": "teacher", "errors": 67}]).columns[1].key
        'errors'

    Raises:
        UsageError: there are no rows, no row has the field of a column, or the highlighted row does not exist.
    """

    title: str
    rows: Sequence[Row]
    _: KW_ONLY
    columns: Sequence[Column] = ()
    highlight: int | None = None
    caption: str = ""
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise UsageError(f"table {self.title!r} has no rows")
        known = list(dict.fromkeys(key for row in self.rows for key in row))
        for column in self.columns:
            if column.key not in known:
                raise UsageError(f"table {self.title!r}: no row has {column.key!r}; they have {', '.join(known)}")
        if not self.columns:
            object.__setattr__(self, "columns", tuple(Column(key) for key in known))
        if self.highlight is not None and not 0 <= self.highlight < len(self.rows):
            raise UsageError(
                f"table {self.title!r} has {len(self.rows)} rows, none to highlight at {self.highlight}"
            )


@dataclass(frozen=True)
class Lines:
    """A chart of `y` against `x`, with a line for each value of the field `series`.

    `low` and `high` name the fields of an interval: a band, or error bars where `points` are drawn. `diagonal`
    adds the line y = x, as in a reliability diagram. `singles` are rows with the same fields, drawn as small
    points: the values behind the means. `dodge` is the distance, in units of x, between points of two series at
    the same x, so that none hides another.

    Example:
        >>> Lines("Loss", [{"epoch": 1, "loss": 2.3}], x="epoch", y="loss").records
        [{'x': 1.0, 'y': 2.3, 'series': ''}]

    Raises:
        UsageError: there is no point, a field is missing or not a number, or a logarithmic axis has a number <= 0.
    """

    title: str
    rows: Sequence[Row]
    _: KW_ONLY
    x: str
    y: str
    series: str | None = None
    low: str | None = None
    high: str | None = None
    x_title: str = ""
    y_title: str = ""
    caption: str = ""
    points: bool = False
    singles: Sequence[Row] = ()
    dodge: float = 0.0
    diagonal: bool = False
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        _check_interval(self.title, self.low, self.high)
        _name_fields(self, x_title=self.x, y_title=self.y)
        records = self.records
        for axis, is_log in (("x", self.log_x), ("y", self.log_y)):
            worst = min(record[axis] for record in records)
            if is_log and worst <= 0:
                raise UsageError(
                    f"chart {self.title!r}: a logarithmic {axis} axis takes positive numbers, not {worst:g}"
                )

    @cached_property
    def has_markers(self) -> bool:
        """Whether points are drawn: where `points` is set, and where a line has only one point."""
        num_points = Counter(record["series"] for record in self.records)
        return self.points or 1 in num_points.values()

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows with `x`, `y`, `series` (and `low`, `high`), without rows that lack x or y."""
        return chart_records(
            self.title,
            self.rows,
            needed={"x": self.x, "y": self.y},
            optional={"low": self.low, "high": self.high},
            words={"series": self.series},
        )

    @cached_property
    def single_records(self) -> list[dict[str, Any]]:
        """The single points with `x`, `y` and `series`."""
        if not self.singles:
            return []
        needed, words = {"x": self.x, "y": self.y}, {"series": self.series}
        return chart_records(self.title, self.singles, needed=needed, optional={}, words=words)


@dataclass(frozen=True)
class Bars:
    """Horizontal bars of `value`: a group for each `category`, with a bar for each value of the field `series`.

    `stacked` joins the bars of a group end to end; negative values go to the left. At most `limit` categories are
    drawn; the caption then gives their number.

    Example:
        >>> Bars("Errors", [{"digit": 7, "errors": 12}], category="digit", value="errors").records
        [{'value': 12.0, 'category': '7', 'series': ''}]

    Raises:
        UsageError: there is no bar, or a field is missing or not a number.
    """

    title: str
    rows: Sequence[Row]
    _: KW_ONLY
    category: str
    value: str
    series: str | None = None
    low: str | None = None
    high: str | None = None
    category_title: str = ""
    value_title: str = ""
    caption: str = ""
    limit: int = 20
    stacked: bool = False

    def __post_init__(self) -> None:
        _check_interval(self.title, self.low, self.high)
        _name_fields(self, category_title=self.category, value_title=self.value)
        _ = self.records  # reports a wrong field now, not when the page is rendered

    @cached_property
    def categories(self) -> list[str]:
        """All groups in the order of the rows, those beyond `limit` included."""
        return list(dict.fromkeys(record["category"] for record in self.records))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows with `category`, `value`, `series` (and `low`, `high`), without rows that lack a value."""
        return chart_records(
            self.title,
            self.rows,
            needed={"value": self.value},
            optional={"low": self.low, "high": self.high},
            words={"category": self.category, "series": self.series},
        )


@dataclass(frozen=True)
class Share:
    """A bar beside an image: a name and a number from 0 to 1."""

    name: str
    value: float
    highlight: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise UsageError(f"share {self.name!r} should be from 0 to 1, not {self.value}")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, uint8 (height, width) or (height, width, 3), with its caption and bars.

    Raises:
        UsageError: the pixels have another type or shape.
    """

    pixels: NDArray[np.uint8]
    caption: str = ""
    shares: Sequence[Share] = ()

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.pixels), np.asarray(self.pixels).dtype
        if dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise UsageError(
                f"picture {self.caption!r} should be uint8 of (height, width) or (height, width, 3), "
                f"not {dtype} of {shape}"
            )


@dataclass(frozen=True)
class Images:
    """A grid of images; `wide` shows few of them, in a large size."""

    title: str
    items: Sequence[Picture]
    _: KW_ONLY
    caption: str = ""
    wide: bool = False

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError(f"images {self.title!r} has no pictures")


Look = Literal["solid", "light", "empty"]


@dataclass(frozen=True)
class Box:
    """A box: its group determines the colour, its look the filling; `words` describe it."""

    words: str
    group: str
    look: Look


@dataclass(frozen=True)
class BoxRow:
    """Boxes from left to right, in the order in which data passes them, between a name and an explanation."""

    name: str
    boxes: Sequence[Box]
    words: str = ""


@dataclass(frozen=True)
class Boxes:
    """Rows of boxes, coloured by group: networks and their layers.

    `looks` explains solid (with a lock), light and empty boxes, `groups` the colours.

    Example:
        >>> row = BoxRow("A1B", [Box("layer 1", "A", "solid"), Box("layer 2", "B", "empty")])
        >>> list(Boxes("Treatments", [row], looks={"solid": "frozen"}).groups)
        ['A', 'B']

    Raises:
        UsageError: there are no boxes.
    """

    title: str
    rows: Sequence[BoxRow]
    _: KW_ONLY
    looks: Mapping[Look, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""

    def __post_init__(self) -> None:
        if not any(row.boxes for row in self.rows):
            raise UsageError(f"boxes {self.title!r} has no boxes")
        found = dict.fromkeys(box.group for row in self.rows for box in row.boxes)
        object.__setattr__(self, "groups", {name: self.groups.get(name, name) for name in found})


@dataclass(frozen=True)
class Code:
    """Commands or a configuration."""

    title: str
    text: str


@dataclass(frozen=True)
class Details:
    """Sections that are folded under a title."""

    title: str
    sections: Sequence["Section"]


Section = Headline | Text | Table | Lines | Bars | Boxes | Images | Audio | Code | Details


def series_names(sections: Iterable[Section]) -> list[str]:
    """The names of all series in the charts, in the order of the page."""
    names: dict[str, None] = {}
    for section in sections:
        if isinstance(section, Lines | Bars):
            names.update(dict.fromkeys(record["series"] for record in section.records))
        elif isinstance(section, Details):
            names.update(dict.fromkeys(series_names(section.sections)))
    return list(names)


def _check_interval(title: str, low: str | None, high: str | None) -> None:
    if (low is None) != (high is None):
        raise UsageError(f"chart {title!r}: an interval needs both low and high, found low={low!r}, high={high!r}")


def _name_fields(chart: Lines | Bars, **titles: str) -> None:
    """Name axes without a title after their field."""
    for title, key in titles.items():
        object.__setattr__(chart, title, printable(getattr(chart, title) or words_of(key)))
