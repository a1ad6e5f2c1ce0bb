"""What the README says works when it is typed; what it quotes stands in results/."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from instar.data import known_data

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "methods").glob("*.md"))]
NOT_FOR_USERS = {"dev", "docs"}
"""Extras that CONTRIBUTING installs."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_first_code_block_is_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert first is not None
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
    assert README.index(first[0]) < 4000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    if "load_fsdd" in page.read_text() and not any(one.name == "fsdd" and one.where for one in known_data()):
        pytest.skip("needs the spoken digits under INSTAR_DATA")
    for example in blocks("python", page.read_text()):
        exec(compile(example, page.name, "exec"), namespace)


def test_quoted_result_is_the_published_one() -> None:
    result = json.loads((ROOT / "results" / "distill-mnist.json").read_text())
    alone, distilled = result["rows"][1:]
    difference = result["differences"][0]
    for number in (
        f"{alone['mean']:.1f} ± {alone['sd']:.1f}",
        f"{distilled['mean']:.1f} ± {distilled['sd']:.1f}",
        f"[{difference['low']:.1f}, {difference['high']:.1f}]",
        f"n = {difference['n']}",
    ):
        assert number.replace("-", "\u2212") in README or number in README, number


def test_install_names_every_extra_and_each_is_there() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    install = README.split("## Install\n")[1].split("```python")[0]
    for extra in extras - NOT_FOR_USERS:
        assert re.search(rf"\b{extra}\b", install), f"the extra {extra} is not named under `Install` in README.md"
    for page in [*PAGES, ROOT / "AGENTS.md"]:
        for named in re.findall(r"instar\[([\w,-]+)\]", page.read_text()):
            assert set(named.split(",")) <= extras, f"{page.name}: instar[{named}]"


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
            link = target[0] or target[1]
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name} -> {link}"


def test_no_link_of_the_readme_on_the_package_index_leads_nowhere() -> None:
    """There a relative link would: pyproject.toml says what becomes of them."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = README
    for one in hook["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []
    assert "All rows are in `docs/results.md`" in text


def test_the_address_of_every_link_in_the_metadata_is_whole() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls
    assert all(url.startswith("https://") for url in urls.values())
