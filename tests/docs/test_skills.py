"""The skills for people's assistants: in the common form, and they run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from command_line import Command

ROOT = Path(__file__).parents[2]
SKILLS = sorted((ROOT / "skills").glob("*/SKILL.md"))
NUM_SKILLS, MOST_CHARACTERS = 4, 1024


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.parent.name)
def test_front_matter_says_name_and_when_to_use_it(skill: Path) -> None:
    found = re.match(r"---\nname: ([a-z][a-z-]*)\ndescription: (.+)\n---\n\n# ", skill.read_text())
    assert found is not None
    assert found[1] == skill.parent.name
    assert "Use " in found[2]
    assert len(found[2]) < MOST_CHARACTERS


def test_there_is_one_for_each_of_the_main_jobs() -> None:
    assert len(SKILLS) == NUM_SKILLS
    agents = (ROOT / "AGENTS.md").read_text()
    assert [skill.parent.name for skill in SKILLS if f"(skills/{skill.parent.name})" not in agents] == []


@pytest.mark.slow
@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.parent.name)
def test_a_skill_runs_word_for_word(
    skill: Path, instar: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for language, block in re.findall(r"```(sh|python)\n(.*?)```", skill.read_text(), flags=re.DOTALL):
        if language == "python":
            exec(compile(block, skill.parent.name, "exec"), {})  # a block may be all that somebody copies
            continue
        for line in block.splitlines():
            done = instar(*shlex.split(line, comments=True)[1:], cwd=tmp_path)
            assert done.returncode == 0, (line, done.stderr)
