"""`instar export`: what is written answers as the run does, by itself; and what is refused."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import instar
from command_line import Command
from data_files import write_image_folder
from instar.deploy import find_fit, load, load_run_network
from instar.deploy.exported import CARD, INT8
from instar.documentation import address
from instar.errors import DataError, RunError, UsageError
from instar.evaluation import predict_logits, score
from instar.export_record import ABOUT, read_about
from instar.files import load_tensors, tensor_bytes
from instar.recipes.splits import load_splits, splits_of
from instar.runs import FINAL, Run
from small_studies import SMALL, distilled

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation of a convnet on normalised colour pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    data = {"name": f"folder:{write_image_folder(folder / 'photos', per_class=40)}", "image_size": 10}
    data["normalise"] = "0.4,0.5,0.6/0.2"
    student = {"network": "convnet:4x4", "epochs": 3, "learning_rate": 0.05}
    about = {"data": data, "student": student, "temperature": 2.0, "seeds": 2}
    distilled(folder / "run", teacher={"network": "mlp:8x1", "epochs": 2, "learning_rate": 0.1}, **about)
    return (
        folder / "run:student-distilled"
    )  # without a name it would be the one alone, which is better on validation


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """That network as ONNX, in float and in eight bits."""
    return instar.export(run, int8=True, out=run.parent / "shipped").path


def pictures(run: Path) -> list[Path]:
    return sorted((run.parent / "photos").rglob("*.png"))


def test_the_table_says_how_the_files_answer(run: Path, exported: Path) -> None:
    assert sorted(os.listdir(exported)) == sorted([ABOUT, CARD, INT8, "model.onnx"])
    about, fit = read_about(exported), find_fit(run)
    splits = splits_of(Run.read(fit).config)
    logits = predict_logits(load_run_network(fit), splits.validation)
    row, int8 = about["parity"]["model.onnx"], about["parity"][INT8]
    assert (
        row["errors"]
        == row["run_errors"]
        == score(logits, splits.validation.labels(splits.validation.ids))["errors"]
    )
    assert row["agreement"] == 1
    assert 0 <= row["largest_difference"] < 1e-4 * max(1, row["largest_logit"])
    assert row["largest_logit"] == pytest.approx(float(logits.abs().max()))
    assert 0 < int8["largest_difference"] < 0.2 * row["largest_logit"]
    assert row["bytes"] == (exported / "model.onnx").stat().st_size
    assert min(row["latency_1_ms"], row["latency_64_ms"], int8["latency_1_ms"]) > 0
    assert about["class_names"] == list(splits.class_names)
    assert (about["input_shape"], about["colours"], about["size"]) == ([3, 10, 10], "rgb", [10, 10])
    assert about["normalisation"]["mean"] == pytest.approx([0.4, 0.5, 0.6])
    assert about["normalisation"]["std"] == pytest.approx([0.2, 0.2, 0.2])


def test_the_snippet_of_the_card_answers_as_the_run_without_instar(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    shipped = tmp_path / "elsewhere"
    shutil.copytree(exported, shipped)
    code = re.findall(r"```python\n(.*?)```", (shipped / CARD).read_text(), flags=re.DOTALL)
    assert len(code) == 1
    assert not re.search("instar(?!.json)|torch", code[0])
    model, rng = load(run), np.random.default_rng(0)
    see_through = Image.fromarray(rng.integers(0, 255, (14, 9, 4), dtype=np.uint8), "RGBA")
    turned = Image.fromarray(rng.integers(0, 255, (8, 20, 3), dtype=np.uint8))
    turned.getexif()[0x0112] = 6
    for number, picture in enumerate([Image.open(pictures(run)[0]), see_through, turned]):
        picture.save(shipped / "picture.png", exif=picture.getexif())
        probs = model.predict_proba(shipped / "picture.png")
        done = subprocess.run([sys.executable, "-c", code[0]], cwd=shipped, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        name, probability = done.stdout.rsplit(maxsplit=1)
        assert name == model.class_names[int(probs.argmax())], number
        assert float(probability) == pytest.approx(float(probs.max()), abs=2e-4)


@pytest.mark.slow
def test_the_snippet_of_the_card_answers_in_an_environment_with_onnxruntime_alone(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    """A machine that has the folder, and neither instar nor torch nor scikit-learn."""
    shipped, python = tmp_path / "shipped", tmp_path / "env" / "bin" / "python"
    shutil.copytree(exported, shipped)
    shutil.copy(pictures(run)[0], shipped / "picture.png")
    venv.create(tmp_path / "env", with_pip=True)
    options = ("--quiet", "--retries", "1", "--timeout", "15", "--constraint", ROOT / "constraints.txt")
    pip = [python, "-m", "pip", "install", *options, "onnxruntime", "numpy", "pillow"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(pip, capture_output=True, text=True, env=alone)
    if re.search("NewConnectionError|NameResolutionError|ConnectTimeoutError|Network is unreachable", done.stderr):
        pytest.skip("needs a network, for onnxruntime in an environment of its own")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, env=alone, check=True)
    assert "onnxruntime" in listed.stdout
    assert not re.search("(?m)^(torch|instar|scikit-learn|onnx) ", listed.stdout)
    (code,) = re.findall(r"```python\n(.*?)```", (shipped / CARD).read_text(), flags=re.DOTALL)
    done = subprocess.run([python, "-c", code], cwd=shipped, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.rsplit(maxsplit=1)
    probs = load(run).predict_proba(shipped / "picture.png")
    assert name == load(run).class_names[int(probs.argmax())]
    assert float(probability) == pytest.approx(float(probs.max()), abs=2e-4)


def test_the_card_has_the_numbers_of_the_run_and_metadata_that_parse(run: Path, exported: Path) -> None:
    text = (exported / CARD).read_text()
    about = yaml.safe_load(text.split("---")[1])
    splits = splits_of(Run.read(find_fit(run)).config)
    scores = score(
        predict_logits(load_run_network(find_fit(run)), splits.test), splits.test.labels(splits.test.ids)
    )
    (result,) = about["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(scores["accuracy"], abs=1e-5)
    assert about["pipeline_tag"] == "image-classification"
    row = next(
        one for one in Run.read(run.with_name("run")).result()["rows"] if one["name"] == "student-distilled"
    )
    for words in (
        f"makes {scores['errors']} errors",
        "temperature 2",
        "`mlp:8x1`",
        f"n = {row['n']} seeds of this kind: {row['mean']:.1f}",
        "Compared with student-alone",
        "| `model.int8.onnx` |",
        f"{len(splits.train)} training, {len(splits.validation)} validation",
        "red, green, blue, 10 high and 10 wide",
    ):
        assert words in text, words
    for file in exported.iterdir():
        assert str(run.parent).encode() not in file.read_bytes()
        assert str(Path(instar.__file__).parent).encode() not in file.read_bytes()
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(text)
    assert card.data.eval_results[0].metric_value == pytest.approx(scores["accuracy"], abs=1e-5)


def test_exports_answer_from_python_and_from_the_shell(run: Path, exported: Path, typed: Command) -> None:
    names = pictures(run)
    expected = load(run).predict_proba(names)
    torch.testing.assert_close(load(exported).predict_proba(names), expected, atol=1e-4, rtol=0)
    assert float((load(exported / INT8).predict_proba(names) - expected).abs().max()) < 0.2
    done = typed("predict", exported, *names, "--explain", "--calibrated")
    assert done.returncode == 0, done.stderr
    assert "calibration error" in done.stderr
    known = read_about(exported)["calibration"]["model.onnx"]
    cooled = torch.softmax(expected.log() / known["temperature"], -1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(row["probability"]) for row in rows] == pytest.approx(cooled.max(-1).values.tolist(), abs=1e-3)
    ranks = [float(row["rank"]) for row in rows]
    assert all(0 <= rank <= 1 for rank in ranks)
    order = np.argsort([float(row["probability"]) for row in rows])
    assert ranks == sorted(ranks) or np.all(np.diff(np.array(ranks)[order]) >= 0)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torch", "safetensors"])
def test_other_formats_answer_without_the_run(run: Path, tmp_path: Path, typed: Command, to: str) -> None:
    done = typed("export", run, "--to", to, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "largest difference" in " ".join(done.stdout.split())
    names = pictures(run)
    if to == "safetensors":
        found = load(tmp_path / "out").predict_proba(names)
    else:
        inputs = torch.stack([load(run).preprocess(name) for name in names])
        network = torch.export.load(tmp_path / "out" / "model.pt2").module()
        found = torch.softmax(network(inputs), -1).detach()
        assert network(inputs[:1]).shape == (1, len(load(run).class_names))
        with ZipFile(tmp_path / "out" / "model.pt2") as archive:  # no pickle, no example, no path of this machine
            for name in archive.namelist():
                assert not re.search(rb"\x80\x02|site-packages|/instar/", archive.read(name)) or "weights" in name
        with pytest.raises(UsageError, match=r"torch\.export\.load.*--to safetensors"):
            load(tmp_path / "out")
    torch.testing.assert_close(found, load(run).predict_proba(names), atol=1e-5, rtol=0)
    code = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / CARD).read_text(), flags=re.DOTALL)[0]
    shutil.copy(names[0], tmp_path / "out" / "picture.png")
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True, env=paths
    )
    assert load(run).predict(names[0]) in shown.stdout, shown.stderr


def test_a_flipped_byte_is_refused(run: Path, tmp_path: Path) -> None:
    folder = instar.export(run, to="safetensors", out=tmp_path / "out").path
    for name in ("model.safetensors", ABOUT):
        whole = (folder / name).read_bytes()
        load(folder)
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(RunError, match=r"checksum|damaged"):
            load(folder)
        (folder / name).write_bytes(whole)


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    finished_run: Path, run: Path, exported: Path, tmp_path: Path, typed: Command
) -> None:
    (tmp_path / "there").mkdir()
    for arguments, expected in (
        ((run, "-o", tmp_path / "there"), "exists"),
        ((run, "--to", "coreml", "-o", tmp_path / "a"), "expected onnx, torch, safetensors"),
        ((run, "--to", "torch", "--int8", "-o", tmp_path / "a"), "--int8 is for --to onnx"),
        ((exported, "-o", tmp_path / "a"), "export the run that it comes from"),
        ((run, "--to", "timm", "-o", tmp_path / "a"), "is no network of timm (Sequential): use --to onnx"),
        ((tmp_path / "nowhere", "-o", tmp_path / "a"), "there is no run"),
    ):
        done = typed("export", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert expected in done.stderr
    unfinished = tmp_path / "unfinished"
    shutil.copytree(find_fit(finished_run), unfinished)
    (unfinished / "DONE").unlink()
    changed, older = (shutil.copytree(find_fit(finished_run), tmp_path / name) for name in ("changed", "older"))
    with_other_weights(changed, 1 + 1e-6)  # less than validation shows
    with_other_weights(older, -1.0)
    without_checksum(older)
    for path, expected in (
        (unfinished, "is not finished"),
        (changed, "final.safetensors was changed after the run was finished"),
        (older, "its weights were changed"),
    ):
        done = typed("export", path, "-o", tmp_path / "out")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert expected in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["changed", "older", "there", "unfinished"]


def with_other_weights(fit: Path, factor: float) -> None:
    tensors, about = load_tensors(fit / FINAL)
    name = next(name for name, value in tensors.items() if value.dim() == 2)
    (fit / FINAL).write_bytes(tensor_bytes(tensors | {name: factor * tensors[name]}, about))


def without_checksum(fit: Path) -> None:
    """As an older instar wrote it."""
    result = json.loads((fit / "result.json").read_text())
    del result["weights_sha256"]
    (fit / "result.json").write_text(json.dumps(result))


@pytest.mark.slow
def test_of_an_older_run_it_is_said_what_is_not_known(finished_run: Path, tmp_path: Path) -> None:
    fit = shutil.copytree(find_fit(finished_run), tmp_path / "older")
    without_checksum(fit)
    done = instar.export(fit, to="safetensors", out=tmp_path / "out")
    assert "has no checksum of its weights" in done.said[0]
    assert done.said[0] in (done.path / CARD).read_text()


def test_a_run_whose_data_are_gone_is_refused_and_still_predicts(
    run: Path, tmp_path: Path, typed: Command
) -> None:
    fit, picture = find_fit(run), tmp_path / "picture.png"
    load_splits.cache_clear()
    shutil.copy(pictures(run)[0], picture)
    (run.parent / "photos").rename(run.parent / "away")
    try:
        export = typed("export", fit, "-o", tmp_path / "out")
        calibrated = typed("predict", fit, picture, "--calibrated", "--quiet")
        explained = typed("predict", fit, picture, "--explain", "--quiet")
    finally:
        (run.parent / "away").rename(run.parent / "photos")
    for done in (export, calibrated):
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "the data that it was trained on are needed" in done.stderr
    assert not (tmp_path / "out").exists()
    assert explained.returncode == 0
    assert "no rank" in explained.stderr
    assert "entropy" in explained.stdout


BATCH_BOUND = """
import torch
from torch import nn

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs):
        logits = self.linear(inputs.flatten(1))
        return logits if float(inputs.sum()) > -1e9 else -logits  # depends on the values: no exporter follows it

def network(input_shape, num_classes):
    return Counting()
"""


@pytest.mark.slow
def test_a_network_that_no_exporter_follows_says_what_stopped_it(
    tmp_path: Path, typed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting_network.py").write_text(BATCH_BOUND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    student = {**SMALL["student"], "network": "python:counting_network:network", "epochs": 2}
    distilled(
        tmp_path / "run",
        **{**SMALL, "student": student, "seeds": 1, "teacher": {"network": "mlp:8x1", "epochs": 1}},
    )
    for to, others in (("onnx", "--to torch or --to safetensors"), ("torch", "--to safetensors")):
        done = typed("export", tmp_path / "run", "--to", to, "-o", tmp_path / "out", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert done.stderr.endswith(f"try {others} (see docs: {address('methods/shipping')})\n"), done.stderr
        assert f"cannot be exported to {to}" in done.stderr
        assert re.search(r" at counting_network\.py:\d+ in forward", done.stderr), done.stderr
        assert len(done.stderr) < 800
    assert not list(tmp_path.glob(".out*")) + list(tmp_path.glob("out"))
    assert (
        typed("export", tmp_path / "run", "--to", "safetensors", "-o", tmp_path / "out", cwd=tmp_path).returncode
        == 0
    )
    assert load(tmp_path / "out").predict(np.zeros((1, 8, 8), np.float32)) in map(str, range(10))


def test_a_missing_package_is_one_line_that_names_the_extra(
    finished_run: Path, tmp_path: Path, typed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = typed("export", finished_run, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (
        2,
        "instar: onnxscript is not installed: pip install 'instar[onnx]' "
        f"(see docs: {address('methods/shipping')})\n",
    )


def test_calibrated_probabilities_have_the_likeliest_temperature(
    finished_run: Path, tmp_path: Path, typed: Command
) -> None:
    test = instar.load_data("digits").test
    np.save(tmp_path / "digits.npy", test.gather(test.ids, 0).numpy())
    asked = ("predict", finished_run, tmp_path / "digits.npy", "--format", "jsonl", "--explain")
    plain, done = typed(*asked, "--quiet"), typed(*asked, "--calibrated")
    assert plain.returncode == done.returncode == 0, done.stderr
    temperature = float(re.findall(r"temperature ([\d.]+)", done.stderr)[0])
    fit = find_fit(finished_run)
    validation = splits_of(Run.read(fit).config).validation
    logits, labels = predict_logits(load_run_network(fit), validation), validation.labels(validation.ids)
    grid = torch.logspace(-1, 1, 400)
    losses = torch.stack([torch.nn.functional.cross_entropy(logits / one, labels) for one in grid])
    assert temperature == pytest.approx(float(grid[losses.argmin()]), rel=0.03)
    before, after = ([json.loads(line) for line in one.stdout.splitlines()] for one in (plain, done))
    assert [row["class"] for row in before] == [row["class"] for row in after]
    confidence = torch.softmax(logits, -1).amax(-1)
    for row in before[:50]:
        assert row["rank"] == pytest.approx(float((confidence < row["probability"]).float().mean()), abs=0.02)


@pytest.mark.slow
def test_three_lines_use_what_every_experiment_trained(
    finished_transfer: Path, tmp_path: Path, typed: Command
) -> None:
    from instar.recipes.transfer.recipe import use_it

    lines = use_it(str(finished_transfer), Run.read(finished_transfer).result())
    predict, export, python = [shlex.split(line, comments=True) for line in lines]
    np.save(tmp_path / "a.npy", np.zeros((1, 1, 8, 8), np.float32))
    assert predict[-1] == "PICTURE_OR_FOLDER"
    assert typed(*predict[1:-1], tmp_path / "a.npy").returncode == 0
    assert export[1:2] + export[3:] == ["export", "--to", "onnx"]
    assert instar.load(export[2]).class_names
    done = subprocess.run(python, capture_output=True, text=True)
    assert "('" in done.stdout, done.stderr
    with pytest.raises((DataError, UsageError)):
        instar.load(tmp_path)
