"""Renders one self-contained HTML page: no network, no script, for light and dark screens, phones and paper."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from instar.errors import UsageError
from instar.reports.drawings import looks_of
from instar.reports.formats import escaped
from instar.reports.markup import section_html, sections_html
from instar.reports.sections import Section, series_names

MOST_BYTES = 1_500_000  # small enough for an e-mail

# With this policy a browser loads nothing and runs nothing.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header><h1>$title</h1>$subtitle</header>
<main>
$body
</main>
$footer
</body>
</html>
""")


def render_page(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    footer: str = "",
    series: Sequence[str] = (),
) -> str:
    """The sections as one HTML document.

    Args:
        title: name of the page.
        sections: the sections from top to bottom.
        subtitle: a line under the title: what, on which data, when.
        footer: the last line: version, where to read more; addresses in it become links.
        series: names of series in the order of their colours; other series follow in the order of the page.

    Raises:
        UsageError: there are no sections, or the page has more than 1.5 MB.

    Example:
        >>> from instar.reports import Headline, Text
        >>> page = render_page("Digits", [Headline("31 fewer errors."), Text("Five seeds.")])
        >>> page.startswith("<!doctype html>"), "31 fewer errors." in page
        (True, True)
    """
    if not sections:
        raise UsageError(f"page {title!r} has no sections")
    looks = looks_of([*series, *series_names(sections)])
    page = _PAGE.substitute(
        title=escaped(title),
        subtitle=f'<p class="subtitle">{escaped(subtitle)}</p>' if subtitle else "",
        style=files("instar.reports").joinpath("page.css").read_text(encoding="utf-8"),
        body=sections_html(sections, looks),
        footer=f"<footer>{_linked(escaped(footer))}</footer>" if footer else "",
    )
    num_bytes = len(page.encode())
    if num_bytes > MOST_BYTES:
        sizes = [len(section_html(section, looks).encode()) for section in sections]
        largest = sizes.index(max(sizes))
        raise UsageError(
            f"page {title!r} has {num_bytes:,} bytes, at most {MOST_BYTES:,}: section {largest}, "
            f"{type(sections[largest]).__name__}, has {max(sizes):,}; give it fewer rows or images"
        )
    return page


def _linked(html: str) -> str:
    return re.sub(r"https://[^\s;<]+", lambda found: f'<a href="{found[0]}">{found[0]}</a>', html)


def write_page(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    footer: str = "",
    series: Sequence[str] = (),
) -> Path:
    """Write `render_page` to a file, atomically.

    Returns:
        The path of the page.

    Raises:
        UsageError: as `render_page`.
        RunError: the file cannot be written; an earlier version of it is still there.
    """
    from instar.files import write_bytes

    page = render_page(title, sections, subtitle=subtitle, footer=footer, series=series)
    write_bytes(Path(path), page.encode())
    return Path(path)
