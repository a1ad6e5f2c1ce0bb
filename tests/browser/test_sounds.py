"""Recordings in a page: they play without a network, and what is said stands under where it is heard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.data.readers.audio import wav_bytes
from instar.reports import Audio, Sound, Span, Track, write_page

OpenPage = Callable[..., Any]

pytestmark = pytest.mark.browser
SECONDS = """
async () => {
  const player = document.querySelector('audio');
  player.load();
  await new Promise((resolve, reject) => { player.onloadedmetadata = resolve; player.onerror = reject; });
  return player.duration;
}
"""


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    samples = 0.1 * np.sin(np.arange(4000) / 3)
    pixels = np.tile(np.arange(40, dtype=np.uint8)[:, None] * 6, (1, 50))
    tracks = [
        Track("aligned", [Span("seven", 0, 0.5), Span("one", 0.6, 1)]),
        Track("heard", [Span("seven", 0, 0.5)]),
    ]
    sound = Sound(wav_bytes(samples, 8000), "someone: “seven one”", pixels, tracks)
    return write_page(tmp_path / "page.html", "Sound", [Audio("Heard", [sound], caption="A tone.")])


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_recording_can_be_played(open_page: OpenPage, page_file: Path, width: int, scheme: str) -> None:
    opened = open_page(page_file, width, scheme)
    assert opened.page.evaluate(SECONDS) == pytest.approx(0.5)
    assert opened.problems == []
    assert opened.overflow() <= 0


def test_words_stand_where_they_are_said(open_page: OpenPage, page_file: Path) -> None:
    page = open_page(page_file).page
    picture = page.locator(".sound img").bounding_box()
    boxes = {}
    for place, words in enumerate(("seven", "one", "seven again")):
        boxes[words] = page.locator(".spans i").nth(place).bounding_box()
    assert boxes["seven"]["x"] == pytest.approx(picture["x"], abs=1)
    assert boxes["seven"]["width"] == pytest.approx(picture["width"] / 2, abs=2)
    assert boxes["one"]["x"] == pytest.approx(picture["x"] + 0.6 * picture["width"], abs=2)
    assert boxes["one"]["y"] > picture["y"] + picture["height"]
    assert boxes["seven again"]["y"] > boxes["seven"]["y"]
