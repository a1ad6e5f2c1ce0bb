"""Debian's chromium, driven by playwright: open a page as a reader would, and ask what the reader sees."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

Scheme = Literal["light", "dark"]
OpenPage = Callable[..., "OpenedPage"]

EMPTY_CHARTS = """
() => [...document.querySelectorAll('figure.chart > svg')].filter(svg => {
  const marks = [...svg.querySelectorAll('[class*="role-mark"] path, [class*="role-mark"] line')];
  return !marks.some(mark => { const box = mark.getBBox(); return box.width + box.height > 0; });
}).map(svg => svg.getAttribute('aria-label'))
"""

# WCAG's contrast of every visible word with the background that it stands on
CONTRASTS = """
(selector) => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const hasWords = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const isRead = element => hasWords(element) && element.checkVisibility();
  return [...document.querySelectorAll(selector)].filter(isRead).map(each => {
    const style = getComputedStyle(each);
    const [high, low] = [parse(each instanceof SVGElement ? style.fill : style.color), background(each)]
      .map(luminance).sort((a, b) => b - a);
    return [each.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
  });
}
"""


@dataclass
class OpenedPage:
    """A page in the browser, and what went wrong while it was opened."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def empty_charts(self) -> list[str]:
        """What the charts without a visible mark call themselves."""
        return list(self.page.evaluate(EMPTY_CHARTS))

    def num_charts(self) -> int:
        """How many charts there are."""
        return self.page.locator("figure.chart > svg").count()

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def contrasts(self, selector: str) -> dict[str, float]:
        """The least contrast of each piece of words in the elements that the selector finds."""
        found: dict[str, float] = {}
        for words, contrast in self.page.evaluate(CONTRASTS, selector):
            found[words] = min(contrast, found.get(words, contrast))
        return found

    def style(self, selector: str, name: str) -> str:
        """The computed style of the first such element."""
        return str(self.page.locator(selector).first.evaluate("(e, name) => getComputedStyle(e)[name]", name))

    def unfold(self) -> None:
        """Open every <details>."""
        self.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests. It ends with them: while playwright runs, `asyncio.run` is refused beside it."""
    path = os.environ.get("INSTAR_CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "no chromium: install it, or name it in INSTAR_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # no sandbox: CI runs as root in a container, where chromium refuses its own
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens a file: `open_page(path, width, scheme)`; `media="print"` for how it is printed."""
    contexts = []

    def open_(
        path: Path, width: int = 1200, scheme: Scheme = "light", *, media: Literal["screen", "print"] = "screen"
    ) -> OpenedPage:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        opened = OpenedPage(context.new_page())
        _listen(opened, path)
        opened.page.emulate_media(media=media)
        opened.page.goto(path.resolve().as_uri(), wait_until="load")
        return opened

    yield open_
    for context in contexts:
        context.close()


def _listen(opened: OpenedPage, path: Path) -> None:
    """Write down console errors, exceptions, and every request for anything but the page itself."""

    def on_request(request: Request) -> None:
        if not request.url.startswith("data:") and request.url != path.resolve().as_uri():
            opened.problems.append(f"request for {request.url}")

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            opened.problems.append(f"console {message.type}: {message.text}")

    opened.page.on("request", on_request)
    opened.page.on("requestfailed", lambda request: opened.problems.append(f"failed: {request.url}"))
    opened.page.on("console", on_console)
    opened.page.on("pageerror", lambda error: opened.problems.append(f"exception: {error}"))
