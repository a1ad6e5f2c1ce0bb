"""The study of section 3: what it plans, what it reports, and that nothing leaks from one part into another."""

import json
from pathlib import Path

import pytest
import torch

from command_line import Command
from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import run_jobs
from instar.recipes.fitting import load_run_network, load_splits, training_data
from instar.recipes.mnist.plan import TEACHER_SEED, TUNING_SEED, Candidate, Study, kinds_of
from instar.recipes.mnist.recipe import Findings, _recovered, choose
from instar.recipes.mnist.scales import config_for
from instar.runs import Run

ROOT = Path(__file__).parents[2]
TINY = config_for("tiny", "digits")
PAPERS = [
    "big-net",
    "small-net",
    "distilled-T20",
    "distilled-T20-soft-only",
    "distilled-labels-in-targets",
    "logit-matching",
    "transfer-set-separate",
    *(f"labelled-{percent}-percent" for percent in (0, 10, 100)),
    *(f"omit-3-{way}" for way in ("uncorrected", "bias-test", "bias-validation")),
    *(f"omit-3-on-3s-{way}" for way in ("uncorrected", "bias-test", "bias-validation")),
    *(f"only-7-8-{way}" for way in ("uncorrected", "bias-test", "bias-validation")),
    "ensemble",
    "distilled-ensemble",
    "beyond-2x800",
]


@pytest.fixture(scope="module")
def finished(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reproduce") / "run"
    done = instar("reproduce", "mnist", "--scale", "tiny", "--data", "digits", "--run-dir", str(path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]
    return path


def test_table_has_every_row_with_its_n_and_spread(finished: Path) -> None:
    rows = {row["name"]: row for row in Run.read(finished).result()["rows"]}
    temperatures = [f"temperature-{units}-units-T{T:g}" for units in (8, 16) for T in TINY.temperatures]
    ways = [f"{way}{views}" for way in ("hard", "soft") for views in ("", "-views")]
    fractions = [f"fraction-{percent}-percent-{way}" for percent in TINY.fractions for way in ways]
    assert {*PAPERS, *temperatures, *fractions} <= set(rows)
    for name, row in rows.items():
        assert row["n"] == len(row["values"]) >= 2, name
        assert row["sd"] is not None, name
    assert rows["big-net"]["n"] == 4
    assert rows["temperature-8-units-T4"]["n"] == 3
    assert rows["transfer-set-separate"]["num_train"] == pytest.approx(1438 / 2, abs=5)


def test_shares_won_back_are_told_without_views_alone() -> None:
    wrong: dict[str, list[float]] = {"small-net": [50.0, 60.0]}
    for percent, hard in (("10", [150.0, 160.0]), ("30", [150.0, 60.0])):  # where labels lose nothing: no share
        for views in ("", "-views"):
            wrong[f"fraction-{percent}-percent-hard{views}"] = hard
            wrong[f"fraction-{percent}-percent-soft{views}"] = [75.0, 75.0]
    (row,) = _recovered(TINY, Findings({}, [], wrong, {}, {}, torch.zeros(0)))
    assert row["percent"] == 10
    assert row["share"] == pytest.approx((0.75 + 0.85) / 2)


def test_errors_are_those_of_the_saved_weights(finished: Path) -> None:
    rows = {row["name"]: row for row in Run.read(finished).result()["rows"]}
    test = load_splits(TINY.data).test
    labels = test.labels(test.ids)
    for name in ("distilled-T20", "logit-matching", "beyond-2x800"):
        logits = [predict_logits(load_run_network(finished / "jobs" / name / str(pair)), test) for pair in (0, 1)]
        assert rows[name]["values"] == [int(metrics.errors(one, labels)) for one in logits]
    teachers = [predict_logits(load_run_network(finished / f"jobs/big-net/{k}"), test) for k in range(4)]
    ensembles = [torch.stack(teachers[k : k + 2]).softmax(-1).mean(0) for k in (0, 2)]
    assert rows["ensemble"]["values"] == [int(metrics.errors(one, labels)) for one in ensembles]


def test_pairs_share_no_teacher_and_tuning_is_reported_nowhere(tmp_path: Path) -> None:
    study = Study(TINY, tmp_path)
    jobs = study.final_jobs({kind.name: kind.candidates[0] for kind in kinds_of(TINY)})
    for kind in kinds_of(TINY):
        needs = [job.needs for job in jobs if job.name.rpartition("/")[0] == kind.name]
        assert len(needs) == kind.pairs
        assert len({need for one in needs for need in one}) == sum(len(one) for one in needs), kind.name
    tuning = {job.config["seed"] for job in study.tuning_jobs() if "seed" in job.config}
    assert tuning == {TUNING_SEED, TEACHER_SEED + TUNING_SEED}
    assert not tuning & {job.config.get("seed") for job in jobs}


def test_no_teacher_starts_with_a_students_seed(tmp_path: Path) -> None:
    study = Study(TINY, tmp_path)
    jobs = study.final_jobs({kind.name: kind.candidates[0] for kind in kinds_of(TINY)}) + study.tuning_jobs()
    fits = [job for job in jobs if "seed" in job.config]
    students = {job.config["seed"] for job in fits if job.config["soft"]}
    teachers = {job.config["seed"] for job in fits if "big-net" in job.name or "teacher" in job.name}
    assert teachers
    assert not students & teachers


def test_nothing_that_judges_was_learned_from(tmp_path: Path) -> None:
    held_out = load_splits(TINY.held_out)
    judged_by = set(held_out.validation.ids.tolist())
    for kind in kinds_of(TINY):
        if kind.is_held_out:
            assert kind.teacher in (None, "held-out/big-net")
            assert not judged_by & set(training_data(held_out, kind.transfer).ids.tolist()), kind.name
    omitted = next(kind for kind in kinds_of(TINY) if kind.name == "omit-3")
    data = training_data(held_out, omitted.transfer)
    assert 3 not in data.labels(data.ids)
    assert 3 in held_out.validation.labels(held_out.validation.ids)


def test_teacher_and_student_of_separate_sets_share_no_example(tmp_path: Path) -> None:
    splits = load_splits(TINY.data)
    jobs = {job.name: job for job in Study(TINY, tmp_path)._teacher_jobs()}
    separate = next(kind for kind in kinds_of(TINY) if kind.name == "transfer-set-separate")
    teacher = type(separate.transfer)(**jobs["half/big-net/0"].config["transfer"])
    own, others = (set(training_data(splits, one).ids.tolist()) for one in (separate.transfer, teacher))
    assert not own & others
    assert len(own | others) == len(splits.train) + len(splits.validation)


def test_full_scale_plans_the_papers_figures() -> None:
    full = config_for("full")
    assert full.temperatures == [1, 2, 2.5, 3, 4, 8, 12, 20, 40]
    assert [student.network for student in full.temperature_students] == ["mlp:30x2", "mlp:300x2", "mlp:800x2"]
    assert (full.teacher.network, full.student.network) == ("mlp:1200x2", "mlp:800x2")
    assert full.smallest_pairs >= 10
    assert full.pairs >= 3
    assert list(full.fractions) == ["1", "3", "10", "30"]


def test_wrong_scale_is_one_line(typed: Command) -> None:
    done = typed("reproduce", "mnist", "--scale", "tinny")
    assert done.returncode == 2
    assert "did you mean tiny?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_data_without_the_classes_that_are_named_is_refused(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def data():\n"
        "    inputs, labels = torch.rand(120, 1, 8, 8), torch.arange(120) % 4\n"
        "    return (inputs, labels), (inputs, labels)\n"
    )
    run = ("--scale", "tiny", "--data", "python:mine:data", "--run-dir", tmp_path / "run")
    done = typed("reproduce", "mnist", *run, cwd=tmp_path)
    assert done.returncode == 2
    assert "python:mine:data lacks 7, 8" in done.stderr
    assert not (tmp_path / "run").exists()


def test_candidate_that_diverges_is_out_but_not_the_study(tmp_path: Path) -> None:
    rates = [Candidate(learning_rate=rate) for rate in (1e30, 0.03)]
    study = Study(TINY.model_copy(update={"candidates": TINY.candidates | {"distilled-T20": rates}}), tmp_path)
    report = run_jobs(study.tuning_jobs(), tmp_path, quiet=True)
    assert list(report.failed) == ["tuning/distilled-T20/learning-rate-1e+30"]
    chosen, tried = choose(study, report)
    assert chosen["distilled-T20"] == chosen["transfer-set-separate"] == rates[1]
    left, out = [row for row in tried if row["name"] == "distilled-T20"]
    assert (left["learning_rate"], out["learning_rate"]) == (0.03, 1e30)
    assert "failed" not in left
    assert out["failed"] == report.failed["tuning/distilled-T20/learning-rate-1e+30"]
