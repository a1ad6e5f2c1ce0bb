"""`instar distill` with several teachers, and with what they said kept in a store."""

import json
import math
from pathlib import Path

import pytest
import torch

from command_line import Command
from instar import metrics
from instar.distillation import SoftTargetStore
from instar.evaluation import predict_logits, score
from instar.networks import build_network
from instar.recipes.distill.settings import read_config
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import merge
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.targets import write_store
from instar.runs import Run
from small_studies import SMALL, distilled

ENSEMBLE = {"teacher": {"network": "mlp:32x1", "epochs": 6}, "teachers": 3}
TYPED = ("--student", "mlp:8x1", "--epochs", "6", "--seeds", "2", "--learning-rate", "0.1", "--temperature", "4")


@pytest.fixture(scope="module")
def ensemble_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "run"
    distilled(path, **ENSEMBLE, **SMALL)
    return path


@pytest.fixture(scope="module")
def store(ensemble_run: Path) -> Path:
    """Three views of each example, by all members of the ensemble."""
    out = ensemble_run.parent / "store"
    write_store(out, [f"{ensemble_run}:teacher"], data={}, views="jitter:1", num_views=3, quiet=True)
    return out


def _member_logits(run: Path) -> torch.Tensor:
    test = load_splits(DataSettings()).test
    jobs = [run / "jobs" / "teacher" / f"member-{number}" for number in range(3)]
    return torch.stack([predict_logits(load_run_network(job), test) for job in jobs])


def test_the_teachers_row_is_the_ensembles(ensemble_run: Path) -> None:
    result = Run.read(ensemble_run).result()
    row, logits = result["rows"][0], _member_logits(ensemble_run)
    test = load_splits(DataSettings()).test
    labels = test.labels(test.ids)
    together = score(logits.softmax(-1).mean(0).log(), labels)
    assert row["network"] == "3 x mlp:32x1"
    assert row["mean"] == together["errors"]
    assert row["test_nll"] == pytest.approx(together["nll"], rel=1e-4)
    assert row["parameters"] == 3 * (65 * 32 + 33 * 10)
    assert row["multiplications"] == 3 * (64 * 32 + 32 * 10)
    errors = [int(metrics.errors(one, labels)) for one in logits]
    assert [member["test_errors"] for member in result["details"]["members"]] == errors
    assert len(set(errors)) > 1 or not torch.equal(logits[0], logits[1])


def test_members_differ_in_their_seed_alone_and_are_asked_once(ensemble_run: Path) -> None:
    members = [Run.read(ensemble_run / "jobs" / "teacher" / f"member-{number}").config for number in range(3)]
    assert [member.pop("seed") for member in members] == [20_000, 20_001, 20_002]
    assert members[0] == members[1] == members[2]
    logits = sorted(path.name for path in (ensemble_run / "jobs" / "teacher").glob("*-logits"))
    assert logits == ["member-0-logits", "member-1-logits", "member-2-logits"]


def test_an_ensembles_run_teaches_again_as_all_its_members(ensemble_run: Path, tmp_path: Path) -> None:
    again = distilled(tmp_path / "run", teacher={"network": f"{ensemble_run}:teacher"}, **SMALL)["rows"]
    first = Run.read(ensemble_run).result()["rows"]
    assert again[0]["network"] == "3 x mlp:32x1"
    assert [row["test_nll"] for row in again] == [row["test_nll"] for row in first]


def test_other_architectures_and_a_run_teach_together(ensemble_run: Path, tmp_path: Path) -> None:
    teacher = {"network": f"mlp:16x1,mlp:24x1,{ensemble_run}:teacher/member-1", "epochs": 2}
    result = distilled(tmp_path / "run", teacher=teacher, ensemble_mean="geometric", **SMALL)
    assert result["rows"][0]["network"] == "mlp:16x1 + mlp:24x1 + mlp:32x1"
    test = load_splits(DataSettings()).test
    networks = [load_run_network(tmp_path / "run/jobs/teacher" / f"member-{number}") for number in range(3)]
    logits = torch.stack([predict_logits(network, test) for network in networks]).log_softmax(-1).mean(0)
    expected = metrics.negative_log_likelihood(logits, test.labels(test.ids))
    assert result["rows"][0]["test_nll"] == pytest.approx(expected, rel=1e-4)


def test_several_of_a_network_with_weights_are_refused(typed: Command, ensemble_run: Path, tmp_path: Path) -> None:
    arguments = ("--teacher", f"{ensemble_run}:teacher", "--teachers", "2", "--run-dir", tmp_path / "run")
    done = typed("distill", *arguments)
    assert done.returncode == 2
    assert "comes with its weights" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def stored_run(store: Path) -> Path:
    path = store.parent / "stored"
    distilled(path, targets=str(store), **SMALL)
    return path


def test_stored_targets_teach_without_a_teacher(stored_run: Path, store: Path, tmp_path: Path) -> None:
    """As a live ensemble does on the same views, but for the store's half precision."""
    rows = Run.read(stored_run).result()["rows"]
    assert [row["name"] for row in rows] == ["student-alone", "student-distilled"]
    assert not (stored_run / "jobs" / "teacher").exists()
    assert "teacher_agreement" not in rows[1]
    views = {"student": {"views": "jitter:1"}, "transfer": {"num_views": 3}}
    teacher = {"teacher": {"network": f"{store.parent}/run:teacher"}}
    expected = distilled(tmp_path / "live", **teacher, **merge(SMALL, views))["rows"][1:]
    assert rows[0]["test_nll"] == expected[0]["test_nll"]
    assert rows[1]["test_nll"] == pytest.approx(expected[1]["test_nll"], rel=0.02)
    for key in ("train_teacher_agreement", "train_teacher_kl"):
        assert rows[1][key] == pytest.approx(expected[1][key], rel=0.05)
    page = (stored_run / "report.html").read_text()
    assert "Fidelity" in page
    assert "Dark knowledge" not in page


def test_both_students_see_the_views_of_the_store(stored_run: Path, store: Path) -> None:
    alone, taught = (
        Run.read(stored_run / "jobs" / kind / "seed-0").config for kind in ("student-alone", "student-distilled")
    )
    assert alone["fit"]["views"] == taught["fit"]["views"] == "jitter:1"
    assert alone["transfer"] == taught["transfer"] == {"num_views": 3}
    assert taught["store_identity"] == SoftTargetStore.open(store).identity


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--teacher", "mlp:8x1"), "give one of them"),
        (("--views", "jitter:2"), "holds views jitter:1"),
        (("--split-seed", "3", "--set", "data.view_seed=9"), "view_seed 9"),
        (("--split-seed", "3"), "is of another split of digits (split_seed 0, validation_fraction 0.1)"),
        (("--set", "data.validation_fraction=0.2"), "use the same split"),
        (("--data", "python:mine:data"), "classes"),
    ],
)
def test_what_does_not_fit_a_store_is_refused(
    typed: Command, store: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def data():\n"
        "    inputs, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 2\n"
        "    return (inputs, labels), (1 - inputs, labels)\n"
    )
    done = typed("distill", "--targets", store, *arguments, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:teacher .one. is right on:instar.errors.DataWarning")
def test_a_store_decides_the_split_where_it_knows_one(tmp_path: Path) -> None:
    data = load_splits(DataSettings()).train
    teachers = {"one": build_network("mlp:4x1", input_shape=data.example_shape, num_classes=10, seed=0)}
    split = {"split_seed": 5, "validation_fraction": 0.25, "fingerprint": "of the splits"}
    SoftTargetStore.write(tmp_path / "new", teachers, data, split=split)
    SoftTargetStore.write(tmp_path / "old", teachers, data)
    new, old = (read_config({"targets": str(tmp_path / name)}).data for name in ("new", "old"))
    assert (new.split_seed, new.validation_fraction) == (5, 0.25)
    assert read_config({"targets": str(tmp_path / "new"), "data": {"split_seed": 1}}).data.split_seed == 1
    assert old == DataSettings()
    assert "split" not in json.loads((tmp_path / "old" / "store.json").read_text())["settings"]


def test_a_store_of_the_top_k_decides_the_temperatures(typed: Command, ensemble_run: Path, tmp_path: Path) -> None:
    kept = ("--top-k", "3", "--temperature", "2,5")
    done = typed("targets", "write", "--teacher", f"{ensemble_run}:teacher", *kept, "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    wrong = typed("distill", "--targets", tmp_path / "store", *TYPED, "--run-dir", tmp_path / "run")
    assert wrong.returncode == 2
    assert "for the temperatures 2, 5, not for 4" in wrong.stderr
    result = distilled(tmp_path / "run", targets=str(tmp_path / "store"), **SMALL | {"temperature": None})
    assert result["config"]["temperature"] == [2.0, 5.0]
    assert result["rows"][1]["train_teacher_kl"] is None
    assert 0 < result["rows"][1]["train_teacher_agreement"] <= 1


def test_logits_are_matched_at_an_infinite_temperature(ensemble_run: Path, tmp_path: Path) -> None:
    changed = {"temperature": [4.0, math.inf], "tuning_seeds": 1}
    result = distilled(tmp_path / "run", teacher={"network": f"{ensemble_run}:teacher"}, **SMALL | changed)
    tried = [row["temperature"] for row in result["tuning"] if row["name"] == "student-distilled"]
    assert tried == [4.0, "inf"]
    fit = Run.read(tmp_path / "run/jobs/tuning/student-distilled/temperature-inf/seed-10000")
    assert fit.config["soft"]["temperature"] == "inf"
    assert math.isfinite(fit.result()["metrics"]["train_loss"])
