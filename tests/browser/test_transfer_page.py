"""The pages of a transfer study, in a real browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OpenPage = Callable[..., Any]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(finished_transfer: Path, finished_study: Path) -> dict[str, Path]:
    """Of `instar transfer`, and of the whole study."""
    return {"transfer": finished_transfer / "report.html", "study": finished_study / "report.html"}


@pytest.mark.parametrize("name", ["transfer", "study"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_whole_at_every_width_and_scheme(
    open_page: OpenPage, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page = open_page(pages[name], width, scheme)
    page.unfold()
    assert page.problems == []
    assert page.num_charts() >= {"transfer": 4, "study": 8}[name]
    assert page.empty_charts() == []
    assert page.overflow() <= 0


def test_treatments_are_drawn_and_said(open_page: OpenPage, pages: dict[str, Path]) -> None:
    page = open_page(pages["transfer"]).page
    drawn = page.locator(".boxes svg")
    said = {
        name: drawn.nth(place).get_attribute("aria-label")
        for place, name in enumerate(["base A", "base B", "BnB"])
    }
    assert said["base A"] == "base A: fc1: trained on A; fc2: trained on A; fc3: trained on A"
    assert "fc1: copied from B, frozen" in said["BnB"]
    assert page.locator(".boxes path").count() > 3 * 7  # a box for each layer, and a lock on the frozen ones
    assert page.locator(".pictures.wide img").count() == 3
    assert min(box["width"] for box in [drawn.nth(place).bounding_box() for place in range(7)]) >= 100
