"""Rows from files to a run and back: what prepares them is kept, and raw rows are answered."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import instar
from command_line import Command
from instar.data.records.frames import table_of
from instar.deploy.rows import PREPARATION, Rows
from instar.errors import RunError, UsageError
from instar.recipes.distill.recipe import STUDY
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.loading import settings_of
from instar.recipes.reading_settings import checked
from instar.recipes.splits import load_splits, with_found_columns
from instar.recipes.study import run_path
from instar.runs import Run
from small_studies import distilled
from table_files import insects, write_csv, write_jsonl, write_parquet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation on a table."""
    folder = tmp_path_factory.mktemp("rows")
    data = {"name": f"csv:{write_csv(folder / 'insects.csv', insects(60))}", "label": "kind"}
    student = {"network": "mlp:4x1", "epochs": 2, "learning_rate": 0.1}
    about: dict[str, Any] = {"data": data | {"features": ["width", "legs"]}, "student": student, "seeds": 1}
    teacher = {"network": "mlp:8x1", "epochs": 1, "learning_rate": 0.1}
    distilled(folder / "run", teacher=teacher, temperature=2.0, **about)
    return folder / "run"


def rows_in(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_raw_rows_are_answered_as_the_prepared_ones_were(run: Path) -> None:
    model, table = instar.load(run), insects(60)
    assert model.source is not None
    splits = load_splits(settings_of(Run.read(model.source).config)[0])
    frame = pd.DataFrame(table)
    whole = model.predict_proba(frame)
    prepared = splits.preparation.inputs(table_of(frame), splits.roles)  # type: ignore[union-attr, arg-type]
    assert torch.allclose(whole, model.predict_proba(prepared), atol=1e-6)
    several = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    numbers = np.stack([table["width"], table["legs"]], axis=1)
    for given in (table, several, numbers, numbers.tolist(), frame[["legs", "width"]]):
        assert torch.allclose(model.predict_proba(given), whole, atol=1e-6)
    assert model.predict(several[0]) == model.predict(several)[0]
    with pytest.raises(UsageError, match=r"the rows lack 'legs'; this network takes 'width', 'legs', the"):
        model.predict({"width": 1.0})
    with pytest.raises(UsageError, match=r"row 0: expected 'width', 'legs', found a list of int, int, int"):
        model.predict([[1, 2, 3]])


def test_files_of_rows_are_predicted_and_a_broken_row_is_one_line(
    run: Path, typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {name: column for name, column in insects(12).items() if name != "kind"}
    files = [
        write_csv(tmp_path / "new.csv", table),
        write_jsonl(tmp_path / "new.jsonl", table),
        write_parquet(tmp_path / "new.parquet", table),
    ]
    done = typed("predict", str(run), *map(str, files))
    assert done.returncode == 0, done.stderr
    rows = rows_in(done.stdout)
    assert [row["input"] for row in rows[:2]] == [f"{files[0]}:1", f"{files[0]}:2"]
    assert (
        [row["class"] for row in rows[:12]]
        == [row["class"] for row in rows[12:24]]
        == [row["class"] for row in rows[24:]]
    )
    write_csv(files[0], {name: column for name, column in table.items() if name != "legs"})
    done = typed("predict", str(run), str(files[0]), str(files[1]))
    assert done.returncode == 1
    assert "lack 'legs'" in done.stderr
    assert len(rows_in(done.stdout)) == 12


@pytest.mark.slow
def test_what_prepares_rows_is_kept_checked_and_exported(run: Path, typed: Command, tmp_path: Path) -> None:
    fit = run / "jobs" / "student-distilled" / "seed-0"
    rows = Rows.read(fit, Run.read(fit).config["preparation"])
    assert rows.columns == ("width", "legs")
    assert Run.read(run).result()["details"]["transfer"]["examples_are"] == "rows"
    done = typed("export", str(fit), "--to", "safetensors", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    row = {"width": 1.25, "legs": 3}
    expected = instar.load(fit).predict_proba(row)
    assert torch.allclose(instar.load(tmp_path / "out").predict_proba(row), expected, atol=1e-5)
    moved = shutil.copytree(fit, tmp_path / "moved")
    assert torch.equal(instar.load(moved).predict_proba(row), expected)
    for folder in (moved, tmp_path / "out"):
        content = json.loads((folder / PREPARATION).read_bytes())
        (folder / PREPARATION).write_text(json.dumps(content | {"roles": {"features": ["legs", "width"]}}))
        with pytest.raises(RunError, match=r"preparation\.json is damaged \(its checksum is another one\)"):
            instar.load(folder)
    (moved / PREPARATION).unlink()
    with pytest.raises(RunError, match=r"preparation\.json is damaged"):
        instar.load(moved)


def test_data_shows_columns_roles_and_classes(run: Path, typed: Command) -> None:
    source = f"csv:{run.parent / 'insects.csv'}"
    shown = typed("data", "show", source, "--label", "kind", "--group", "place", "--features", "width,legs")
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    assert "legs whole number features 0 0" in words
    assert "place text group 0 nest 0" in words
    assert "Groups of 'place': " in words
    assert max(map(len, shown.stdout.splitlines())) <= 80
    about = json.loads(typed("data", "show", source, "--label", "kind", "--features", "width", "--json").stdout)
    assert {row["class"]: row["train"] + row["validation"] + row["test"] for row in about["classes"]} == {
        "ant": 20,
        "bee": 20,
        "wasp": 20,
    }
    assert about["roles"] == {"label": "kind", "features": ["width"]}


@pytest.mark.slow
def test_the_card_of_exported_texts_has_code_that_reads_a_text(typed: Command, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    words = {"bank": "my balance is low", "alarm": "wake me up at six", "music": "play the next song"}
    rows = [{"message": f"{words[name]} {place}", "topic": name} for place in range(20) for name in words]
    data = {
        "name": f"csv:{write_csv(tmp_path / 'texts.csv', {key: [row[key] for row in rows] for key in rows[0]})}",
        "label": "topic",
    }
    small = {"network": "bag:8", "epochs": 2, "learning_rate": 0.05, "optimiser": "adamw"}
    distilled(tmp_path / "run", data=data, teacher=small, student=small, temperature=2.0, seeds=1)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "TEXTS.csv" in page
    assert any(f"{row['message']}</td>" in page for row in rows)
    done = typed("export", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`instar predict FOLDER rows.csv`, a file with the column `message`." in card
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    model = instar.load(tmp_path / "out")
    probability = float(model.predict_proba(["a text of yours"]).max())
    name, stated = ran.stdout.split()
    assert [name] == model.predict(["a text of yours"])
    assert float(stated) == pytest.approx(probability, abs=2e-4)


def test_columns_that_are_named_or_guessed_are_one_run(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", insects(60))
    named: list[dict[str, Any]] = [
        {"label": "kind"},
        {"label": "kind", "features": ["width", "legs", "place"]},
        {"label": "kind", "split_seed": 1},
    ]
    configs = [checked(DistillConfig, {"data": {"name": f"csv:{file}", **columns}}) for columns in named]
    one, same, other = (run_path(STUDY, with_found_columns(config)) for config in configs)
    assert one == same
    assert one != other
    assert with_found_columns(configs[0]).data.features == ("width", "legs", "place")
