"""A CSV: teachers that are fitted in the command, students, an interval, and new rows; and the study on tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from command_line import Command
from instar import load
from instar.data import load_data
from instar.errors import UsageError
from instar.recipes.distill.settings import read_config
from instar.recipes.loading import load_run_network
from instar.recipes.settings import DataSettings, TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.runs import Run

pytest.importorskip("lightgbm")
pytest.importorskip("skops")


def passengers(number: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.integers(1, 80, number), "port": random.choice(["C", "Q", "S"], number)})
    frame["fare"] = random.gamma(2, 20, number).round(2)
    frame.loc[random.random(number) < 0.1, "fare"] = np.nan
    luck = random.normal(0, 10, number)
    frame["survived"] = np.where(frame["age"] + 20 * (frame["port"] == "C") + luck > 50, "no", "yes")
    return frame


@pytest.fixture(scope="module")
def run(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    passengers().to_csv(folder / "passengers.csv", index=False)
    done = instar(
        *("distill", "--data", f"csv:{folder}/passengers.csv", "--label", "survived"),
        *("--teacher", "lightgbm,forest", "--folds", "3", "--sampled-rows", "100", "--student", "mlp:8x1"),
        *("--epochs", "3", "--learning-rate", "0.1", "--temperature", "2", "--seeds", "2", "--tuning-seeds", "1"),
        *("--run-dir", folder / "run"),
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.slow
def test_teachers_are_fitted_and_their_targets_are_out_of_fold(run: Path) -> None:
    config = Run.read(run).config
    splits = load_splits(DataSettings(**config["data"]))
    for member in ("teacher/member-0", "teacher/member-1"):
        network = load_run_network(run / "jobs" / member)
        stored = load_file(run / "jobs" / f"{member}-logits" / "logits.safetensors")
        transfer = training_data(splits, TransferSettings(sampled_rows=100))
        places = {one: place for place, one in enumerate(stored["ids"].tolist())}
        own = stored["logits"][[places[one] for one in splits.train.ids.tolist()]]
        in_sample = network(splits.train.gather(splits.train.ids, 0))
        labels = splits.train.labels(splits.train.ids)
        right = [(logits.argmax(-1) == labels).float().mean() for logits in (own, in_sample)]
        assert right[0] < right[1] - 0.02
        sampled = transfer.ids[transfer.labels(transfer.ids) < 0]
        assert 50 < len(sampled) <= 100
        answers = network(transfer.gather(sampled, 0))
        assert torch.allclose(stored["logits"][[places[one] for one in sampled.tolist()]], answers, atol=1e-5)
        unseen = stored["logits"][[places[one] for one in splits.validation.ids.tolist()]]
        assert torch.allclose(unseen, network(splits.validation.gather(splits.validation.ids, 0)), atol=1e-5)


@pytest.mark.slow
def test_validation_decides_on_sampled_rows(run: Path) -> None:
    result = Run.read(run).result()
    tried = [row.get("sampled_rows") for row in result["tuning"] if row["name"] == "student-distilled"]
    assert tried == [0, 100]
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["teacher"]["network"] == "lightgbm + forest"
    assert rows["teacher"]["parameters"] is None
    student = Run.read(run / "jobs" / "student-distilled" / "seed-0").config
    chosen = rows["student-distilled"]["sampled_rows"]
    assert student.get("transfer") == ({"sampled_rows": 100} if chosen else None)
    assert Run.read(run / "jobs" / "student-alone" / "seed-0").config.get("transfer") is None


@pytest.mark.slow
def test_student_and_teachers_answer_rows_as_they_were_in_the_file(instar: Command, run: Path) -> None:
    rows = passengers(5).drop(columns="survived")
    rows.to_csv(run.parent / "new.csv", index=False)
    for spec in (f"{run}", f"{run}:teacher/member-1"):
        probs = load(spec).predict_proba(rows.to_dict("records"))
        assert probs.shape == (5, 2)
        predicted = instar("predict", spec, run.parent / "new.csv")
        assert predicted.returncode == 0, predicted.stderr
        assert predicted.stdout.count("\n") >= 5


@pytest.mark.slow
def test_a_fitted_teacher_teaches_in_another_run(run: Path) -> None:
    config = read_config({"teacher": {"network": f"{run}:teacher/member-0"}})
    assert config.teacher.network.endswith("member-0")
    splits = load_splits(DataSettings(**Run.read(run).config["data"]))
    network = load_run_network(run / "jobs" / "teacher" / "member-0")
    assert len(network.fingerprint) == 64
    assert network(splits.test.gather(splits.test.ids[:2], 0)).shape == (2, 2)


def test_what_cannot_be_asked_for(typed: Command) -> None:
    for arguments, reason in (
        (("--student", "forest"), "forest is fitted by its library, as a teacher: name a network here"),
        (("--folds", "3"), "folds: no teacher is fitted by its library"),
        (("--teacher", "forest", "--same-cost"), "same_cost: the multiplications of forest are not known"),
    ):
        refused = typed("distill", *arguments)
        assert refused.returncode == 2
        assert reason in " ".join(refused.stderr.split())


def test_a_category_of_the_test_part_alone_is_said(tmp_path: Path) -> None:
    frame = passengers()
    frame["part"] = ["train"] * 200 + ["validation"] * 50 + ["test"] * 50
    frame.loc[299, "port"] = "X"
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.warns(UserWarning, match="column 'port': no training row has 'X' of 1 rows"):
        splits = load_data(f"csv:{tmp_path}/rows.csv", label="survived")
    assert splits.test.example_shape == (6,)
    with pytest.raises(UsageError, match="unknown column 'harbour'"):
        load_data(f"csv:{tmp_path}/rows.csv", label="survived", features=["harbour"])


@pytest.mark.slow
def test_the_study_compares_three_ways(instar: Command, tmp_path: Path) -> None:
    done = instar("reproduce", "tables", "--scale", "tiny", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = Run.read(tmp_path / "run").result()
    rows = {row["name"]: row for row in result["rows"]}
    ways = [f"{name}-{way}" for way in ("in-sample", "out-of-fold") for name in ("forest", "lightgbm", "ensemble")]
    students = ["alone", *ways, "ensemble-sampled-rows"]
    assert list(rows) == ["forest", "lightgbm", "ensemble", *students]
    assert rows["ensemble"]["mean"] < rows["alone"]["mean"]
    assert {rows[name]["n"] for name in students} == {2}
    counts = {name: sum(row["name"] == name for row in result["tuning"]) for name in students}
    assert set(counts.values()) == {3}
