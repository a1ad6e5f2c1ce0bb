"""`instar targets`: write, check and show a store as a user does."""

from pathlib import Path

import pytest

from command_line import Command
from instar.distillation import SoftTargetStore


@pytest.fixture(scope="module")
def stored(instar: Command, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the small run's teacher, two views."""
    path = tmp_path_factory.mktemp("targets") / "store"
    done = instar(
        *("targets", "write", "--teacher", f"{finished_run}:teacher", "--data", "digits", "--out", path),
        *("--views", "jitter:1", "--num-views", "2", "--rows-per-shard", "500"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in ("1,438", "2 of jitter:1 (view_seed 0)", "all classes, float16", "2,876", "teacher"):
        assert words in done.stdout
    return path


def test_check_and_show(typed: Command, finished_run: Path, stored: Path) -> None:
    teacher = ("--teacher", f"{finished_run}:teacher")
    done = typed("targets", "check", stored, *teacher, "--data", "digits", "--temperature", "3")
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())  # a long path breaks the line
    assert "all 2,876 rows are as they were written; shards: 6." in said
    assert "The teachers and data are those that it was written for." in said
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "4", "8", "20", "3"]
    shown = typed("targets", "show", stored)
    assert "2,876" in shown.stdout
    assert SoftTargetStore.open(stored).members == ("teacher",)


def test_an_ensemble_keeps_its_members_by_name_and_a_top_k_store_its_temperatures(
    typed: Command, finished_run: Path, tmp_path: Path
) -> None:
    members = [f"{finished_run}:teacher", f"again={finished_run}:teacher"]
    teachers = [word for member in members for word in ("--teacher", member)]
    out = ("--out", tmp_path / "store")
    done = typed("targets", "write", *teachers, *out, "--top-k", "3", "--temperature", "2,8", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "the top 3 and the total of the others" in done.stdout
    store = SoftTargetStore.open(tmp_path / "store")
    assert (store.members, store.temperatures) == (("teacher", "again"), (2.0, 8.0))
    assert "the cut to the top 3" in typed("targets", "check", tmp_path / "store").stdout
    refused = typed("targets", "check", tmp_path / "store", "--temperature", "4")
    assert refused.returncode == 2
    assert "for the temperatures 2, 8, not for 4" in refused.stderr


WRONG_USE = {
    "write --teacher nowhere:teacher": "'nowhere:teacher' is no run (nowhere/jobs/teacher is not there)",
    "write --teacher mlp:8x1": "'mlp:8x1' is no run",
    "write --teacher {run}": "holds no single network; name one of its fits",
    "write --teacher {run}:teacher --teacher {run}:teacher": "two teachers are called 'teacher'",
    "write --teacher {run}:teacher --split-seed 5": "was trained on another split of digits",
    "write --teacher {run}:teacher --data mnits": "did you mean mnist",
    "write --teacher {run}:teacher --top-k 11 --temperature 4": "top_k is 11, expected from 1 to the 10 classes",
    "write --teacher {run}:teacher --top-k 3": "give one or more",
    "write --teacher {run}:teacher --temperature hot": "'hot' should be a number",
    "write --teacher {run}:teacher --num-views 2": "the data has no views",
    "write --teacher {run}:teacher --views jtter:1": "did you mean jitter",
    "write --teacher {run}:teacher --views jitter:1": "give --num-views 2 or more",
    "write --teacher {run}:teacher --dtype int8": "expected one of float16, float32",
    "write --teacher {run}:teacher --device cuda:99": "device 'cuda:99' is not available",
    "write": "Missing option",
    "check nowhere": "nowhere is not a soft-target store",
    "show nowhere": "nowhere is not a soft-target store",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_wrong_use_is_one_line_and_leaves_nothing(
    typed: Command, finished_run: Path, tmp_path: Path, arguments: str
) -> None:
    words = [word.format(run=finished_run) for word in arguments.split(" ")]
    out = ("--out", tmp_path / "store") if words[0] == "write" else ()
    done = typed("targets", *words, *out, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert WRONG_USE[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_match_or_is_damaged_is_refused_in_one_line(
    typed: Command, finished_run: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(*arguments: str | Path) -> tuple[int, str]:
        done = typed("targets", *arguments)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.returncode, done.stderr

    teacher = ("--teacher", f"{finished_run}:teacher")
    student = f"teacher={finished_run}:student-alone/seed-0"
    status, said = refusal("check", stored, "--teacher", student)
    assert (status, "teacher 'teacher' has other weights" in said) == (2, True)
    (tmp_path / "noisy_digits.py").write_text(
        "import torch\n"
        "def data():\n"
        "    inputs, labels = torch.rand(200, 1, 8, 8), torch.arange(200) % 10\n"
        "    return (inputs[:100], labels[:100]), (inputs[100:], labels[100:])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    status, said = refusal("check", stored, "--data", "python:noisy_digits:data")
    assert (status, "was written for other data" in said) == (2, True)
    status, said = refusal("write", *teacher, "--out", stored)
    assert (status, "views is 'jitter:1' there and 'none' here" in said) == (2, True)
    shard = stored / "shard-00002.arrow"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9] + b"!" + whole[-8:])
    status, said = refusal("check", stored)
    assert (status, "shard-00002.arrow is damaged" in said) == (1, True)
    again = typed("targets", "write", *teacher, "--out", stored, *("--views", "jitter:1", "--num-views", "2"),
                  "--rows-per-shard", "500")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert shard.read_bytes() == whole
