"""The page of a real distillation, in a real browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OpenPage = Callable[..., Any]


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_a_run_is_whole_at_every_width_and_scheme(
    open_page, finished_run: Path, width: int, scheme: str
) -> None:
    page = open_page(finished_run / "report.html", width, scheme)
    assert page.problems == []
    assert page.num_charts() >= 4
    assert page.empty_charts() == []
    assert page.overflow() <= 0
