"""Renders charts as static SVG in the colours of the page, with a description in words."""

import re
from html import escape

from instar.reports.drawings import Looks, bars_drawing, lines_drawing, looks_of
from instar.reports.records import printable
from instar.reports.sections import Bars, Lines


def chart_svg(chart: Lines | Bars, looks: Looks) -> str:
    """The chart as an SVG element that scales with its box, with a description for screen readers."""
    import vl_convert

    drawing = lines_drawing(chart, looks) if isinstance(chart, Lines) else bars_drawing(chart, looks)
    svg = vl_convert.vegalite_to_svg(drawing)
    opening, drawn = svg.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', opening)
    return f'<svg {view_box[0] if view_box else ""} role="img" aria-label="{escape(describe(chart))}">{drawn}'


def prepare_drawing() -> None:
    """Import and start what draws charts, so that the first chart is drawn at once.

    This takes a second. A study does it while its workers compute.
    """
    chart_svg(Bars("", [{"name": "", "value": 1.0}], category="name", value="value"), looks_of(()))


def describe(chart: Lines | Bars) -> str:
    """A description of the chart, for screen readers.

    Example:
        >>> describe(Lines("Loss", [{"epoch": 1, "loss": 2.5}, {"epoch": 9, "loss": 0.25}], x="epoch", y="loss"))
        'Line chart, Loss: loss against epoch, from 2.5 to 0.25.'
    """
    records = chart.records
    parts = []
    for name in dict.fromkeys(record["series"] for record in records):
        own = [record for record in records if record["series"] == name]
        if isinstance(chart, Lines):
            own.sort(key=lambda record: record["x"])
            parts.append(f"{name} from {own[0]['y']:.3g} to {own[-1]['y']:.3g}")
        else:
            highest = max(own, key=lambda record: record["value"])
            parts.append(f"{name} highest at {highest['category']} with {highest['value']:.3g}")
    if isinstance(chart, Lines):
        subject = f"Line chart, {chart.title}: {chart.y_title} against {chart.x_title}"
    else:
        subject = f"Bar chart, {chart.title}: {chart.value_title} by {chart.category_title}"
    return printable(f"{subject}, {'; '.join(part.strip() for part in parts)}.")
