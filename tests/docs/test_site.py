"""The site fails where something is missing: a broken link, an image, a name, a card, a term."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from pygments import highlight
from pygments.lexers.shell import BashLexer

ROOT = Path(__file__).parents[2]
SITE = runpy.run_path(str(ROOT / "docs" / "site_pages.py"))


def test_every_card_is_in_one_group_of_the_guides() -> None:
    SITE["guides"]((ROOT / "README.md").read_text())


def test_what_a_block_prints_stands_below_it() -> None:
    page = "# Title\n\n```python\nx = 3\n```\n\nWords.\n\n```python\nprint(x)\nprint(x + 1)\n```\n\nEnd.\n"
    shown = SITE["_with_outputs"](page, "a-page")
    assert shown == page.replace("\n\nEnd.", "\n```text\n3\n4\n```\n\nEnd.")


def test_a_card_in_no_group_is_named() -> None:
    readme = (ROOT / "README.md").read_text()
    with pytest.raises(
        ValueError, match=r"docs/methods/views\.md is in 0 groups of the table `Guides` in README\.md"
    ):
        SITE["guides"](readme.replace("docs/methods/views.md", "docs/methods/data.md"))
    twice = readme.replace("[the advisor]", "[data](docs/methods/data.md), [the advisor]")
    with pytest.raises(ValueError, match=r"docs/methods/data\.md is in 2 groups"):
        SITE["guides"](twice)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Sphinx says of documents with a fault of each kind."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "AGENTS.md"):
        shutil.copy(ROOT / name, folder)
    card = folder / "docs" / "methods" / "views.md"
    card.write_text(
        card.read_text() + "\n[nowhere](missing.md), [no part](data.md#no-such-part)\n\n![none](none.png)\n"
    )
    tutorials = sorted((folder / "docs" / "tutorials").glob("*.md"))
    for page in tutorials:
        page.write_text(page.read_text().replace("<!-- run -->", ""))
    tutorials[0].write_text("<!-- run -->\n# Fails\n\n```python\nprint(undefined_name)\n```\n")
    errors = folder / "docs" / "api" / "errors.md"
    errors.write_text(errors.read_text().replace("names: instar.errors", "names: instar.jobs"))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--nitpicky",
        "--quiet",
        "docs",
        "out",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        *("missing.md", "no-such-part", "none.png", "instar.DataError (instar.errors) is on no page"),
        "name 'undefined_name' is not defined",
    ],
)
def test_a_fault_fails_the_build_and_is_named(broken: str, fault: str) -> None:
    assert fault in broken


def explained() -> Iterator[str]:
    """The headings of the columns that pages explain by a note: words that not every reader knows."""
    for path in (ROOT / "src" / "instar" / "recipes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_column = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Column"
            if is_column and any(word.arg == "note" for word in node.keywords):
                texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
                words = [text for text in texts if text and "{" not in text]
                yield words[-1].split(",")[0]


PLAIN = {
    *(
        "accuracy",
        "features",
        "mean",
        "minus base",
        "minus generalist",
        "minus scratch",
        "pairs",
        "similarity",
        "size",
    ),
    *("errors", "largest difference", "ms", "outside found", "ten best", "test", "training", "use", "validation"),
    "within the intents",
}
"""Words that need no more than their note."""


def test_the_glossary_has_the_words_of_the_pages() -> None:
    terms = " ".join(re.findall(r"^\| (\*\*.+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE))
    found = set(explained())
    assert {"NLL", "latency"} <= found
    assert sorted(word for word in found - PLAIN if word not in terms) == []


def test_a_line_of_a_listing_is_an_element_with_options_that_are_not_broken() -> None:
    code = "instar export RUN --to onnx -o out  # a-b --int8\n\n  instar data show mnist\n"
    shown = highlight(code, BashLexer(), SITE["_Lines"]())
    assert unescape(re.sub("<[^>]+>", "", shown)).rstrip("\n") == code.rstrip("\n")
    assert shown.count('<span class="line">') == 3
    assert re.findall(r'<span class="option">(.*?)</span>', shown) == ["--to", "-o", "--int8"]
