"""The code in the cards of exported networks of rows and sounds: it answers as the run does, without instar."""

import datetime
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

import instar
from instar.deploy.exported import CARD
from instar.deploy.rows import PREPARATION
from small_studies import distilled
from table_files import write_parquet

ROOT = Path(__file__).parents[2]
WITHOUT_INSTAR = 'import sys\nsys.modules["instar"] = None  # importing it fails\n'
KINDS = ("ant", "bee", "wasp")
FIT = {"epochs": 3, "learning_rate": 0.1}


def insects(number: int) -> dict[str, list[Any]]:
    """Every kind of column: numbers, whole ones, booleans, dates, few and many categories, missing values."""
    born = datetime.datetime(2024, 2, 3, 12)
    return {
        "width": [None if row % 11 == 5 else round(0.5 + row % 3 + row / 100, 2) for row in range(number)],
        "legs": [row % 7 for row in range(number)],
        "weight": [1000.0 + row % 3 for row in range(number)],  # one is missing where none was in training
        "winged": [row % 3 > 0 for row in range(number)],
        "born": [born + datetime.timedelta(days=row % 50, hours=row % 5) for row in range(number)],
        "place": [None if row % 13 == 4 else f"nest {row % 5}" for row in range(number)],
        "stripes": [("yes", "no")[row % 2] for row in range(number)],
        "site": [f"tree {row if row % 5 < 2 else row % 7}" for row in range(number)],  # the rarest are one
        "kind": [KINDS[row % 3] for row in range(number)],
    }


def code_of(folder: Path) -> str:
    """The code in the card, which names instar in the name of a file alone."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), flags=re.DOTALL)
    assert not re.search(r"instar(?!\.json)", code)
    return str(code)


def shown(code: str, folder: Path, python: str | Path = sys.executable) -> list[tuple[str, float]]:
    """The classes and probabilities that code prints, in a process that has no instar."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "-c", WITHOUT_INSTAR + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()]
    return [(name, float(probability)) for name, probability in lines]


def assert_alike(found: Sequence[tuple[str, float]], probs: torch.Tensor, names: Sequence[str]) -> None:
    """Classes and probabilities are those of the run."""
    assert len(found) == len(probs)
    for (name, probability), row in zip(found, probs, strict=True):
        assert name == names[int(row.argmax())]
        assert probability == pytest.approx(float(row.max()), abs=2e-4)


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation on a table."""
    folder = tmp_path_factory.mktemp("table")
    data = {"name": f"parquet:{write_parquet(folder / 'insects.parquet', insects(1200))}", "label": "kind"}
    student = {"network": "mlp:8x1", **FIT}
    distilled(folder / "run", data=data, teacher=student, student=student, temperature=2.0, seeds=1)
    return folder / "run"


@pytest.mark.filterwarnings("ignore::instar.errors.DataWarning")
@pytest.mark.parametrize("to", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_row_is_answered_by_the_card_as_by_the_run(table_run: Path, tmp_path: Path, to: str) -> None:
    done = instar.export(table_run, to=to, out=tmp_path / "out")
    model, code = instar.load(table_run), code_of(done.path)
    (example,) = re.findall(r"^rows = .*?\](?=  # yours)", code, flags=re.DOTALL | re.MULTILINE)
    given: dict[str, Any] = {}
    exec(example, given)
    assert set(given["rows"][0]) == set(insects(1)) - {"kind"}
    assert_alike(shown(code, done.path), model.predict_proba(given["rows"]), model.class_names)
    columns = {name: values for name, values in insects(60).items() if name != "kind"}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    rows += [
        {**rows[0], "weight": None, "site": "a tree that no training row has", "place": "", "stripes": None},
        {**rows[1], "width": " 1.25 ", "legs": "NA", "winged": "False", "born": "2024-02-05 06:00"},
    ]
    written = [{**row, "born": str(row["born"])} for row in rows]
    about = json.loads((done.path / PREPARATION).read_text())["preparation"]["columns"]
    assert {one["name"] for one in about if one["missing"]} == {"width", "place"}
    assert {one["name"] for one in about if one.get("others")} == {"site"}
    (done.path / "rows.json").write_text(json.dumps(written))
    of_a_file = code.replace(example, 'rows = json.load(open("rows.json"))')
    probs = torch.stack([model.predict_proba(as_table(row)) for row in rows])
    assert_alike(shown(of_a_file, done.path), probs, model.class_names)
    assert float(probs.max(1).values.std()) > 0.01  # rows differ, so that a wrong place of a column shows


def as_table(row: dict[str, Any]) -> Any:
    """A row as a table of Arrow."""
    return pa.Table.from_pylist([row])


@pytest.mark.slow
def test_instar_reads_the_row_of_its_card(table_run: Path, tmp_path: Path) -> None:
    done = instar.export(table_run, to="safetensors", out=tmp_path / "out")
    (code,) = re.findall(r"```python\n(.*?)```", (done.path / CARD).read_text(), flags=re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", code], cwd=done.path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()[2:-2] in KINDS


@pytest.mark.slow
def test_the_card_needs_onnxruntime_alone(table_run: Path, tmp_path: Path) -> None:
    """In an environment that has neither instar nor torch nor Arrow."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    options = ("--quiet", "--retries", "1", "--timeout", "15", "--constraint", ROOT / "constraints.txt")
    pip = [python, "-m", "pip", "install", *options, "onnxruntime", "numpy"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    installed = subprocess.run(pip, capture_output=True, text=True, env=alone)
    if re.search(
        "NewConnectionError|NameResolutionError|ConnectTimeoutError|Network is unreach", installed.stderr
    ):
        pytest.skip("needs a network, for onnxruntime in an environment of its own")
    assert installed.returncode == 0, installed.stderr
    done = instar.export(table_run, to="onnx", out=tmp_path / "out")
    code = code_of(done.path)
    assert shown(code, done.path, python) == shown(code, done.path)


@pytest.mark.slow
def test_a_clip_is_answered_by_the_card_as_by_the_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, hertz in (("high", 1200), ("low", 300)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(20):
            time = np.arange(3000 + 100 * number) / 8000
            wave = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.05 * rng.normal(size=len(time))
            soundfile.write(tmp_path / "clips" / name / f"{number}.wav", wave, 8000)
    small = {"network": "mlp:8x1", **FIT}
    data = {"name": f"folder:{tmp_path / 'clips'}"}
    distilled(tmp_path / "run", data=data, teacher=small, student=small, temperature=2.0, seeds=1)
    done = instar.export(tmp_path / "run", to="onnx", out=tmp_path / "out")
    model, code = instar.load(tmp_path / "run"), code_of(done.path)
    for seconds, rate, channels in ((0.2, 8000, 1), (2.0, 8000, 2), (0.5, 16000, 1)):
        time = np.arange(round(seconds * rate)) / rate
        wave = 0.2 * np.sin(2 * np.pi * 700 * time)[:, None] + 0.05 * rng.normal(size=(len(time), channels))
        soundfile.write(done.path / "clip.wav", wave, rate)
        probs = model.predict_proba([str(done.path / "clip.wav")])
        assert_alike(shown(code, done.path), probs, model.class_names)
