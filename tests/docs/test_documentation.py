"""What errors and pages of reports name is there: cards, words, the address of the site."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from command_line import Command
from instar import documentation
from instar.data.sources import FSDD, SOURCES, TEXT_SOURCES
from instar.recipes.words import SOURCES as PAPERS
from instar.recipes.words import where_to_read, words_section
from instar.reports import Column, Table, Text, render_page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", documentation.CARDS)
def test_a_module_and_its_card_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
    assert (ROOT / "docs" / f"{documentation.CARDS[module]}.md").is_file()


def test_the_commits_that_contributing_shows_are_there() -> None:
    history = subprocess.run(["git", "log", "--format=%s"], cwd=ROOT, capture_output=True, text=True)
    if history.returncode or "Lay the foundation" not in history.stdout:
        pytest.skip("needs the whole history")
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## One commit", 1)[1].split("\n## ", 1)[0]
    shown = re.findall(r"^\| (?:loss|reader|network|experiment) \| “([^”]+)” \|", table, re.MULTILINE)
    assert [subject for subject in shown if subject not in history.stdout] == []
    assert len(shown) == 4


def test_the_card_that_a_failed_download_names_knows_every_data_set() -> None:
    card = (ROOT / "docs" / "methods" / "data.md").read_text()
    names = [*SOURCES, *TEXT_SOURCES, FSDD.name]
    assert [name for name in names if f"`{name}`" not in card] == []


def test_an_error_names_its_card_in_one_line(instar: Command, tmp_path: Path) -> None:
    done = instar("data", "show", "folder:nowhere", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.endswith(f" (see docs: {documentation.address('methods/data')})\n")
    assert done.stderr.count("\n") == 1
    (tmp_path / "ants.csv").write_text("width,legs\n1.5,6\n2.5,6\n")
    done = instar("data", "show", "csv:ants.csv", cwd=tmp_path)
    assert "which column is the class?" in done.stderr
    assert done.stderr.endswith(f" (see docs: {documentation.address('methods/data-in-files')})\n")
    done = instar("export", "nowhere", "--to", "onnx", cwd=tmp_path)
    assert f"(see docs: {documentation.address('methods/using-a-network')})" in done.stderr


def test_a_site_takes_the_place_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "_site", lambda: "https://instar.example")
    assert documentation.address("methods/data") == "https://instar.example/methods/data.html"
    footer = where_to_read("instar.recipes.distill.mnist_plan")
    page = render_page("Digits", [Text("Five seeds.")], footer=footer)
    address = "https://instar.example/methods/mnist-study.html"
    assert f'about this experiment: <a href="{address}">{address}</a>; how to read it: <a ' in page


def test_a_page_says_its_words_and_no_others() -> None:
    rows = [{"n": 3, "nll": 0.5}]
    columns = [Column("n"), Column("nll", "NLL", note="of the student alone")]
    (section,) = words_section([Table("", rows, columns=columns), Text("2 candidates, undecided.")])
    words = {line.split(":")[0] for line in section.sections[0].paragraphs}
    assert words == {
        "n, ± sd",
        "NLL",
        "student",
        "candidate",
        "undecided",
        PAPERS,
    }
    assert words_section([Text("Nothing.")]) == []


def test_every_word_of_the_glossary_is_found_where_it_stands() -> None:
    for line in documentation.glossary_text().splitlines():
        if line.startswith("| **"):
            name = line.split("**")[1].split(", ")[0]
            said = [
                text for section in words_section([Text(f"A {name}.")]) for text in section.sections[0].paragraphs
            ]
            assert any(text.startswith(name) for text in said), name
