"""Teachers that are no network on the command line, end to end."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import instar as library
from command_line import Command
from instar.data import load_data

SMALL = ("--student", "mlp:16x1", "--epochs", "8", "--seeds", "3", "--learning-rate", "0.3", "--quiet")


@pytest.fixture(scope="module")
def forest() -> RandomForestClassifier:
    """A forest that never saw a validation or a test example; pixels from 0 to 1."""
    train = load_data("digits").train
    rows = train.gather(train.ids, 0).flatten(1).numpy()
    return RandomForestClassifier(50, random_state=0).fit(rows, train.labels(train.ids).numpy())


def test_probabilities_in_a_parquet_file_give_a_distilled_student_in_two_commands(
    instar: Command, forest: RandomForestClassifier, tmp_path: Path
) -> None:
    probs = forest.predict_proba(load_digits().data / 16)
    table = {"row": np.arange(len(probs)), **{str(digit): probs[:, digit] for digit in range(10)}}
    pa.parquet.write_table(pa.table(table), tmp_path / "answers.parquet")
    first = instar("targets", "import", "answers.parquet", "--data", "digits", "--out", "store", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "1,438" in first.stdout
    words = ("--data", "digits", "--targets", "store", "--temperature", "1,2", *SMALL)
    second = instar("distill", *words, "--run-dir", "run", "--json", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    result = json.loads(second.stdout)
    (difference,) = result["differences"]
    assert difference["low"] < difference["mean"] < difference["high"]
    assert difference["n"] == 3
    checked = instar("targets", "check", "store", "--data", "digits", cwd=tmp_path)
    assert "The data are those that it was written for." in " ".join(checked.stdout.split())


def test_import_says_what_it_did_and_refuses_in_one_line(instar: Command, tmp_path: Path) -> None:
    probs = np.zeros((1797, 10))
    probs[:, 0], probs[3] = 1, 0
    np.savez(tmp_path / "a.npz", probs=probs, class_names=[str(digit) for digit in range(10)])
    done = instar("targets", "import", "a.npz", "--data", "digits", "--out", "store", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "Took all classes to be equally likely in 1 rows of zeros.\n")
    np.savez(tmp_path / "b.npz", probs=probs[:, 1:], class_names=[str(digit) for digit in range(1, 10)])
    wrong = instar("targets", "import", "b.npz", "--data", "mnits", "--out", "other", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_file_is_a_teacher_of_the_commands(
    instar: Command, forest: RandomForestClassifier, tmp_path: Path
) -> None:
    skops = pytest.importorskip("skops.io")
    skops.dump(forest, tmp_path / "forest.skops")
    teacher = ("--teacher", "sklearn:forest.skops")
    done = instar("distill", *teacher, "--temperature", "2", *SMALL, "--run-dir", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    test = load_data("digits").test
    rows = test.gather(test.ids, 0).flatten(1).numpy()
    wrong = forest.predict_proba(rows).argmax(1) != test.labels(test.ids).numpy()
    assert result["rows"][0]["mean"] == int(wrong.sum())
    again = instar("distill", *teacher, "--temperature", "2", *SMALL, "--run-dir", "run", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["rows"] == result["rows"]
    written = instar("targets", "write", *teacher, "--data", "digits", "--out", "store", "--quiet", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    checked = instar("targets", "check", "store", *teacher, "--data", "digits", cwd=tmp_path)
    assert "The teachers and data are those" in " ".join(checked.stdout.split())
    skops.dump(
        RandomForestClassifier(5, random_state=1).fit(rows, test.labels(test.ids).numpy()),
        tmp_path / "forest.skops",
    )
    other = instar("distill", *teacher, "--temperature", "2", *SMALL, "--run-dir", "run", "--json", cwd=tmp_path)
    assert other.returncode != 0
    assert other.stderr.count("\n") == 1, other.stderr
    refused = instar("targets", "check", "store", *teacher, "--data", "digits", cwd=tmp_path)
    assert "other weights" in refused.stderr


@pytest.mark.slow
def test_teachers_of_several_kinds_are_one_ensemble(
    instar: Command, forest: RandomForestClassifier, finished_run: Path, tmp_path: Path
) -> None:
    skops = pytest.importorskip("skops.io")
    skops.dump(forest, tmp_path / "forest.skops")
    teachers = f"sklearn:forest.skops,{finished_run}:teacher"
    words = ("--teacher", teachers, "--temperature", "2", *SMALL, "--run-dir", "run", "--json")
    done = instar("distill", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["details"]["members"]) == 2


def test_wrong_teachers_are_refused_in_one_line(typed: Command, tmp_path: Path) -> None:
    for name, words in (
        ("onnx:nowhere.onnx", "nowhere.onnx cannot be read: No such file"),
        ("sklearn:forest.joblib", "a pickle runs code when it is read"),
        ("xgboost:", "should be xgboost:FILE.json"),
        ("lightgbm:model.bin", "expected FILE.txt"),
    ):
        for command in (("distill",), ("targets", "write", "--out", "store")):
            done = typed(*command, "--data", "digits", "--teacher", name, cwd=tmp_path)
            assert done.returncode == 2, done.stderr
            assert words in done.stderr
            assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_in_python_probabilities_are_taken_for_what_they_are(forest: RandomForestClassifier) -> None:
    test = load_data("digits").test
    probs = torch.from_numpy(forest.predict_proba(test.gather(test.ids, 0).flatten(1).numpy()))
    logits = library.logits_of_probabilities("the forest", probs)
    found = library.StoredLogits(test.ids, logits, temperature=1.0)(test.ids, 0).probs  # type: ignore[union-attr]
    torch.testing.assert_close(found.double(), probs, rtol=1e-4, atol=1e-5)
