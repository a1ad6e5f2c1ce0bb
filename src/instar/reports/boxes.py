"""Draws rows of boxes as SVG in the colours of the page; their words are HTML, which wraps on a phone."""

from instar.reports.formats import escaped
from instar.reports.sections import Boxes, BoxRow, Look

_WIDTH, _HEIGHT = 40, 30  # of a box with its gap
_LOCK = "M-5,-1h10v7h-10zM-3,-1v-2a3,3,0,0,1,6,0v2"


def boxes_html(section: Boxes) -> str:
    """HTML of the legend, and of a line for each row: name, boxes, words."""
    colours = {name: f"var(--series-{place})" for place, name in enumerate(section.groups)}
    rows = "".join(_row(row, colours) for row in section.rows)
    return f'{_legend(section, colours)}<div class="boxes">{rows}</div>'


def _row(row: BoxRow, colours: dict[str, str]) -> str:
    drawn = "".join(
        f'<g transform="translate({place * _WIDTH} 0)"><title>{escaped(box.words)}</title>'
        f"{_box(box.look, colours[box.group])}</g>"
        for place, box in enumerate(row.boxes)
    )
    label = escaped(f"{row.name}: " + "; ".join(box.words for box in row.boxes))
    size = f'viewBox="0 0 {len(row.boxes) * _WIDTH} {_HEIGHT}"'
    svg = (
        f'<svg {size} style="max-width:{len(row.boxes) * _WIDTH}px" role="img" aria-label="{label}">{drawn}</svg>'
    )
    return f"<b>{escaped(row.name)}</b>{svg}<span>{escaped(row.words)}</span>"


def _box(look: Look, colour: str) -> str:
    fill = {"solid": f'fill="{colour}"', "light": f'fill="{colour}" fill-opacity=".3"', "empty": 'fill="none"'}[
        look
    ]
    dash = ' stroke-dasharray="4 3"' if look == "empty" else ""
    outline = f"M2 2h{_WIDTH - 6}v{_HEIGHT - 4}h-{_WIDTH - 6}z"
    box = f'<path d="{outline}" {fill} stroke="{colour}" stroke-width="1.5"{dash}/>'
    if look != "solid":
        return box
    middle = f"translate({_WIDTH / 2 - 1:g} {_HEIGHT / 2 - 1:g})"
    return box + f'<path transform="{middle}" d="{_LOCK}" fill="none" stroke="var(--paper)" stroke-width="1.8"/>'


def _legend(section: Boxes, colours: dict[str, str]) -> str:
    groups: list[tuple[Look, str, str]] = [
        ("light", colours[name], words) for name, words in section.groups.items()
    ]
    looks = [(look, "var(--muted)", words) for look, words in section.looks.items()]
    items = "".join(
        f'<li><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="24" height="18" aria-hidden="true">'
        f"{_box(look, colour)}</svg>{escaped(words)}</li>"
        for look, colour, words in (*groups, *looks)
    )
    return f'<ul class="legend">{items}</ul>'
