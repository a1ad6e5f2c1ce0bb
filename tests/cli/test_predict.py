"""`instar.load` and `instar predict`: a finished run answers for new examples."""

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import instar
from command_line import TINY, Command
from data_files import write_image_folder
from instar.deploy import find_fit, load
from instar.deploy.loading import why_taken
from instar.errors import DataError, UsageError
from instar.evaluation import predict_logits
from instar.recipes.distill.recipe import STUDY
from instar.recipes.loading import load_run_network, settings_of
from instar.recipes.splits import load_splits
from instar.runs import REPORT, Run
from small_studies import distilled


@pytest.fixture(scope="module")
def picture_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation on normalised colour pictures, some of them of another size."""
    folder = tmp_path_factory.mktemp("pictures")
    data = {"name": f"folder:{write_image_folder(folder / 'photos', per_class=12)}", "image_size": 10}
    data["normalise"] = "0.4,0.5,0.6/0.2"
    student = {"network": "mlp:4x1", "epochs": 2, "learning_rate": 0.1}
    about = {"data": data, "student": student, "temperature": 2.0, "seeds": 3}
    distilled(folder / "run", teacher={"network": "mlp:8x1", "epochs": 1, "learning_rate": 0.1}, **about)
    return folder / "run"


def pictures(run: Path) -> list[Path]:
    return sorted((run.parent / "photos").rglob("*.png"))


def copied_with(run: Path, to: Path, *, distilled: float, alone: float) -> Path:
    """A copy of a run whose students made so many validation errors, and one fewer with seed 1."""
    shutil.copytree(run, to)
    for name, errors in (("student-distilled", distilled), ("student-alone", alone)):
        for fit in (to / "jobs" / name).iterdir():
            content = json.loads((fit / "result.json").read_text())
            content["metrics"]["validation_errors"] = errors - (fit.name == "seed-1")
            (fit / "result.json").write_text(json.dumps(content))
    return to


def test_what_uses_a_run_says_which_student_it_takes_and_why(
    picture_run: Path, tmp_path: Path, typed: Command
) -> None:
    run = copied_with(picture_run, tmp_path / "alone", distilled=3, alone=1)
    why = "errors on validation: student-distilled 2 and student-alone 0"
    *commands, said = STUDY.use(str(run), Run.read(run).result())
    assert said == (
        f"# {run} stands for student-alone/seed-1, not for a distilled student: validation decides ({why})"
    )
    assert commands[-1].endswith(f"predict {run}:student-distilled PICTURE_OR_FOLDER    # the distilled student")
    done = typed("export", run, "--to", "safetensors", "-o", tmp_path / "out")
    assert f"Network: {run}/jobs/student-alone/seed-1 ({why})\n" in done.stdout
    named = typed("export", f"{run}:student-alone/seed-1", "--to", "safetensors", "-o", tmp_path / "named")
    assert f"Network: {run}/jobs/student-alone/seed-1\n" in named.stdout

    run = copied_with(picture_run, tmp_path / "distilled", distilled=1, alone=3)
    said = STUDY.use(str(run), Run.read(run).result())[-1]
    assert said == f"# {run} stands for student-distilled/seed-1, the best student on validation"
    run = copied_with(picture_run, tmp_path / "tie", distilled=1, alone=1)
    why = "errors on validation: student-distilled 0 and student-alone 0"
    assert why_taken(run) == f"{why}, and of equal ones student-distilled is taken"
    assert find_fit(run).parent.name == "student-distilled"


def test_the_student_with_the_fewest_validation_errors_is_taken(
    picture_run: Path, tmp_path: Path, typed: Command
) -> None:
    def validation(fit: Path) -> tuple[float, float]:
        metrics = Run.read(fit).result()["metrics"]
        return metrics["validation_errors"], metrics["validation_nll"]

    distilled, alone = (
        sorted((picture_run / "jobs" / name).iterdir()) for name in ("student-distilled", "student-alone")
    )
    assert find_fit(f"{picture_run}:student-distilled") == min(distilled, key=validation)
    best_of_each = (min(distilled, key=validation), min(alone, key=validation))
    assert find_fit(picture_run) == min(best_of_each, key=lambda fit: validation(fit)[0])
    run = copied_with(picture_run, tmp_path / "run", distilled=3, alone=1)
    best, why = run / "jobs" / "student-alone" / "seed-1", "student-distilled 2 and student-alone 0"
    done = typed("predict", run, pictures(picture_run)[0])
    assert f"network: {best} (errors on validation: {why})" in done.stderr
    assert load(f"{picture_run}:student-alone/seed-1").source == picture_run / "jobs" / "student-alone" / "seed-1"


def test_a_model_answers_as_the_run_did(picture_run: Path) -> None:
    model = instar.load(picture_run)
    assert model.source is not None
    splits = load_splits(settings_of(Run.read(model.source).config)[0])
    network, parts = load_run_network(model.source), (splits.train, splits.validation, splits.test)
    expected = torch.cat([torch.softmax(predict_logits(network, part), -1) for part in parts])
    found = model.predict_proba(pictures(picture_run))
    assert len(found) == len(expected) == 24
    apart = torch.cdist(found, expected)
    assert float(apart.min(0).values.max()) < 1e-5 < float(apart.max())

    one = pictures(picture_run)[0]
    with Image.open(one) as image:
        ways = [str(one), one, one.read_bytes(), image.copy()]
    assert len({model.predict(way) for way in ways}) == 1
    array = np.random.default_rng(0).integers(0, 255, (10, 10, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for other in (tensor, tensor.float() / 255, Image.fromarray(array)):
        torch.testing.assert_close(model.predict_proba(other), model.predict_proba(array))
    several = [
        model.predict_proba(batch) for batch in (torch.stack([tensor] * 3), np.stack([array] * 3), [array] * 3)
    ]
    assert [tuple(probs.shape) for probs in several] == [(3, len(model.class_names))] * 3
    assert model.predict_proba([]).shape == (0, len(model.class_names))


@pytest.mark.slow
def test_a_fit_that_was_moved_answers_without_its_data(picture_run: Path, tmp_path: Path) -> None:
    fit, picture = find_fit(picture_run), pictures(picture_run)[0]
    expected = load(fit).predict_proba(picture)
    shutil.copytree(fit, tmp_path / "moved")
    shutil.copy(picture, tmp_path / "picture.png")
    script = "import instar; print(instar.load('moved').predict_proba('picture.png').tolist())"
    how = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, "text": True}
    hidden = picture_run.parent / "photos"
    hidden.rename(picture_run.parent / "away")
    try:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, **how)  # type: ignore[call-overload]
    finally:
        (picture_run.parent / "away").rename(hidden)
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected)


def test_predict_writes_a_row_for_each_picture_in_each_format(
    picture_run: Path, tmp_path: Path, typed: Command
) -> None:
    folder, model = picture_run.parent / "photos", load(picture_run)
    (folder / ".hidden").mkdir(exist_ok=True)
    shutil.copy(pictures(picture_run)[0], folder / ".hidden" / "hidden.png")
    names = [str(file) for file in pictures(picture_run) if ".hidden" not in file.parts]
    done = typed("predict", picture_run, folder, "--top-k", "2", "--explain")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["input"] for row in rows] == names
    assert [row["class"] for row in rows] == model.predict(names)
    probs = model.predict_proba(names)
    assert [float(row["probability"]) for row in rows] == pytest.approx(probs.max(-1).values.tolist(), abs=1e-5)
    entropy = torch.special.entr(probs).sum(-1).tolist()
    assert [float(row["entropy"]) for row in rows] == pytest.approx(entropy, abs=1e-4)
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in rows)
    assert str(find_fit(picture_run)) in done.stderr

    lines, table = tmp_path / "answers.jsonl", tmp_path / "answers.parquet"
    for out in (lines, table):
        assert typed("predict", picture_run, *names, "--out", out, "--quiet").returncode == 0
    assert [json.loads(line)["class"] for line in lines.read_text().splitlines()] == model.predict(names)
    assert pq.read_table(table)["class"].to_pylist() == model.predict(names)


def test_an_unreadable_input_is_one_line_and_does_not_end_the_rest(
    picture_run: Path, tmp_path: Path, typed: Command
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = [pictures(picture_run)[0], pictures(picture_run)[1]]
    given = [good[0], tmp_path / "broken.png", tmp_path / "missing.png", good[1]]
    done = typed("predict", picture_run, *given)
    assert done.returncode == 1
    assert [line.split(",")[0] for line in done.stdout.splitlines()[1:]] == list(map(str, good))
    assert "broken.png: not an image" in done.stderr
    assert "missing.png: no such file, and this network takes pictures" in done.stderr
    assert done.stderr.endswith("2 of 4 inputs could not be read\n")
    strict = typed("predict", picture_run, *given, "--strict", "--out", tmp_path / "out.csv")
    assert strict.returncode != 0
    assert strict.stderr.count("instar:") == 1
    assert not (tmp_path / "out.csv").exists()


def test_arrays_are_read_from_npy(finished_run: Path, tmp_path: Path, typed: Command) -> None:
    test = instar.load_data("digits").test
    inputs = test.gather(test.ids, 0)
    np.save(tmp_path / "digits.npy", inputs.numpy())
    done = typed("predict", finished_run, tmp_path / "digits.npy", "--quiet")
    assert done.returncode == 0, done.stderr
    fit = find_fit(finished_run)
    expected = predict_logits(load_run_network(fit), test).argmax(-1).tolist()
    assert [row["class"] for row in csv.DictReader(io.StringIO(done.stdout))] == list(map(str, expected))
    wrong = typed("predict", finished_run, "--strict", tmp_path / "wrong.npy")
    assert wrong.returncode != 0
    assert "wrong.npy" in wrong.stderr


def test_integers_are_scaled_as_those_of_the_data(finished_run: Path) -> None:
    test, model = instar.load_data("digits").test, load(finished_run)
    assert test.normalisation[0] == 1 / 16
    raw = test.raw(test.rows(test.ids))
    assert not raw.is_floating_point()
    torch.testing.assert_close(model.predict_proba(raw), model.predict_proba(test.gather(test.ids, 0)))


def test_arrays_of_any_layout_are_taken_and_what_is_no_number_is_refused(finished_run: Path) -> None:
    model, array = load(finished_run), np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    expected = model.predict_proba(array)
    for other in (array.astype(">f4"), array[..., ::-1].copy()[..., ::-1]):
        torch.testing.assert_close(model.predict_proba(other), expected)
    with pytest.raises(DataError, match="NaN or infinite"):
        model.predict(np.full((1, 8, 8), np.nan))
    with pytest.raises(DataError, match="expected numbers"):
        model.predict(np.full((1, 8, 8), "a"))


def test_arrays_that_cannot_be_read_are_a_line_each(finished_run: Path, tmp_path: Path, typed: Command) -> None:
    good = np.zeros((2, 1, 8, 8), np.float32)
    np.save(tmp_path / "good.npy", good)
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "several.npz", one=good)
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    np.save(tmp_path / "nan.npy", np.full((2, 1, 8, 8), np.nan))
    np.save(tmp_path / "text.npy", np.full((2, 1, 8, 8), "a"))
    names = [tmp_path / f"{name}.npy" for name in ("empty", "several", "nan", "text", "good")]
    done = typed("predict", finished_run, *names, "--quiet", "--out", tmp_path / "answers.csv")
    assert done.returncode == 1
    assert done.stderr.count("instar:") == 5, done.stderr
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 3


def test_a_name_that_is_no_utf8_is_written_with_escapes(picture_run: Path, tmp_path: Path, typed: Command) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/\xff.png")
    shutil.copy(pictures(picture_run)[0], name)
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"answers.{ending}"
        done = typed("predict", picture_run, name, "--quiet", "--out", out)
        assert done.returncode == 0, done.stderr
    assert "\\xff.png" in (tmp_path / "answers.csv").read_text()


@pytest.mark.slow
def test_a_distillation_ends_with_the_commands_that_use_it(finished_run: Path, instar: Command) -> None:
    shown = instar("distill", *TINY, "--run-dir", finished_run)
    lines = [line.strip() for line in shown.stdout.partition("Use it:\n")[2].splitlines()]
    assert lines[0].endswith(f"instar predict {finished_run} PICTURE_OR_FOLDER")
    assert lines[1].endswith(f"instar export {finished_run} --to onnx")
    program = [*shlex.split(lines[0])[:-3], "--version"]  # as it was started, or as it can be
    assert subprocess.run(program, capture_output=True, text=True).stdout.startswith("instar ")
    assert "PICTURE_OR_FOLDER" in (finished_run / REPORT).read_text().partition("Use it")[2]
    done = subprocess.run(shlex.split(lines[2]), capture_output=True, text=True)
    assert done.stdout == f"{tuple('0123456789')}\n", done.stderr


def test_wrong_uses_are_one_clear_error(
    finished_run: Path, finished_transfer: Path, picture_run: Path, tmp_path: Path, typed: Command
) -> None:
    with pytest.raises(UsageError, match="name one of them"):
        load(finished_transfer)
    with pytest.raises(UsageError, match="there is no run"):
        load(tmp_path)
    data = (torch.rand(8, 2), torch.arange(8) % 2)
    instar.train(torch.nn.Linear(2, 2), data, epochs=1, run_dir=tmp_path / "own")
    with pytest.raises(UsageError, match="a module of your own"):
        load(tmp_path / "own")
    with pytest.raises(UsageError, match=r"shape \(3, 4, 4\), this network takes \(3, 10, 10\)"):
        load(picture_run).predict(torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match="cannot be read"):
        load(picture_run).predict("nowhere.png")
    for arguments, expected in (
        ((picture_run, tmp_path), "found no picture"),
        ((picture_run, "a.png", "--format", "xml"), "expected csv, jsonl, parquet"),
        ((picture_run, "a.png", "--format", "parquet"), "name a file with --out"),
    ):
        done = typed("predict", *arguments)
        assert done.returncode == 2
        assert expected in done.stderr
