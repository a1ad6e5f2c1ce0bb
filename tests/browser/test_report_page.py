"""The page in a browser: narrow and wide, light and dark, on screen and on paper."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instar.reports import (
    Bars,
    Box,
    Boxes,
    BoxRow,
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
    write_page,
)

pytestmark = pytest.mark.browser

LONG_NAME = "Ojibwe_(Canadian_Aboriginal_Syllabics)/character02"
NETWORKS = ("student-distilled", "student-alone", "teacher")
EVERY_VIEW = [(width, scheme) for width in (360, 1200) for scheme in ("light", "dark")]
# where each label of a chart stands, and how large it is after the chart has been scaled
LABELS = """
() => [...document.querySelectorAll('figure.chart > svg')].flatMap(svg => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [...svg.querySelectorAll('text')].filter(text => text.textContent).map(text => {
    const {left, right} = text.getBoundingClientRect();
    return {words: text.textContent, size: scale * parseFloat(getComputedStyle(text).fontSize), left, right};
  });
})
"""
# a colour of its own cannot be asked for: a word is written in it
SWATCHES = """
() => [0, 1, 2, 3, 4, 5].forEach(place => {
  const word = document.createElement('p');
  word.id = `swatch-${place}`;
  word.textContent = `series ${place}`;
  word.style.color = `var(--series-${place})`;
  document.body.append(word);
})
"""
# by how many pixels the words and bars of a picture stick out of the place that it has
STICKING_OUT = """
() => Math.max(...[...document.querySelectorAll('.picture')].flatMap(picture => {
  const {right} = picture.getBoundingClientRect();
  return [...picture.querySelectorAll('figcaption, .shares span')]
    .map(each => each.getBoundingClientRect().right - right);
}))
"""
PAPER = 672  # CSS pixels between the margins of A4


def curves() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for place, name in enumerate(NETWORKS):
        for epoch in range(1, 21):
            loss = 0.1 / (place + 1) + math.exp(-epoch / 4)
            rows.append({"network": name, "epoch": epoch, "loss": loss, "low": 0.9 * loss, "high": 1.1 * loss})
    return rows


def table() -> Table:
    metrics = {f"a metric of the {place}th kind": place / 7 for place in range(9)}
    columns = [Column("network", note="as trained"), *(Column(name, format="{:.3f}") for name in metrics)]
    rows = [{"network": name, **metrics} for name in NETWORKS]
    return Table("Result", rows, columns=columns, highlight=0, caption="Test data were read once.")


def charts() -> list[Section]:
    interval = {"low": "low", "high": "high"}
    names = ("<script>alert(1)</script>", "aquarium fish", "7")
    errors = [{"class": name, "network": network, "errors": len(name)} for name in names for network in NETWORKS]
    right = [{"network": name, "said": c / 10, "right": (c / 10) ** 1.2} for name in NETWORKS for c in range(11)]
    return [
        Lines("Learning", curves(), x="epoch", y="loss", series="network", log_y=True, **interval),
        Lines("Seeds", curves()[:5], x="epoch", y="loss", points=True, log_x=True, **interval),
        Bars(
            "Errors by class",
            errors,
            category="class",
            value="errors",
            series="network",
            caption="Fewer is better.",
        ),
        Lines("Calibration", right, x="said", y="right", series="network", diagonal=True, points=True),
    ]


def pictures() -> list[Section]:
    digits = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    photograph = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    shares = [Share("a class with a long name", 0.9, highlight=True), Share("cat", 0.1), Share("dog", 0.0)]
    long = [Share(f"generalist: {LONG_NAME}", 0.9, highlight=True), Share("specialist: dog", 0.1)]
    return [
        Images("Disagreements", [Picture(digit, "label 4\nstudent 9") for digit in digits]),
        Images("Soft targets", [Picture(photograph, "a photograph", shares)] * 3),
        Images("Three opinions", [Picture(photograph, LONG_NAME, long)] * 3, wide=True),
    ]


def boxes() -> Section:
    layers = [Box(f"conv{n}: frozen", "A", "solid") for n in range(8)] + [Box("fc9: new", "B", "empty")]
    rows = [BoxRow("A8B", layers, "the other base's layers, frozen: are they general?")] * 2
    return Boxes("Treatments", rows, looks={"solid": "copied, frozen", "empty": "new"})


def every_section() -> list[Section]:
    """A report with all that a page can hold, some of it wider than a phone."""
    folded = Lines("Folded", curves(), x="epoch", y="loss", series="network")
    command = "instar distill --data mnist --teacher mlp:1200x2 --student mlp:30x2\n" + "x" * 150
    return [
        Headline("The student makes 31.2 fewer errors than alone.", "95 % interval 27.4 to 35.0, 5 seeds"),
        table(),
        *charts(),
        boxes(),
        *pictures(),
        Code("How to get it again", command),
        Details("More", [Text("Folded words."), folded]),
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_page(path, "instar distill", every_section(), subtitle="mnist " + "y" * 80, footer="instar 0.1.0")


@pytest.mark.parametrize(("width", "scheme"), EVERY_VIEW)
def test_the_page_opens_without_a_word_and_fits(open_page, report: Path, width: int, scheme: str) -> None:
    opened = open_page(report, width, scheme)
    assert opened.overflow() <= 0
    opened.unfold()
    assert opened.overflow() <= 0
    assert opened.num_charts() == 5
    assert opened.empty_charts() == []
    assert opened.problems == []


@pytest.mark.parametrize(("width", "scheme"), EVERY_VIEW)
def test_words_stand_out_from_the_page(open_page, report: Path, width: int, scheme: str) -> None:
    opened = open_page(report, width, scheme)
    opened.unfold()
    words = opened.contrasts("body *:not(svg *)")
    labels = opened.contrasts("figure.chart text")
    assert len(words) > 50
    assert len(labels) > 20
    assert {text: ratio for text, ratio in words.items() if ratio < 4.5} == {}
    assert {text: ratio for text, ratio in labels.items() if ratio < 4.5} == {}


def test_lines_and_bars_stand_out_from_the_page(open_page, report: Path) -> None:
    for scheme in ("light", "dark"):
        opened = open_page(report, 1200, scheme)
        opened.page.evaluate(SWATCHES)
        contrasts = opened.contrasts("p[id^=swatch]")
        assert len(contrasts) == 6
        assert min(contrasts.values()) >= 3


def test_chart_labels_are_legible_on_a_phone_and_stay_on_it(open_page, report: Path) -> None:
    opened = open_page(report, 360)
    opened.unfold()
    labels = opened.page.evaluate(LABELS)
    assert len(labels) > 40
    assert min(label["size"] for label in labels) >= 10.5
    assert [label for label in labels if label["left"] < 0 or label["right"] > 360] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_has_been_painted(open_page, report: Path, scheme: str) -> None:
    opened = open_page(report, 1200, scheme)
    opened.unfold()
    for place in range(opened.num_charts()):
        png = opened.page.locator("figure.chart > svg").nth(place).screenshot()
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
        colours, counts = np.unique(pixels, axis=0, return_counts=True)
        paper = colours[counts.argmax()]
        assert (paper.mean() > 200) == (scheme == "light")
        assert (np.abs(pixels.astype(int) - paper).max(axis=1) > 60).mean() > 0.005


def test_colours_follow_the_scheme_and_paper_is_light(open_page, report: Path) -> None:
    line = ".mark-line path"
    light, dark = open_page(report), open_page(report, scheme="dark")
    paper = open_page(report, PAPER, "dark", media="print")
    assert light.style("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert dark.style("body", "backgroundColor") != light.style("body", "backgroundColor")
    assert dark.style(line, "stroke") != light.style(line, "stroke")
    assert paper.style("body", "backgroundColor") == light.style("body", "backgroundColor")
    assert paper.style(line, "stroke") == light.style(line, "stroke")


def test_paper_shows_all_and_cuts_no_chart(open_page, report: Path) -> None:
    paper = open_page(report, PAPER, media="print")
    assert paper.overflow() <= 0
    assert paper.empty_charts() == []
    assert paper.style("figure.chart", "breakInside") == "avoid"
    folded = paper.page.locator("details figure.chart").bounding_box()
    assert folded
    assert folded["height"] > 100
    pdf = paper.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")


def test_a_wide_table_scrolls_in_its_own_box(open_page, report: Path) -> None:
    opened = open_page(report, 360)
    box = opened.page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    before = opened.page.locator("tbody th").first.bounding_box()
    box.evaluate("box => { box.scrollLeft = 200; }")
    assert opened.page.locator("tbody th").first.bounding_box() == before


@pytest.mark.parametrize("width", [360, 800, 1200])
def test_long_names_of_classes_keep_to_their_picture(open_page, report: Path, width: int) -> None:
    assert open_page(report, width).page.evaluate(STICKING_OUT) <= 0.5


def test_a_command_is_not_cut_after_its_dashes(open_page, report: Path) -> None:
    opened = open_page(report, 360)
    heights = opened.page.locator("code span").evaluate_all("spans => spans.map(span => span.offsetHeight)")
    *words, too_long = heights
    assert len(set(words)) == 1
    assert too_long > words[0]
    assert opened.page.locator("code").inner_text().startswith("instar distill --data mnist --teacher mlp")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<img src="http://127.0.0.1:9/x.png">', "request for http://127.0.0.1:9/x.png"),
        ("<script>console.error('no')</script>", "console error: no"),
        ("<script>throw new Error('no')</script>", "exception: no"),
    ],
)
def test_the_checks_see_what_goes_wrong(open_page, tmp_path: Path, body: str, problem: str) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(f"<!doctype html><title>wrong</title>{body}")
    opened = open_page(page)
    opened.page.wait_for_timeout(200)
    assert problem in opened.problems


def test_the_checks_see_an_empty_chart_faint_words_and_a_wide_page(open_page, tmp_path: Path) -> None:
    page = tmp_path / "poor.html"
    page.write_text(
        "<!doctype html><title>poor</title><figure class=chart><svg aria-label='nothing' viewBox='0 0 9 9'>"
        "<g class='mark-line role-mark'><path d=''/></g></svg></figure>"
        "<p style='color: #ccc; width: 2000px'>faint</p>"
    )
    opened = open_page(page)
    assert opened.empty_charts() == ["nothing"]
    assert opened.contrasts("p")["faint"] < 2
    assert opened.overflow() > 700


def test_the_page_itself_forbids_scripts_and_network(open_page, report: Path, tmp_path: Path) -> None:
    page = tmp_path / "injected.html"
    injected = '<script>document.title = "ran"</script><img src="http://127.0.0.1:9/x.png"></main>'
    page.write_text(report.read_text(encoding="utf-8").replace("</main>", injected), encoding="utf-8")
    opened = open_page(page)
    assert opened.page.title() == "instar distill"
    assert sum("Content Security Policy" in problem for problem in opened.problems) == 2
