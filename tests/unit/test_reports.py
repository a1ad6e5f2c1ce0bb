"""The page and its sections, without a browser."""

import base64
import io
import re
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from instar.errors import RunError, UsageError
from instar.reports import (
    MOST_BYTES,
    Audio,
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
    Sound,
    Span,
    Table,
    Text,
    Track,
    print_table,
    render_page,
    write_page,
)
from instar.reports.charts import chart_svg
from instar.reports.drawings import bars_drawing, lines_drawing, looks_of, thinned
from instar.reports.formats import MINUS, MISSING, format_cell
from instar.reports.sections import series_names

EVIL = "<script>alert(\"1\")</script> & 'co'"
CURVE = [
    {"network": name, "epoch": epoch, "loss": 2.0 / epoch, "low": 1.8 / epoch, "high": 2.2 / epoch}
    for name in ("teacher", "student")
    for epoch in range(1, 8)
]
VOID = {"meta", "link", "img", "br", "hr", "input"}
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class WellFormed(HTMLParser):
    """Collects the text and what is wrong: tags that do not match, scripts, addresses outside the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self.open_tags]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.wrong.append("a script")
        for name, value in attrs:
            if name.startswith("on") or (name in LOADING and not (value or "").startswith("data:")):
                self.wrong.append(f"<{tag} {name}={value!r}>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


WAV = b"RIFF" + bytes(44)


def every_section(word: str) -> list[Section]:
    """One of each section, with the word wherever a word can stand."""
    rows = [{word: word, "value": 1.5}, {word: "other", "value": 2.5}]
    points = [{"x": x, "y": x / 2, "name": name} for x in range(1, 4) for name in (word, "other")]
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    return [
        Headline(word, word),
        Text([word, word], title=word),
        Table(word, rows, columns=[Column(word, word, note=word), Column("value", word)], caption=word),
        Lines(word, points, x="x", y="y", series="name", x_title=word, y_title=word, caption=word),
        Bars(word, rows, category=word, value="value", value_title=word, caption=word),
        Images(word, [Picture(pixels, word, [Share(word, 0.5, highlight=True)])], caption=word),
        Audio(word, [Sound(WAV, word, pixels, [Track(word, [Span(word, 0, 0.5)])])], caption=word),
        Code(word, word),
        Details(word, [Text(word), Lines(word, points, x="x", y="y", points=True, diagonal=True)]),
    ]


def test_a_sound_is_in_the_page_bit_for_bit_with_what_is_said_when() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(4, 16)
    sound = Sound(WAV, "a recording", pixels, [Track("heard", [Span("one", 0.25, 0.5)])])
    page = render_page("Sound", [Audio("Heard", [sound])])
    assert base64.b64encode(WAV).decode() in page
    assert 'style="left:25.00%;width:25.00%" title="one">one</i>' in page
    assert "media-src data:" in page
    found = re.search(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_page_is_well_formed_and_loads_nothing() -> None:
    page = render_page("Title", every_section("word"), subtitle="subtitle", footer="footer")
    assert WellFormed(page).wrong == []
    assert "url(" not in page
    assert "@import" not in page


def test_the_check_for_a_well_formed_page_sees_what_is_wrong() -> None:
    assert WellFormed("<p><b>x</p>").wrong
    assert WellFormed("<script>x</script>").wrong == ["a script"]
    assert WellFormed('<img src="https://example.org/x.png">').wrong
    assert WellFormed('<p onclick="x">y</p>').wrong


def test_words_from_outside_stay_words() -> None:
    page = WellFormed(render_page(EVIL, every_section(EVIL), subtitle=EVIL, footer=EVIL))
    assert page.wrong == []
    assert sum(EVIL in words for words in page.words) > 15


def test_a_name_that_is_no_utf8_is_shown_with_a_question_mark() -> None:
    page = render_page("A folder", every_section("caf\udce9"))
    assert "caf?" in page
    page.encode()


def test_every_chart_has_a_caption_and_says_what_it_shows() -> None:
    page = render_page("Charts", every_section("loss"))
    charts = re.findall(r'<figure class="chart">(.*?)</figure>', page, flags=re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        assert "<figcaption>" in chart
        assert re.search(r'<svg viewBox="0 0 400 \d+" role="img" aria-label="(Line|Bar) chart, loss: ', chart)


def test_charts_take_their_colours_from_the_page() -> None:
    svg = chart_svg(Lines("Loss", CURVE, x="epoch", y="loss", series="network"), looks_of(["teacher", "student"]))
    colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg))
    assert {"var(--series-0)", "var(--series-1)", "var(--muted)", "var(--rule)"} <= colours
    assert {colour for colour in colours if not colour.startswith("var(")} <= {"none", "transparent"}


def test_the_style_sheet_has_every_custom_property_of_the_charts() -> None:
    page = render_page("All looks", every_section("x"))
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", page)), set(re.findall(r"(--[\w-]+):", page))
    every_look = {look.colour[4:-1] for look in looks_of([str(place) for place in range(30)]).values()}
    assert used | every_look <= defined


def test_a_series_looks_the_same_in_every_chart() -> None:
    students = [row for row in CURVE if row["network"] == "student"]
    charts = [
        Lines("Loss", CURVE, x="epoch", y="loss", series="network"),
        Bars("Of the student", students[:1], category="epoch", value="loss", series="network"),
    ]
    page = render_page("Two charts", charts)
    legends = re.findall(r'<ul class="legend">(.*?)</ul>', page)
    assert [re.findall(r"--series-\d", legend) for legend in legends] == [
        ["--series-0", "--series-1"],
        ["--series-1"],
    ]
    asked = render_page("Two charts", charts, series=["student"])
    assert re.findall(r"--series-\d", re.findall(r'<ul class="legend">(.*?)</ul>', asked)[1]) == ["--series-0"]


def test_series_are_told_apart_without_colour() -> None:
    looks = looks_of([f"series {place}" for place in range(1, 6)])
    named = [look for name, look in looks.items() if name]
    assert len({look.dash for look in named}) == len({look.shape for look in named}) == 5


def test_series_are_found_in_folds_too() -> None:
    chart = Lines("Loss", CURVE, x="epoch", y="loss", series="network")
    assert series_names([Text("x"), Details("More", [chart])]) == ["teacher", "student"]


def test_a_page_over_the_limit_names_the_section() -> None:
    sections = [Text("short"), Text("x" * MOST_BYTES)]
    with pytest.raises(UsageError, match=r"at most 1,500,000: section 1, Text, has 1,500,"):
        render_page("Large", sections)


def test_a_long_report_stays_under_the_limit() -> None:
    steps = [{"step": step, "loss": 1 / step, "net": net} for net in "abc" for step in range(1, 5001)]
    noise = np.random.default_rng(0).integers(0, 256, (30, 300, 225, 3), dtype=np.uint8)
    sections = [
        *[Lines(f"Loss {chart}", steps, x="step", y="loss", series="net") for chart in range(3)],
        Images("Photographs", [Picture(pixels, "a photograph") for pixels in noise]),
        Table("Classes", [{"class": row, "errors": row / 7} for row in range(1000)]),
    ]
    assert len(render_page("Large", sections).encode()) < MOST_BYTES


def test_a_long_line_keeps_its_spikes_and_its_order() -> None:
    line = [{"x": float(x), "y": {500: 50.0, 501: -50.0}.get(x, 0.0)} for x in reversed(range(5000))]
    kept = thinned(line)
    assert len(kept) <= 300
    assert {50.0, -50.0} <= {record["y"] for record in kept}
    assert [record["x"] for record in kept] == sorted(record["x"] for record in kept)


def test_a_missing_number_is_no_point() -> None:
    rows = [{"x": 1, "y": None}, {"x": 2, "y": float("nan")}, {"x": 3, "y": 4, "low": None}]
    assert Lines("Loss", rows, x="x", y="y").records == [{"x": 3.0, "y": 4.0, "series": ""}]


def test_a_line_of_one_point_is_drawn_as_a_marker() -> None:
    chart = Lines("One epoch", CURVE[:1], x="epoch", y="loss")
    assert chart.has_markers
    assert "mark-symbol" in chart_svg(chart, looks_of([]))
    assert not Lines("More", CURVE, x="epoch", y="loss", series="network").has_markers


def test_an_interval_that_reaches_below_zero_ends_at_the_foot_of_a_logarithmic_axis() -> None:
    rows = [{"x": 1, "y": 0.5, "low": -0.1, "high": 1.0}, {"x": 2, "y": 0.25, "low": 0.125, "high": 0.5}]
    chart = Lines("Loss", rows, x="x", y="y", low="low", high="high", log_y=True)
    drawing = lines_drawing(chart, looks_of([]))
    lows = [record["low"] for data in drawing["datasets"].values() for record in data]
    assert set(lows) == {0.125}


def test_field_names_of_a_user_do_not_reach_the_grammar() -> None:
    rows = [{"a.b[0]:Q": 1, "datum['y']": 2}, {"a.b[0]:Q": 2, "datum['y']": 3}]
    svg = chart_svg(Lines("Odd", rows, x="a.b[0]:Q", y="datum['y']"), looks_of([]))
    assert 'd="M0,' in svg


def test_single_points_stand_beside_the_mean_and_series_beside_each_other() -> None:
    singles = [{"network": "student", "epoch": 3, "loss": loss} for loss in (0.1, 9.0)]
    chart = Lines("Loss", CURVE, x="epoch", y="loss", series="network", points=True, singles=singles, dodge=0.2)
    drawing = lines_drawing(chart, looks_of(["teacher", "student"]))
    names = [layer["data"]["name"] for layer in drawing["layer"] if layer["mark"]["type"] == "point"]
    points = [drawing["datasets"][name] for name in names]
    assert [(round(point["x"], 6), point["y"]) for point in points[0]] == [(3.1, 0.1), (3.1, 9.0)]
    assert {round(point["x"] % 1, 6) for point in points[1] if point["series"] == "teacher"} == {0.9}


def test_stacked_bars_are_one_bar_a_category() -> None:
    rows = [{"n": n, "part": part, "points": -size} for n in (1, 2) for part, size in (("one", 1), ("other", 2))]
    looks = looks_of(["one", "other"])
    stacked, grouped = (
        bars_drawing(Bars("Drops", rows, category="n", value="points", series="part", stacked=is_stacked), looks)
        for is_stacked in (True, False)
    )
    assert stacked["layer"][0]["encoding"]["x"]["stack"] == "zero"
    assert "yOffset" not in stacked["layer"][0]["encoding"]
    assert "yOffset" in grouped["layer"][0]["encoding"]


def test_boxes_say_in_words_what_they_show() -> None:
    rows = [BoxRow("A1B", [Box("one: frozen", "A", "solid"), Box("two: new", "B", "empty")], EVIL)]
    page = WellFormed(render_page("Boxes", [Boxes("Treatments", rows, looks={"solid": "frozen", "empty": "new"})]))
    assert page.wrong == []
    assert "script" not in page.tags
    assert {"one: frozen", "two: new", "frozen", "new", "A", "B", "A1B", EVIL} <= set(page.words)


def test_more_categories_than_the_limit_are_counted_in_the_caption() -> None:
    rows = [{"class": f"class {place:02}", "errors": place} for place in range(30)]
    page = render_page("Many", [Bars("Errors", rows, category="class", value="errors", limit=12)])
    assert "The first 12 of 30 are shown." in page
    assert "class 11</text>" in page
    assert "class 12</text>" not in page


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lines("Loss", [], x="x", y="y"), "chart 'Loss' has no points"),
        (lambda: Lines("Loss", [{"x": 1, "y": None}], x="x", y="y"), "chart 'Loss' has no points"),
        (lambda: Bars("Errors", [], category="c", value="v"), "chart 'Errors' has no points"),
        (lambda: Lines("Loss", [{"x": 1}], x="x", y="y"), r"row 0 has no field 'y'; it has x"),
        (lambda: Lines("Loss", [{"x": "1", "y": 2}], x="x", y="y"), "'x' should be a number, not '1'"),
        (lambda: Lines("Loss", [{"x": 0, "y": 2}], x="x", y="y", log_x=True), "x axis takes positive numbers"),
        (lambda: Lines("Loss", [{"x": 1, "y": -2}], x="x", y="y", log_y=True), "y axis takes positive numbers"),
        (lambda: Lines("Loss", CURVE, x="epoch", y="loss", low="low"), "both low and high"),
        (lambda: Bars("Errors", CURVE, category="epoch", value="loss", high="high"), "both low and high"),
        (lambda: Table("Result", []), "table 'Result' has no rows"),
        (lambda: Table("Result", [{"a": 1}], columns=[Column("b")]), "no row has 'b'; they have a"),
        (lambda: Table("Result", [{"a": 1}], highlight=1), "1 rows, none to highlight at 1"),
        (lambda: Images("Digits", []), "images 'Digits' has no pictures"),
        (
            lambda: Picture(np.zeros((8, 8)), "seven"),
            r"picture 'seven' should be uint8 .* not float64 of \(8, 8\)",
        ),
        (lambda: Picture(np.zeros((8, 8, 4), np.uint8)), r"not uint8 of \(8, 8, 4\)"),
        (lambda: Picture(np.zeros((0, 8), np.uint8)), r"not uint8 of \(0, 8\)"),
        (lambda: Audio("Heard", []), "audio 'Heard' has no recordings"),
        (lambda: Sound(b"ID3", "one"), "sound 'one' should be the bytes of a wav file"),
        (lambda: Sound(WAV, "one", np.zeros((2, 2))), r"'one': its image should be uint8 .* not float64"),
        (lambda: Span("one", 0.5, 1.5), "span 'one' should be within 0 to 1, not 0.5 to 1.5"),
        (lambda: Span("one", 0.5, 0.2), "within 0 to 1, not 0.5 to 0.2"),
        (lambda: Share("cat", 1.5), "share 'cat' should be from 0 to 1, not 1.5"),
        (lambda: Share("cat", float("nan")), "from 0 to 1, not nan"),
        (lambda: render_page("Nothing", []), "page 'Nothing' has no sections"),
    ],
)
def test_a_wrong_section_says_which_and_why(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_sections_are_frozen() -> None:
    chart = Lines("Loss", CURVE, x="epoch", y="loss")
    with pytest.raises(FrozenInstanceError):
        chart.title = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (None, "{:.2f}", MISSING),
        (float("nan"), "{:.2f}", MISSING),
        (-31.24, "{:.1f}", f"{MINUS}31.2"),
        (2395210, "{}", "2,395,210"),
        (0.0123456, "{}", "0.01235"),
        (0.9912, "{:.1%}", "99.1%"),
        ("n/a", "{:.2f}", "n/a"),
        (True, "{}", "yes"),
        (2395210, "{:si}", "2.4\N{NO-BREAK SPACE}M"),
        (99_160, "{:si}B", "99.2\N{NO-BREAK SPACE}kB"),
        (999_960, "{:si}B", "1\N{NO-BREAK SPACE}MB"),
        (512, "{:si}B", "512\N{NO-BREAK SPACE}B"),
        (0, "{:si}B", "0\N{NO-BREAK SPACE}B"),
        (1.0, "{:.1f} ± {sd:.1f}", MISSING),
        (1.0, "{:.1f} of {other[1]}", "1.0 of 8"),
        (1.0, "{:.1f} of {other[2]}", MISSING),
    ],
)
def test_cells_are_written_for_a_reader(value, form: str, expected: str) -> None:
    assert format_cell({"v": value, "sd": None, "other": [7, 8]}, Column("v", format=form)) == expected


def test_a_table_without_columns_shows_every_field_in_its_order() -> None:
    table = Table("Result", [{"network": "a", "test_errors": 1}, {"network": "b", "n": 5}])
    assert [column.key for column in table.columns] == ["network", "test_errors", "n"]
    page = render_page("Result", [table])
    assert '<th scope="col" class="number">test errors</th>' in page
    assert page.count(f'<td class="number">{MISSING}</td>') == 2


def test_small_pictures_keep_every_pixel() -> None:
    import base64

    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    page = render_page("Digit", [Images("Digit", [Picture(pixels, "seven")])])
    data = re.search(r'<img class="pixels" src="data:image/png;base64,([^"]*)" alt="seven">', page)
    assert data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1])))), pixels)


def test_write_page_writes_the_rendered_page_and_nothing_beside(tmp_path) -> None:
    path = write_page(tmp_path / "runs" / "report.html", "Title", [Text("words")], footer="end")
    assert path.read_text(encoding="utf-8") == render_page("Title", [Text("words")], footer="end")
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UsageError):
        write_page(path, "Title", [Text("x" * MOST_BYTES)])
    assert path.read_text() == "old"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError):
        write_page(tmp_path / "file" / "report.html", "Title", [Text("words")])


def printed(table: Table, *, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    print_table(table, Console(file=stream, width=width))
    stream.seek(0)
    return stream.read()


RESULT = Table(
    "Result",
    [
        {"network": "student-alone", "errors": 341.6, "change": None, **{f"metric_{i}": i / 7 for i in range(9)}},
        {"network": "student-distilled", "errors": 310.4, "change": -31.2},
    ],
    highlight=1,
    caption="[bold]as it stands[/bold]",
)


def test_a_wide_table_is_changed_over_to_fit_the_terminal() -> None:
    lines = printed(RESULT, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.match(r" *network +student-alone +student-distilled", line) for line in lines)
    assert any(re.match(rf" *metric 8 +1.143 +{MISSING}", line) for line in lines)
    assert "…" not in "".join(lines)


def test_a_narrow_table_stands_upright() -> None:
    table = Table("Result", RESULT.rows, columns=[Column("network"), Column("change", format="{:.1f}")])
    lines = printed(table, width=80).splitlines()
    assert any(re.match(rf" *student-distilled +{MINUS}31.2", line) for line in lines)


def test_a_long_wide_table_folds_and_loses_no_character() -> None:
    rows = [{f"column {column}": 1000 + 20 * row + column for column in range(20)} for row in range(20)]
    lines = printed(Table("Many", rows), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)


def test_where_cells_fold_the_names_stay_whole() -> None:
    rows = [
        {"system": f"distilled-unlabelled-T{i}", "words wrong": "14.9 [10.2, 20.6]", "n": 3} for i in range(20)
    ]
    text = printed(Table("Errors", rows), width=40)
    assert all(row["system"] in text for row in rows)
    assert max(map(len, text.splitlines())) <= 40


def test_names_too_long_to_stand_whole_leave_room_for_the_others() -> None:
    rows = [
        {"finding": f"{i}. random features worse, and bad from few layers on", "interval": "[-8.8, -2.7]"}
        for i in range(20)
    ]
    lines = printed(Table("Findings", rows), width=40).splitlines()
    assert max(map(len, lines)) <= 40
    assert sum("[-8.8, -2.7]" in line for line in lines) == 20


@pytest.mark.parametrize("width", [34, 40, 60, 80])
def test_no_word_of_a_table_is_broken(width: int) -> None:
    """Long words in one column and long lines in another; and a table that fits neither way."""
    words = ["extraordinarily-long", "short", "[+100.25, +200.75]"]
    narrow = [
        {"name": f"treatment {i}", "kind": words[i % 3], "what": "a line of many words " * 4} for i in range(6)
    ]
    wide = [{"name": f"r{i}", **{f"column{j}": f"{words[(i + j) % 3]}" for j in range(6)}} for i in range(6)]
    for rows in (narrow, wide):
        text = printed(Table("Title", rows), width=width)
        assert max(map(len, text.splitlines())) <= width
        found = text.split()
        for word in (word for row in rows for value in row.values() for word in value.split()):
            assert word in found, (word, text)


def test_a_table_that_fits_neither_way_is_printed_in_parts_with_all_its_rows() -> None:
    rows = [{"name": f"row-{i}", **{f"column{j}": f"{i}.{j}-a-long-value" for j in range(6)}} for i in range(6)]
    text = printed(Table("Title", rows), width=60)
    assert text.count("column5") in (1, 3)  # three parts, by columns or by rows
    assert all(text.count(f" {i}.{j}-a-long-value") == 1 for i in range(6) for j in range(6))


def test_a_long_table_is_printed_with_some_of_its_columns_and_no_number_is_folded() -> None:
    columns = {"mean": "106.5 ± 10.1", "interval": "[-110.9, 244.9]", "training examples": "1,438"}
    rows = [{"name": f"distilled-row-{i}", **columns} for i in range(20)]
    rows[3]["paper"] = 74  # in one row alone
    text = printed(Table("Title", rows), width=50)
    assert max(map(len, text.splitlines())) <= 50
    assert text.count("distilled-row-7") in (2, 3)
    assert text.count("106.5 ± 10.1") == text.count("[-110.9, 244.9]") == text.count("1,438") == 20
    assert text.count("74") == 1


def test_words_in_a_table_are_no_markup() -> None:
    assert "[bold]as it stands[/bold]" in printed(RESULT, width=80)


def test_a_terminal_without_utf8_gets_plain_dashes() -> None:
    text = printed(Table("Result", [{"a": -1, "b": None}, {"a": "é", "b": None}]), width=80, encoding="ascii")
    assert "-1" in text
    assert "?" in text


def test_values_that_are_all_alike_have_a_place_in_their_chart() -> None:
    """As those of a quick look."""
    none = [{"class": name, "errors": 0.0} for name in ("cat", "dog")]
    bars = bars_drawing(Bars("Errors", none, category="class", value="errors"), looks_of([]))
    assert bars["layer"][0]["encoding"]["x"]["scale"] == {"domain": [0, 1]}
    several = [{"class": name, "errors": value} for name, value in (("cat", 4.0), ("dog", 5.0))]
    bars = bars_drawing(Bars("Errors", several, category="class", value="errors"), looks_of([]))
    assert bars["layer"][0]["encoding"]["x"]["axis"]["values"] == [0, 1, 2, 3, 4, 5]
    line = [{"epoch": epoch, "errors": 7.0} for epoch in (1, 2)]
    lines = lines_drawing(Lines("Training", line, x="epoch", y="errors"), looks_of([]))
    assert lines["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 14]


def test_one_seed_has_no_band_and_no_word_of_one() -> None:
    from instar.recipes.distill.page import training_curves

    rows = [{"network": "student", "epoch": epoch, "errors": 7.0, "low": 7.0, "high": 7.0} for epoch in (1, 2)]
    one, two = training_curves(rows, 1), training_curves(rows, 2)
    assert isinstance(one, Lines)
    assert isinstance(two, Lines)
    assert (one.low, one.caption) == (None, "Errors on validation after each epoch, mean over 1 seed.")
    assert two.low == "low"
    assert two.caption.endswith("mean over 2 seeds; the band is one sd to each side.")


def test_a_short_or_bad_fit_has_a_line_beside_a_good_one() -> None:
    from instar.recipes.distill.page import training_curves

    errors = {"teacher": (9.0, 4.5, 3.0), "student": (50.0, 40.0, 30.0)}
    rows = [
        {"network": name, "epoch": epoch, "errors": value, "low": value, "high": value}
        for name, values in errors.items()
        for epoch, value in enumerate(values, 1)
    ]
    chart = training_curves(rows, 1)
    assert isinstance(chart, Lines)
    shown = [(row["network"], row["epoch"]) for row in chart.rows]
    assert shown == [("teacher", 1), ("teacher", 2), ("teacher", 3), ("student", 2), ("student", 3)]
    assert "more than 40" in chart.caption


def test_few_examples_have_few_points_of_calibration() -> None:
    from instar.recipes.distill.scoring import calibration

    logits = torch.randn(95, 3, generator=torch.Generator().manual_seed(0))
    assert len(calibration({"student": [logits]}, torch.arange(95) % 3)) == 3
    assert len(calibration({"student": [logits[:20]]}, torch.arange(20) % 3)) == 1
