"""`instar targets`: write, check and show a store as a user does."""

import json
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


def test_a_store_that_is_read_sparse_says_what_its_readings_leave_out(
    typed: Command, finished_run: Path, tmp_path: Path
) -> None:
    teacher, out = ("--teacher", f"{finished_run}:teacher"), tmp_path / "store"
    kept = ("--top-k", "3", "--temperature", "1,2", "--draws", "5", "--quiet")
    done = typed("targets", "write", *teacher, "--out", out, *kept)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "the top 3 and the total of the others, 5 draws of them at 1, 16 rows in full, float16" in shown
    done = typed("targets", "check", out)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert rows["reading"][1:] == ["tail", "drawn", "even", "tail", "even"]
    assert rows["noise,"][-2:] == ["0", "0"]
    kept_in_full = json.loads(typed("targets", "check", out, "--json", "--temperature", "2").stdout)
    assert kept_in_full["rows"] == 1438
    assert [(one["reading"], one["temperature"]) for one in kept_in_full["readings"][::2]] == [
        ("tail", 2.0),
        ("even", 2.0),
    ]
    assert all(one["bias"] > 0 and one["rows"] == 16 for one in kept_in_full["readings"])
    even = kept_in_full["readings"][-1]
    assert even["floor_nats"] > 1e-4 > kept_in_full["readings"][0]["floor_nats"]
    asked = json.loads(typed("targets", "check", out, *teacher, "--json", "--temperature", "2").stdout)
    assert asked["compared"] == ["teachers"]
    assert asked["readings"][-1]["bias"] == pytest.approx(even["bias"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [("--top-k", "3", "--draws", "0", "--temperature", "2"), ("--hidden",)])
@pytest.mark.filterwarnings("ignore:.* has no draws")
def test_students_learn_from_a_store_that_is_not_laid_out(
    kept: tuple[str, ...], typed: Command, finished_run: Path, tmp_path: Path
) -> None:
    store = ("--out", tmp_path / "store", "--quiet")
    done = typed("targets", "write", "--teacher", f"{finished_run}:teacher", *store, *kept)
    assert done.returncode == 0, done.stderr
    assert "any" in done.stdout or kept[0] == "--top-k"
    command = ("distill", "--targets", tmp_path / "store", "--student", "mlp:4x1", "--epochs", "1", "--seeds", "2")
    done = typed(*command, "--temperature", "2", "--run-dir", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["name"] for row in json.loads(done.stdout)["rows"]} == {"student-alone", "student-distilled"}
    for option, said in (
        (("--loss", "dist"), "loss dist needs the probabilities of all classes"),
        (("--label-weight", "0.5"), "label_weight above 0 needs the probabilities of all classes"),
        (("--reading", "drawn"), "has no draws" if kept[0] == "--top-k" else "is for a top-k store"),
    ):
        refused = typed(*command, "--temperature", "2", *option, "--run-dir", tmp_path / "other", "--json")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert said in refused.stderr
        assert not (tmp_path / "other").exists()
    if kept[0] == "--top-k":
        done = typed(*command, "--temperature", "2", "--reading", "even", "--run-dir", tmp_path / "even", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["config"]["reading"] == "even"
    alone = typed("distill", "--reading", "tail", "--run-dir", tmp_path / "other")
    assert (alone.returncode, "name their folder with --targets" in alone.stderr) == (2, True)


WRONG_USE = {
    "write --teacher nowhere:teacher": "'nowhere:teacher' is no run (nowhere/jobs/teacher is not there)",
    "write --teacher mlp:8x1": "'mlp:8x1' is no run",
    "write --teacher {run}": "holds no single network; name one of its fits",
    "write --teacher {run}:teacher --teacher {run}:teacher": "two teachers are called 'teacher'",
    "write --teacher {run}:teacher --split-seed 5": "was trained on another split of digits",
    "write --teacher {run}:teacher --data mnits": "did you mean mnist",
    "write --teacher {run}:teacher --top-k 11 --temperature 4": "top_k is 11, expected from 1 to the 10 classes",
    "write --teacher {run}:teacher --top-k 3": "give one or more",
    "write --teacher {run}:teacher --draws 4": "draws are of the classes outside the top k: give top_k too",
    "write --teacher {run}:teacher --top-k 3 --temperature 1 --draws-at 1": "there are no draws: give draws too",
    "write --teacher {run}:teacher --hidden --top-k 3 --temperature 1": "in place of logits: leave top_k out",
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
