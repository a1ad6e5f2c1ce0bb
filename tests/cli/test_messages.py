"""A message that names an option names one that the command has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import instar
from command_line import Command, command_options, commands
from instar.networks.fitted import ESTIMATORS

SOURCE = Path(instar.__file__).parent
OPTION = re.compile(r"(?<!var\()(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
STUDIES = ["distill", "transfer", "advise", "specialists"]
EACH = [*STUDIES, "reproduce mnist", "speech train"]  # runs jobs in a run directory
READS_DATA = [*STUDIES, "data show", "targets write", "targets check"]
OTHERS = {"--head": "ray start --head", "--data-binary": "curl --data-binary"}
"""Options of other programs, by what they stand in."""

ALL_OF: dict[str, list[str]] = {"data": READS_DATA, "runs.py": EACH, "jobs": EACH}
"""Messages of a folder or file that any of these commands may show: all have the option."""

ONE_OF: dict[str, list[str]] = {
    "recipes/distill": ["distill", "reproduce mnist"],
    "recipes/transfer": ["transfer", "reproduce transfer"],
    "recipes/advise": ["advise", "reproduce advise"],
    "recipes/specialists": ["specialists", "reproduce specialists"],
    "recipes/speech": ["speech train", "speech align", "reproduce speech"],
    "recipes/targets.py": ["targets write", "targets check"],
}


@pytest.fixture(scope="module")
def instar_help(typed: Command) -> str:
    return typed("distill", "--help").stdout


def messages(path: Path) -> Iterator[str]:
    """The sentences in a file, without its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings and " " in str(node.value):
            yield str(node.value)


FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
NAMED = [
    (file, option)
    for file in FILES
    for text in messages(SOURCE / file)
    for option in OPTION.findall(text)
    if OTHERS.get(option, "\0") not in text
]


def test_options_are_found() -> None:
    assert ("data/readers/images.py", "--image-size") in NAMED


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_option_that_a_message_names_is_one_of_the_command(file: str) -> None:
    known = command_options()
    for option in [option for named, option in NAMED if named == file]:
        assert any(option in of_command for of_command in known.values()), option
        for place, several in ALL_OF.items():
            if file.startswith(place):
                assert [name for name in several if option not in known[name]] == [], option
        for place, several in ONE_OF.items():
            if file.startswith(place):
                assert any(option in known[name] for name in several), option


def test_a_flag_shows_no_type(instar_help: str) -> None:
    assert "--quiet" in instar_help
    assert "<bool>" not in instar_help
    assert "<int>" in instar_help


def test_the_help_of_a_teacher_names_those_that_are_fitted(instar_help: str) -> None:
    about = instar_help.split(" --teacher ", 1)[1].split(" --teachers ", 1)[0]
    assert [name for name in ESTIMATORS if name not in about] == []


PROSE = {"and", "did", "do", "does", "from", "import", "is", "knows", "raises", "reads", "that"}
"""Words that follow the library's name in sentences about it."""


def test_every_command_that_a_message_names_is_there() -> None:
    found = {
        (file, words)
        for file in FILES
        for text in messages(SOURCE / file)
        for words in re.findall(r"(?<![\w.'])instar ([a-z]+(?: [a-z]+)?)", text)
        if words.split()[0] not in PROSE
    }
    assert ("networks/libraries/of_timm.py", "networks") in found
    known = commands()
    for file, words in found:
        first = words.split()[0]
        assert first in known, f"{file}: instar {words}"
        groups = getattr(known[first], "commands", {})
        assert not groups or " " not in words or words in known, f"{file}: instar {words}"
