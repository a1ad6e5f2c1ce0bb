"""What a page is made of: frozen sections of plain numbers and words, checked when they are made.

A section knows nothing of HTML, of the terminal or of what its numbers mean. A number that is None or not finite
is missing: an en dash in a table, no point in a chart.
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
    """The answer in one sentence, shown big; `detail` is how sure and over how many.

    Example:
        >>> Headline("31 fewer errors.", "95 % interval 27 to 35, 5 seeds").sentence
        '31 fewer errors.'
    """

    sentence: str
    detail: str = ""


@dataclass(frozen=True)
class Text:
    """Paragraphs, with a heading when `title` is given."""

    paragraphs: str | Sequence[str]
    title: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `format` is a format string: `{}` is the row's `key`, `{other}` any field of the row, so an interval is
    `{mean:.1f} [{low:.1f}, {high:.1f}]`; `{:si}B` writes 9580840 as 9.58 MB. `note` says under the table what the
    column is and its unit.
    """

    key: str
    heading: str = ""
    format: str = "{}"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns; all fields of the rows, in their order, where no `columns` are given.

    Example:
        >>> Table("Errors", [{"network": "teacher", "errors": 67}]).columns[1].key
        'errors'

    Raises:
        UsageError: no rows, a column that no row has, or a highlighted row that is not there.
    """

    title: str
    rows: Sequence[Row]
    _: KW_ONLY
    columns: Sequence[Column] = ()
    highlight: int | None = None
    caption: str = ""

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
    """`y` against `x`, a line for each value of the field `series`.

    `low` and `high` name the fields of an interval: a band, or error bars where `points` are drawn. `diagonal`
    adds the line y = x, as a reliability diagram has it. `singles` are rows of the same fields that stand as small
    points beside the lines: what the means are of. `dodge` is how far apart, in units of x, the points of two
    series at the same x stand, so that none hides another.

    Example:
        >>> Lines("Loss", [{"epoch": 1, "loss": 2.3}], x="epoch", y="loss").records
        [{'x': 1.0, 'y': 2.3, 'series': ''}]

    Raises:
        UsageError: no point is left, a field is not there or no number, or a logarithmic axis gets a number <= 0.
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
        """Whether points are drawn: where asked for, and where a line of one point could not be seen."""
        num_points = Counter(record["series"] for record in self.records)
        return self.points or 1 in num_points.values()

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows as `x`, `y`, `series` (and `low`, `high`); rows without x or y are left out."""
        return chart_records(
            self.title,
            self.rows,
            needed={"x": self.x, "y": self.y},
            optional={"low": self.low, "high": self.high},
            words={"series": self.series},
        )

    @cached_property
    def single_records(self) -> list[dict[str, Any]]:
        """The single points as `x`, `y` and `series`."""
        if not self.singles:
            return []
        needed, words = {"x": self.x, "y": self.y}, {"series": self.series}
        return chart_records(self.title, self.singles, needed=needed, optional={}, words=words)


@dataclass(frozen=True)
class Bars:
    """Horizontal bars of `value`: a group for each `category`, a bar in it for each value of the field `series`.

    `stacked` puts the bars of a group into one, end to end; those below zero go to the left. More than `limit`
    categories are not drawn; the caption then says how many there are.

    Example:
        >>> Bars("Errors", [{"digit": 7, "errors": 12}], category="digit", value="errors").records
        [{'value': 12.0, 'category': '7', 'series': ''}]

    Raises:
        UsageError: no bar is left, or a field is not there or no number.
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
        _ = self.records  # read now: a wrong field speaks here, not when the page is made

    @cached_property
    def categories(self) -> list[str]:
        """The groups in the order of the rows, those beyond `limit` too."""
        return list(dict.fromkeys(record["category"] for record in self.records))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows as `category`, `value`, `series` (and `low`, `high`); rows without a value are left out."""
        return chart_records(
            self.title,
            self.rows,
            needed={"value": self.value},
            optional={"low": self.low, "high": self.high},
            words={"category": self.category, "series": self.series},
        )


@dataclass(frozen=True)
class Share:
    """One bar beside a picture: a name and a number from 0 to 1."""

    name: str
    value: float
    highlight: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise UsageError(f"share {self.name!r} should be from 0 to 1, not {self.value}")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, uint8 (height, width) or (height, width, 3), with its caption and bars.

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
    """A grid of pictures; `wide` ones are few and large."""

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
    """One box of a row: its group gives the colour, its look says what became of it, `words` say both."""

    words: str
    group: str
    look: Look


@dataclass(frozen=True)
class BoxRow:
    """Boxes from left to right, as the data pass through them, with a name before and an explanation behind."""

    name: str
    boxes: Sequence[Box]
    words: str = ""


@dataclass(frozen=True)
class Boxes:
    """Rows of boxes, coloured by group: networks and their layers.

    `looks` says what solid (with a lock), light and empty boxes mean, and `groups` what the colours do.

    Example:
        >>> row = BoxRow("A1B", [Box("layer 1", "A", "solid"), Box("layer 2", "B", "empty")])
        >>> list(Boxes("Treatments", [row], looks={"solid": "frozen"}).groups)
        ['A', 'B']

    Raises:
        UsageError: no boxes.
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
    """Commands or a configuration, as they are typed."""

    title: str
    text: str


@dataclass(frozen=True)
class Details:
    """Sections folded away under a title."""

    title: str
    sections: Sequence["Section"]


Section = Headline | Text | Table | Lines | Bars | Boxes | Images | Audio | Code | Details


def series_names(sections: Iterable[Section]) -> list[str]:
    """The names of all series in the charts, in the order in which a reader meets them."""
    names: dict[str, None] = {}
    for section in sections:
        if isinstance(section, Lines | Bars):
            names.update(dict.fromkeys(record["series"] for record in section.records))
        elif isinstance(section, Details):
            names.update(dict.fromkeys(series_names(section.sections)))
    return list(names)


def _check_interval(title: str, low: str | None, high: str | None) -> None:
    if (low is None) != (high is None):
        raise UsageError(f"chart {title!r}: an interval has both low and high, got low={low!r}, high={high!r}")


def _name_fields(chart: Lines | Bars, **titles: str) -> None:
    """Axes without a title of their own get their field's name in words."""
    for title, key in titles.items():
        object.__setattr__(chart, title, printable(getattr(chart, title) or words_of(key)))
