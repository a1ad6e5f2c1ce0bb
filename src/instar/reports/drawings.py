"""Vega-Lite specifications of charts, made with Altair, and the looks of their series.

Colours are custom properties of the page's style sheet (`var(--ink)`), so that one drawing serves light and dark
screens and paper.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from instar.reports.sections import Bars, Lines

WIDTH, HEIGHT, SQUARE = 400, 250, 380  # about the width of a phone, where text of 12 pixels stays legible
MOST_POINTS = 300  # of a line; more cannot be seen at this width

_NUM_COLOURS = 6  # custom properties --series-0 to --series-5 of page.css
_DASHES = ((1, 0), (6, 3), (2, 2.5), (9, 3, 2, 3), (4, 2))
_SHAPES = (  # in a box from -1 to 1
    "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.1L1.1,.9H-1.1Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,1.1L1.1,-.9H-1.1Z",
)

Records = list[dict[str, Any]]

_CONFIG = {  # no frame, few ticks, quiet lines
    "font": "Helvetica Neue, Arial, Liberation Sans, sans-serif",
    "background": "transparent",
    "aria": False,
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "labelFontSize": 12,
        "labelLimit": 130,
        "titleColor": "var(--muted)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 6,
        "gridColor": "var(--rule)",
        "domainColor": "var(--axis)",
        "tickColor": "var(--axis)",
        "tickSize": 4,
    },
    "axisX": {"labelFlush": False},
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
    "line": {"strokeWidth": 2, "strokeJoin": "round"},
    "title": {
        "anchor": "start",
        "frame": "bounds",
        "color": "var(--muted)",
        "fontSize": 12,
        "fontWeight": "normal",
        "offset": 8,
    },
}


@dataclass(frozen=True)
class Look:
    """The colour, dash and marker of a series in every chart of a page."""

    colour: str
    dash: tuple[float, ...]
    shape: str


Looks = Mapping[str, Look]


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """A look for each series, by its position; a chart without series has the first one.

    Example:
        >>> looks_of(["student", "teacher"])["teacher"].colour
        'var(--series-1)'
    """
    unique = list(dict.fromkeys(name for name in names if name))
    return {"": _look(0)} | {name: _look(place) for place, name in enumerate(unique)}


def _look(place: int) -> Look:
    return Look(
        colour=f"var(--series-{place % _NUM_COLOURS})",
        dash=_DASHES[place % len(_DASHES)],
        shape=_SHAPES[place % len(_SHAPES)],
    )


def lines_drawing(chart: Lines, looks: Looks) -> dict[str, Any]:
    """The specification of lines, with bands or error bars and markers."""
    import altair as alt

    records = _above_zero(chart.records) if chart.log_y else chart.records
    names = list(dict.fromkeys(record["series"] for record in records))
    drawn = [record for name in names for record in thinned([r for r in records if r["series"] == name])]
    drawn, singles = (_dodged(several, names, chart.dodge) for several in (drawn, chart.single_records))
    x = alt.X("x:Q", title=chart.x_title, **_x_axis(chart, records))
    y_axis = _y_axis(chart, [*records, *singles])
    y, y_low = alt.Y("y:Q", title=None, **y_axis), alt.Y("low:Q", title=None, **y_axis)
    colour, dash, shape = (
        channel("series:N", scale=_scale(names, [getattr(looks[name], look) for name in names]), legend=None)
        for channel, look in ((alt.Color, "colour"), (alt.StrokeDash, "dash"), (alt.Shape, "shape"))
    )

    layers: list[Any] = []
    if chart.diagonal:
        ends = _plot([{"x": end, "y": end} for end in _diagonal_ends(records)]).encode(x=x, y=y)
        layers.append(ends.mark_line(color="var(--muted)", strokeDash=[3, 3], strokeWidth=1))
    intervals = [record for record in drawn if _has_interval(record)]
    if intervals:
        plot = _plot(intervals).encode(x=x, y=y_low, y2="high", color=colour)
        layers.append(plot.mark_rule(strokeWidth=1.5) if chart.has_markers else plot.mark_area(opacity=0.18))
    if singles:
        plot = _plot(singles).encode(x=x, y=y, color=colour)
        layers.append(plot.mark_point(filled=True, size=16, opacity=0.45))
    plot = _plot(drawn).encode(x=x, y=y, color=colour)
    layers.append(plot.mark_line().encode(strokeDash=dash))
    if chart.has_markers:
        layers.append(plot.mark_point(filled=True, size=60, opacity=1).encode(shape=shape))
    height = SQUARE if chart.diagonal else HEIGHT
    return _specification(layers, height=height, fit="fit", title=chart.y_title)


def bars_drawing(chart: Bars, looks: Looks) -> dict[str, Any]:
    """The specification of horizontal bars in groups, with error bars."""
    import altair as alt

    records = chart.records
    names = list(dict.fromkeys(record["series"] for record in records))
    categories = chart.categories[: chart.limit]
    drawn = [record for record in records if record["category"] in categories]
    is_grouped = len(drawn) > len(categories) and not chart.stacked
    encoding: dict[str, Any] = {
        "y": alt.Y(
            "category:N",
            sort=categories,
            title=None,
            scale=alt.Scale(paddingInner=0.28),
            axis=alt.Axis(grid=False, domain=True),
        ),
    }
    if is_grouped:
        encoding["yOffset"] = alt.YOffset("series:N", sort=names)
    ends = [0.0, *(record["value"] for record in drawn)]  # a bar begins at 0
    axis = alt.Axis(grid=True, domain=False, ticks=False, **_few_ticks(ends))
    stack: Literal["zero"] | bool = "zero" if chart.stacked else False
    scale = alt.Scale() if any(ends) else alt.Scale(domain=[0, 1])
    value, low = (
        alt.X(field, title=chart.value_title, axis=axis, stack=stack, scale=scale)
        for field in ("value:Q", "low:Q")
    )
    colour = alt.Color("series:N", scale=_scale(names, [looks[name].colour for name in names]), legend=None)

    order = {"order": alt.Order("place:Q")} if chart.stacked else {}
    drawn = [{**record, "place": names.index(record["series"])} for record in drawn]
    layers: list[Any] = [_plot(drawn).mark_bar().encode(x=value, color=colour, **encoding, **order)]
    intervals = [record for record in drawn if _has_interval(record)]
    if intervals:
        rule = _plot(intervals).mark_rule(color="var(--ink)", strokeWidth=1)
        layers.append(rule.encode(x=low, x2="high", **encoding))
    step = alt.Step({2: 10}.get(len(names), 8), **{"for": "offset"}) if is_grouped else alt.Step(22)
    return _specification(layers, height=step, fit="fit-x")


def thinned(records: Records) -> Records:
    """Thin a long line to the lowest and the highest point of each stretch, so that no spike is lost.

    Example:
        >>> line = [{"x": x, "y": 9.0 if x == 777 else 0.0} for x in range(10_000)]
        >>> len(thinned(line)) <= MOST_POINTS, max(record["y"] for record in thinned(line))
        (True, 9.0)
    """
    records = sorted(records, key=lambda record: record["x"])
    if len(records) <= MOST_POINTS:
        return records
    stretch = math.ceil(2 * len(records) / MOST_POINTS)
    kept = set()
    for start in range(0, len(records), stretch):
        places = range(start, min(start + stretch, len(records)))
        kept |= {pick(places, key=lambda place: records[place]["y"]) for pick in (min, max)}
    return [records[place] for place in sorted(kept)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks 1, 2, 5, 10, ... between the ends; only powers of ten where there would be many.

    Example:
        >>> log_ticks(0.03, 1.2), log_ticks(0.5, 20_000)
        ([0.05, 0.1, 0.2, 0.5, 1.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 7:
            break
    return ticks


def _x_axis(chart: Lines, records: Records) -> dict[str, Any]:
    import altair as alt

    values = sorted({record["x"] for record in records})
    margin = 8 if chart.has_markers else 0
    if chart.diagonal:
        return {"scale": alt.Scale(domain=_diagonal_ends(records)), "axis": alt.Axis(tickCount=5, grid=False)}
    if chart.log_x:
        ticks = values if len(values) <= 8 else log_ticks(values[0], values[-1])
        scale = alt.Scale(type="log", nice=False, padding=margin)
        return {"scale": scale, "axis": alt.Axis(values=ticks, format="~g", grid=False)}
    scale = alt.Scale(zero=False, nice=False, padding=margin)
    return {"scale": scale, "axis": alt.Axis(grid=False, **_few_ticks(values))}


def _y_axis(chart: Lines, records: Records) -> dict[str, Any]:
    import altair as alt

    values = [
        record[field] for record in records for field in ("y", "low", "high") if record.get(field) is not None
    ]
    if chart.diagonal:
        return {"scale": alt.Scale(domain=_diagonal_ends(records)), "axis": alt.Axis(tickCount=5)}
    if chart.log_y:
        low, high = min(values) / 1.1, max(values) * 1.1
        return {
            "scale": alt.Scale(type="log", domain=[low, high], nice=False),
            "axis": alt.Axis(values=log_ticks(low, high), format="~g"),
        }
    # Without a range of values a line would have no place.
    alike = min(values) == max(values)
    domain = [min(0.0, values[0]), max(1.0, 2 * values[0])] if alike else alt.Undefined
    return {"scale": alt.Scale(zero=False, domain=domain), "axis": alt.Axis(**_few_ticks(values))}


def _few_ticks(values: Sequence[float]) -> dict[str, Any]:
    """About five ticks; integers for integers, since there is no epoch 1.5; 10M for ten millions."""
    low, high = min(values), max(values)
    ticks: dict[str, Any] = {"tickCount": 5}
    if high - low <= 5 and all(value.is_integer() for value in values):
        ticks = {"values": [low + step for step in range(int(high - low) + 1)], "format": "d"}
    if max(map(abs, values)) >= 100_000:
        ticks["format"] = "~s"
    return ticks


def _dodged(records: Records, names: Sequence[str], dodge: float) -> Records:
    """Move the points of each series a little to the side."""
    middle = (len(names) - 1) / 2
    return [{**record, "x": record["x"] + dodge * (names.index(record["series"]) - middle)} for record in records]


def _above_zero(records: Records) -> Records:
    """Clip intervals at the smallest positive number, for a logarithmic axis."""
    numbers = [record[field] for record in records for field in ("y", "low") if record.get(field) is not None]
    foot = min(number for number in numbers if number > 0)
    return [{**record, "low": max(record["low"], foot)} if _has_interval(record) else record for record in records]


def _diagonal_ends(records: Records) -> list[float]:
    """The range of the diagonal: from 0 to 1 for probabilities, else that of the points."""
    values = [record[axis] for record in records for axis in ("x", "y")]
    return [min(0.0, *values), max(1.0, *values)]


def _has_interval(record: dict[str, Any]) -> bool:
    return record.get("low") is not None and record.get("high") is not None


def _scale(names: Sequence[str], looks: Sequence[Any]) -> Any:
    import altair as alt

    return alt.Scale(domain=names, range=looks)


def _plot(records: Records) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=records))


def _specification(layers: Sequence[Any], *, height: Any, fit: Any, title: str = "") -> dict[str, Any]:
    """The layers in a drawing of the width of the page, labels included, so that none is clipped."""
    import altair as alt

    size = alt.AutoSizeParams(type=fit, contains="padding")
    drawing = alt.layer(*layers).properties(width=WIDTH, height=height, autosize=size, title=title)
    return {**drawing.to_dict(), "config": _CONFIG}
