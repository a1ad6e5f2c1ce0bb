"""What a result says of the machine and the code that made it."""

import subprocess
from pathlib import Path

import pytest

from instar.machine import commit_of, environment


def test_the_commit_is_dirty_by_changed_code_and_not_by_published_results(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        about = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *about, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert commit_of(tmp_path) is None
    git("init", "--quiet")
    (tmp_path / "src").mkdir()
    (tmp_path / "results").mkdir()
    for file in ("src/code.py", "results/study.json"):
        (tmp_path / file).write_text("1")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "results" / "study.json").write_text("2")
    commit_of.cache_clear()
    assert commit_of(tmp_path / "src") == head
    (tmp_path / "src" / "code.py").write_text("2")
    commit_of.cache_clear()
    assert commit_of(tmp_path / "src") == f"{head}-dirty"
    commit_of.cache_clear()


@pytest.mark.parametrize("program", ["/some/bin/instar", "/some/lib/instar/__main__.py"])
def test_the_command_is_the_same_for_the_program_and_the_module(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "distill", "--data", "digits"])
    assert environment()["command"] == ["instar", "distill", "--data", "digits"]
