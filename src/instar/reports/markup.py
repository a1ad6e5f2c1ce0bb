"""Renders sections as HTML. All text from outside passes through `escaped`."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, assert_never

import numpy as np

from instar.reports.boxes import boxes_html
from instar.reports.charts import chart_svg
from instar.reports.drawings import Look, Looks
from instar.reports.formats import escaped, heading_of, is_numeric, table_cells
from instar.reports.sections import (
    Bars,
    Boxes,
    Code,
    Column,
    Details,
    Headline,
    Images,
    Lines,
    Picture,
    Section,
    Share,
    Table,
    Text,
    series_names,
)
from instar.reports.sounds import Audio, Sound

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 160  # of the longer side of an image
SMALL_PIXELS = 64  # up to this size every pixel is kept, and shown as a square


def sections_html(sections: Sequence[Section], looks: Looks) -> str:
    """The sections as HTML; consecutive charts share a grid."""
    parts = []
    for are_charts, group in groupby(sections, key=lambda section: isinstance(section, Lines | Bars)):
        html = "\n".join(section_html(section, looks) for section in group)
        parts.append(f'<div class="charts">{html}</div>' if are_charts else html)
    return "\n".join(parts)


def section_html(section: Section, looks: Looks) -> str:
    """One section as an HTML fragment."""
    match section:
        case Headline():
            detail = f'<p class="detail">{escaped(section.detail)}</p>' if section.detail else ""
            return f'<section class="headline"><p class="answer">{escaped(section.sentence)}</p>{detail}</section>'
        case Text():
            words = [section.paragraphs] if isinstance(section.paragraphs, str) else section.paragraphs
            paragraphs = "".join(f"<p>{escaped(each)}</p>" for each in words)
            return f"<section>{_heading(section.title)}{paragraphs}</section>"
        case Table():
            return f"<section>{_heading(section.title)}{_table(section)}</section>"
        case Lines() | Bars():
            return _chart(section, looks)
        case Boxes():
            rows = boxes_html(section)
            return f"<section>{_heading(section.title)}{rows}{_caption(section.caption)}</section>"
        case Images():
            kind = "pictures with-shares" if any(item.shares for item in section.items) else "pictures"
            kind += " wide" * section.wide
            items = "\n".join(_picture(item) for item in section.items)
            above = _heading(section.title) + _caption(section.caption)
            return f'<section>{above}<div class="{kind}">{items}</div></section>'
        case Audio():
            items = "\n".join(_sound(item) for item in section.items)
            return f"<section>{_heading(section.title)}{_caption(section.caption)}{items}</section>"
        case Code():
            return f"<section>{_heading(section.title)}<pre><code>{_unbroken(section.text)}</code></pre></section>"
        case Details():
            inner = sections_html(section.sections, looks)
            return f"<details><summary>{escaped(section.title)}</summary>{inner}</details>"
        case _:
            assert_never(section)


def _unbroken(text: str) -> str:
    """Wrap each word in a span, so that a narrow page does not break `--option` after its dashes."""
    return re.sub(r"\S+", lambda word: f"<span>{escaped(word[0])}</span>", text)


def _heading(title: str) -> str:
    return f"<h2>{escaped(title)}</h2>" if title else ""


def _caption(words: str) -> str:
    return f'<p class="caption">{escaped(words)}</p>' if words else ""


_SENTENCE = 60  # letters: a longer cell is broken into lines


def _kind_of(table: Table, column: Column, cells: Sequence[str]) -> str:
    """The class of the cells of a column: sentences are broken into lines, names and numbers are not."""
    if is_numeric(table, column):
        return ' class="number"'
    return ' class="words"' if max(map(len, cells)) > _SENTENCE else ""


def _table(table: Table) -> str:
    cells_of = zip(*table_cells(table), strict=True)
    kinds = [_kind_of(table, column, cells) for column, cells in zip(table.columns, cells_of, strict=True)]
    headings = zip(kinds, table.columns, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escaped(heading_of(column))}</th>' for kind, column in headings)
    rows = []
    for place, (first, *others) in enumerate(table_cells(table)):
        cells = "".join(f"<td{kind}>{escaped(cell)}</td>" for kind, cell in zip(kinds[1:], others, strict=True))
        mark = ' class="highlight"' if place == table.highlight else ""
        rows.append(f'<tr{mark}><th scope="row"{kinds[0]}>{escaped(first)}</th>{cells}</tr>')
    notes = [
        f"<dt>{escaped(heading_of(each))}:</dt> <dd>{escaped(each.note)}</dd>"
        for each in table.columns
        if each.note
    ]
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(table.title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        + (f'<dl class="notes">{"".join(notes)}</dl>' if notes else "")
        + _caption(table.caption)
    )


def _chart(chart: Lines | Bars, looks: Looks) -> str:
    caption = chart.caption
    if isinstance(chart, Bars) and len(chart.categories) > chart.limit:
        caption = f"{caption} The first {chart.limit} of {len(chart.categories)} are shown.".strip()
    return (
        f'<figure class="chart"><figcaption><h3>{escaped(chart.title)}</h3></figcaption>'
        f"{_legend(chart, looks)}{chart_svg(chart, looks)}{_caption(caption)}</figure>"
    )


def _legend(chart: Lines | Bars, looks: Looks) -> str:
    """The legend, in HTML, which wraps and keeps its size on a phone."""
    if isinstance(chart, Bars) and chart.series == chart.category:
        return ""
    names = [name for name in series_names([chart]) if name]
    keys = "".join(f"<li>{_key(chart, looks[name])}{escaped(name)}</li>" for name in names)
    return f'<ul class="legend">{keys}</ul>' if names else ""


def _key(chart: Lines | Bars, look: Look) -> str:
    if isinstance(chart, Bars):
        width, drawn = 12, f'<path d="M0 0h12v12h-12z" fill="{look.colour}"/>'
    else:
        dash = " ".join(f"{length:g}" for length in look.dash)
        width, drawn = 28, f'<path d="M1 6h26" stroke="{look.colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        if chart.has_markers:
            drawn += f'<path transform="translate(14 6) scale(4)" d="{look.shape}" fill="{look.colour}"/>'
    return f'<svg viewBox="0 0 {width} 12" width="{width}" height="12" aria-hidden="true">{drawn}</svg>'


def _picture(picture: Picture) -> str:
    kind = ' class="pixels"' if max(picture.pixels.shape[:2]) <= SMALL_PIXELS else ""
    image = f'<img{kind} src="{_data_uri(picture)}" alt="{escaped(picture.caption)}">'
    return (
        f'<figure class="picture">{image}<div><figcaption>{escaped(picture.caption)}</figcaption>'
        f"{_shares(picture.shares)}</div></figure>"
    )


def _sound(sound: Sound) -> str:
    """The image, the tracks under it on the same time scale, and the player."""
    from PIL import Image

    rows = []
    if sound.pixels is not None:
        image = _image_uri(Image.fromarray(np.ascontiguousarray(sound.pixels)), "png")
        rows.append(f'<span></span><img src="{image}" alt="{escaped("image of: " + sound.caption)}">')
    for track in sound.tracks:
        spans = "".join(
            f'<i style="left:{span.begin:.2%};width:{span.end - span.begin:.2%}" title="{escaped(span.words)}">'
            f"{escaped(span.words)}</i>"
            for span in track.spans
        )
        rows.append(f'<span>{escaped(track.name)}</span><div class="spans">{spans}</div>')
    player = f'<audio controls preload="none" src="data:audio/wav;base64,{base64.b64encode(sound.wav).decode()}">'
    rows.append(f"<span></span>{player}</audio>")
    return f'<figure class="sound"><figcaption>{escaped(sound.caption)}</figcaption>{"".join(rows)}</figure>'


def _shares(shares: Iterable[Share]) -> str:
    items = "".join(
        f"<li{' class=highlight' if share.highlight else ''}><span>{escaped(share.name)}</span>"
        f'<span class="track"><i style="width:{share.value:.1%}"></i></span>'
        f"<span>{_percent(share.value)}</span></li>"
        for share in shares
    )
    return f'<ul class="shares">{items}</ul>' if items else ""


def _percent(value: float) -> str:
    """Percent without decimals, with one below ten; a positive value is never shown as 0."""
    if 0 < value < 0.001:
        return "&lt;0.1%"
    return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"


def _data_uri(picture: Picture) -> str:
    """An image as a data URI: a small one as PNG, bit for bit, a larger one as a thumbnail in JPEG."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture.pixels))
    kind = "png" if max(image.size) <= SMALL_PIXELS else "jpeg"
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return _image_uri(image, kind)


def _image_uri(image: "Image", kind: str) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, quality=85, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
