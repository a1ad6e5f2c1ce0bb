"""Every command and every option that documents and help texts name is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import command_options, commands

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")),
    *(ROOT / "docs" / "methods").glob("*.md"),
    *(ROOT / "docs" / "tutorials").glob("*.md"),
    *(ROOT / "skills").glob("*/SKILL.md"),
]
"""The changelog tells of commands that were there."""

KNOWN = command_options()
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]\b")
OF_OTHERS = {"--address", "--head", "--help", "--index-url", "--port"}
"""Options of ray and pip, and that of all commands."""
OF_TIMM = {
    *("--kd-model-name", "--kd-temperature", "--kd-distill-type", "--task-loss-weight", "--distill-loss-weight"),
    *("--smoothing",),
}
"""Those of timm's train.py, which one page translates."""


def name_of(page: Path) -> str:
    """What tests call a page: its name, or its folder's."""
    return page.parent.name if page.stem == "SKILL" else page.stem


def typed_commands(text: str) -> Iterator[str]:
    """The lines of shell blocks that call instar, and commands in backticks."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|\| )(instar .*)", line):
                yield re.split(r"\s#\s", found[1])[0]
    yield from re.findall(r"`(instar [^`]*[^`.])`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def words_of(command: str) -> tuple[str, list[str]]:
    """The words that name a command, and what follows them."""
    rest = shlex.split(command)[1:]
    words = ""
    while rest and f"{words} {rest[0]}".strip() in KNOWN:
        words = f"{words} {rest.pop(0)}".strip()
    return words, rest


def test_commands_are_found() -> None:
    text = "`instar data` and\n```sh\nfind . | instar predict RUN - --top-k 3   # a --comment\n```\n"
    assert list(typed_commands(text)) == ["instar predict RUN - --top-k 3  ", "instar data"]
    assert words_of("instar speech train data/train --epochs 3") == (
        "speech train",
        ["data/train", "--epochs", "3"],
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_there(page: Path) -> None:
    for command in typed_commands(page.read_text()):
        words, rest = words_of(command)
        assert words or not rest or rest[0].startswith("-"), f"{page.name}: no such command: {command}"
        options = {option for option in rest if option.startswith("--")}
        assert options <= KNOWN[words] | {"--help"}, f"{page.name}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_of_a_page_belongs_to_a_command(page: Path) -> None:
    known = set().union(*KNOWN.values()) | OF_OTHERS | (OF_TIMM if page.stem == "coming-from" else set())
    in_words = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert set(OPTION.findall(in_words)) <= known, page.name


def test_every_option_of_a_help_text_is_there() -> None:
    known = set().union(*KNOWN.values())
    for words, command in commands().items():
        for text in [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]:
            for option in OPTION.findall(text):
                assert option in known, f"instar {words} --help: {option}"
            for named in re.findall(r"`(instar [^`]+)`", text):
                assert words_of(named)[0], f"instar {words} --help: {named}"
