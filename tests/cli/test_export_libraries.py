"""`instar export` of networks of timm and transformers, and of those that take several tensors."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import instar
from data_files import write_image_folder
from instar.deploy import find_fit, load, load_run_network
from instar.deploy.exported import CARD, INT8
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.export_record import read_about
from instar.networks.libraries import operators
from instar.recipes.splits import splits_of
from instar.runs import Run
from library_networks import vit_folder
from small_studies import distilled

NAMES = ("cat", "cow", "dog")
WITHOUT_INSTAR = f"""
import runpy, sys
sys.modules["instar"] = None  # importing it fails
runpy.run_path({operators.__file__!r})["repair_torchvision"]()
"""


@pytest.fixture(scope="module")
def pictures_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of timm that teaches one of transformers."""
    folder = tmp_path_factory.mktemp("libraries")
    vit_folder(folder / "vit", None)
    (folder / "vit" / "model.safetensors").unlink()
    photos = write_image_folder(folder / "photos", classes=NAMES, per_class=30)
    fit = {"epochs": 1, "learning_rate": 0.01, "batch_size": 16}
    distilled(
        folder / "run",
        data={"name": f"folder:{photos}", "normalise": "0.4,0.5,0.6/0.2"},
        teacher={"network": "timm:test_vit:32", **fit},
        student={"network": f"transformers:{folder / 'vit'}", **fit},
        temperature=2.0,
        seeds=1,
    )
    return folder / "run"


def shown_by_the_card(folder: Path, python: str | Path = sys.executable) -> tuple[str, float]:
    """What the card's code prints, in a process that has no instar: a class and its probability."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), flags=re.DOTALL)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", WITHOUT_INSTAR + code], cwd=folder, capture_output=True, text=True, env=alone
    )
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.rsplit(maxsplit=1)
    return name, float(probability)


@pytest.mark.slow
@pytest.mark.parametrize(("job", "to"), [("teacher", "timm"), ("student-distilled", "transformers")])
def test_a_library_loads_its_network_without_instar(pictures_run: Path, tmp_path: Path, job: str, to: str) -> None:
    run = f"{pictures_run}:{job}"
    done = instar.export(run, to=to, out=tmp_path / "out")
    row = done.files[0].row
    assert row.errors == row.run_errors
    assert row.agreement == 1
    assert 0 <= row.largest_difference < 1e-4 * max(1, row.largest_logit)
    names = sorted((pictures_run.parent / "photos").rglob("*.png"))[:5]
    probs = load(run).predict_proba(names)
    shutil.copy(names[0], tmp_path / "out" / "picture.png")
    name, probability = shown_by_the_card(done.path)
    assert name == NAMES[int(probs[0].argmax())]
    assert probability == pytest.approx(float(probs[0].max()), abs=0.03)  # the library resizes bytes
    torch.testing.assert_close(load(done.path).predict_proba(names), probs, atol=1e-5, rtol=0)
    about = (done.path / CARD).read_text().split("---")[1]
    assert f'library_name: "{to}"' in about
    for file in done.path.iterdir():
        assert str(pictures_run.parent).encode() not in file.read_bytes(), file
    with pytest.raises(UsageError, match=rf"is no network of .* \(\w+\): use --to {to}, --to onnx"):
        instar.export(run, to="timm" if to == "transformers" else "transformers", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_the_libraries_load_their_exports_where_instar_is_not_installed(
    pictures_run: Path, tmp_path: Path
) -> None:
    """In an environment of its own, which finds torch and the libraries in this one: nothing is downloaded."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "instar" not in package.name and package.suffix != ".pth":
            (packages / package.name).symlink_to(package)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, "-c", "import instar"], env=alone, cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'instar'" in done.stderr
    picture = next((pictures_run.parent / "photos").rglob("*.png"))
    for job, to in (("teacher", "timm"), ("student-distilled", "transformers")):
        done_export = instar.export(f"{pictures_run}:{job}", to=to, out=tmp_path / to)
        shutil.copy(picture, done_export.path / "picture.png")
        probs = load(f"{pictures_run}:{job}").predict_proba(picture)
        name, probability = shown_by_the_card(done_export.path, python)
        assert name == NAMES[int(probs.argmax())], to
        assert probability == pytest.approx(float(probs.max()), abs=0.03), to  # resized bytes


@pytest.fixture(scope="module")
def words_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that teaches a mean of embeddings, on ids of their own length with a mask."""
    path = tmp_path_factory.mktemp("words") / "run"
    of = "python:structured_studies"
    instar.distill_study(
        data=f"{of}:word_data", teacher=f"{of}:word_bert", student=f"{of}:word_network", teacher_epochs=2,
        epochs=2, temperature=2, learning_rate=0.1, teacher_learning_rate=0.1, seeds=1, run_dir=path, quiet=True,
    )  # fmt: skip
    return path


SEVERAL = {"input_ids": [[5, 3, 9], [8], [4, 4, 1, 2, 7, 7, 3]]}


@pytest.mark.slow
@pytest.mark.parametrize(("job", "to"), [("teacher", "onnx"), ("student-distilled", "torch")])
def test_examples_of_their_own_length_have_dynamic_batch_and_length(
    words_run: Path, tmp_path: Path, job: str, to: str
) -> None:
    run = f"{words_run}:{job}"
    done = instar.export(run, to=to, int8=to == "onnx", out=tmp_path / "out")
    row = done.files[0].row
    assert row.errors == row.run_errors
    assert row.largest_difference < 1e-4 * max(1, row.largest_logit)
    expected = load(run).predict_proba(SEVERAL)
    name, probability = shown_by_the_card(done.path)
    assert name in "abc"
    assert 0 < probability <= 1
    if to == "torch":
        network = torch.export.load(done.path / "model.pt2").module()
        for place, ids in enumerate(SEVERAL["input_ids"]):
            batch = {
                "input_ids": torch.tensor([ids]),
                "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
            }
            torch.testing.assert_close(network(batch).softmax(-1)[0], expected[place], atol=1e-5, rtol=0)
        return
    torch.testing.assert_close(load(done.path).predict_proba(SEVERAL), expected, atol=1e-4, rtol=0)
    int8 = done.files[1].row
    # The mask of attention would ruin the range of anything but a product of matrices.
    assert 0 < int8.largest_difference < 0.1 * int8.largest_logit
    assert float((load(done.path / INT8).predict_proba(SEVERAL) - expected).abs().max()) < 0.05
    assert read_about(done.path)["input_shape"]["input_ids"] == ["int64", "<=8"]


@pytest.mark.slow
def test_a_text_network_of_transformers_is_loaded_by_it(words_run: Path, tmp_path: Path) -> None:
    run = f"{words_run}:teacher"
    done = instar.export(run, to="transformers", out=tmp_path / "out")
    row = done.files[0].row
    assert row.largest_difference < 1e-4 * max(1, row.largest_logit)
    assert shown_by_the_card(done.path)[0] in "abc"
    assert "the tokenizer that made them is not in this folder" in (done.path / CARD).read_text()
    splits = splits_of(Run.read(find_fit(run)).config)
    expected = predict_logits(load_run_network(find_fit(run)), splits.test)
    code = f"""{WITHOUT_INSTAR}
import numpy, torch, transformers
network = transformers.AutoModelForSequenceClassification.from_pretrained({str(done.path)!r}).eval()
given = {{key: torch.from_numpy(value) for key, value in numpy.load("inputs.npz").items()}}
with torch.no_grad():
    numpy.save("logits.npy", network(**given).logits.numpy())
"""
    inputs = splits.test.gather(splits.test.ids, 0)
    np.savez(tmp_path / "inputs.npz", **{name: one.numpy() for name, one in inputs.items()})
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "logits.npy")), expected, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match=r"is no network of transformers \(Words\): use --to onnx"):
        instar.export(f"{words_run}:student-distilled", to="transformers", out=tmp_path / "other")
