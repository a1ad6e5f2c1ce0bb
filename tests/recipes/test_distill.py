"""The main job, end to end on the digits."""

import json
import math
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from scipy import stats

from command_line import TINY, Command
from instar.data import class_number
from instar.errors import InstarError, UsageError
from instar.evaluation import predict_logits
from instar.jobs import JobReport, run_jobs
from instar.recipes.distill import page as charts
from instar.recipes.distill.page import answer, fewer_errors
from instar.recipes.distill.plan import Plan
from instar.recipes.distill.scoring import dark_knowledge, disagreements
from instar.recipes.distill.settings import DistillConfig
from instar.recipes.distill.students import Chosen, choose
from instar.recipes.fitting import fit_job
from instar.recipes.loading import load_network, load_run_network
from instar.recipes.settings import DataSettings, FitSettings, StudentSettings, TransferSettings
from instar.recipes.splits import load_splits
from instar.reports import Text
from instar.runs import Run
from small_studies import distilled


@pytest.fixture(scope="module")
def result(finished_run: Path) -> dict:
    return Run.read(finished_run).result()


def test_rows_say_what_each_network_does_and_costs(result: dict) -> None:
    assert [row["name"] for row in result["rows"]] == ["teacher", "student-alone", "student-distilled"]
    for row in result["rows"]:
        assert (
            row["parameters"]
            == {"mlp:64x1": 64 * 64 + 64 + 64 * 10 + 10, "mlp:8x1": 8 * 64 + 8 + 80 + 10}[row["network"]]
        )
        assert row["bytes"] == 4 * row["parameters"]
        assert row["latency_ms"] > 0
        assert row["mean"] == pytest.approx(mean(row["values"]))
        assert row["test_accuracy"] == pytest.approx(1 - row["mean"] / result["num_test"])
        assert row["test_nll"] > 0
        assert 0 <= row["test_calibration_error"] <= 1
    assert [row["n"] for row in result["rows"]] == [1, 3, 3]


def test_test_errors_are_those_of_the_saved_weights(finished_run: Path, result: dict) -> None:
    test = load_splits(DataSettings()).test
    labels = test.labels(test.ids)
    for row in result["rows"][1:]:
        jobs = [finished_run / "jobs" / row["name"] / f"seed-{seed}" for seed in range(3)]
        errors = [int((predict_logits(load_run_network(job), test).argmax(-1) != labels).sum()) for job in jobs]
        assert row["mean"] == pytest.approx(mean(errors))
        assert row["sd"] == pytest.approx(stdev(errors))


def test_difference_is_paired_by_seed(finished_run: Path, result: dict) -> None:
    test = load_splits(DataSettings()).test
    labels = test.labels(test.ids)

    def errors(kind: str, seed: int) -> int:
        network = load_run_network(finished_run / "jobs" / kind / f"seed-{seed}")
        return int((predict_logits(network, test).argmax(-1) != labels).sum())

    differences = [errors("student-distilled", seed) - errors("student-alone", seed) for seed in range(3)]
    (row,) = result["differences"]
    assert (row["name"], row["minus"], row["n"]) == ("student-distilled", "student-alone", 3)
    half = stats.t.ppf(0.975, 2) * stdev(differences) / math.sqrt(3)
    assert row["mean"] == pytest.approx(mean(differences))
    assert row["low"] == pytest.approx(mean(differences) - half)
    assert row["high"] == pytest.approx(mean(differences) + half)
    assert row["low_examples"] <= row["mean"] <= row["high_examples"]
    assert result["metrics"] == {
        "difference": row["mean"],
        "difference_low": row["low"],
        "difference_high": row["high"],
    }


def test_validation_chooses_with_seeds_that_are_not_reported(finished_run: Path, result: dict) -> None:
    for kind, num_candidates in (("student-alone", 2), ("student-distilled", 4)):
        tried = [row for row in result["tuning"] if row["name"] == kind]
        assert len(tried) == num_candidates
        best = min(tried, key=lambda row: row["validation_errors"])
        chosen = next(row for row in result["rows"] if row["name"] == kind)
        same = [row for row in tried if row["learning_rate"] == chosen["learning_rate"]]
        same = [row for row in same if row.get("temperature") == chosen.get("temperature")]
        assert same[0]["validation_errors"] == best["validation_errors"]
    seeds = {path.parent.name for path in (finished_run / "jobs" / "tuning").rglob("DONE")}
    assert seeds == {"seed-10000"}
    assert result["seeds"] == [0, 1, 2]


def test_a_candidate_that_diverges_is_out_but_not_the_command(tmp_path: Path) -> None:
    result = distilled(
        tmp_path / "run",
        data={"split_seed": 1},
        teacher={"network": "mlp:4x1", "epochs": 1},
        student={"network": "mlp:32x2", "epochs": 3, "learning_rate": [1e30, 0.03]},
        temperature=2.0,
        seeds=1,
        tuning_seeds=1,
    )
    assert [row["learning_rate"] for row in result["rows"][1:]] == [0.03, 0.03]
    failed = [row for row in result["tuning"] if "failed" in row]
    assert [(row["name"], row["learning_rate"]) for row in failed] == [
        ("student-alone", 1e30),
        ("student-distilled", 1e30),
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Chosen on validation" in page
    assert failed[0]["failed"][:40] in page.replace("&#x27;", "'")
    assert "<span>data.split_seed=1</span>" in page
    assert "training took" in page
    assert result["details"]["sensitivity"] == []
    assert result["fit_seconds"] > 0


def test_a_kind_without_a_candidate_left_and_a_failed_teacher_end_the_command(tmp_path: Path) -> None:
    plan = Plan(DistillConfig(student=StudentSettings(network="mlp:4x1", learning_rate=[0.1, 0.2])), tmp_path)
    tuning = [job.name for job in plan.tuning_jobs()]

    def chosen(report: JobReport) -> Chosen:
        return choose(plan.students, plan.tuning_seeds, report, plan.path)

    with pytest.raises(InstarError, match="seed-10000 failed: why"):
        chosen(JobReport(failed=dict.fromkeys(tuning, "why")))
    with pytest.raises(InstarError, match="teacher failed: why"):
        chosen(JobReport(failed={tuning[0]: "it diverged", "teacher": "why"}))


def test_a_teacher_that_is_never_right_or_never_contradicted_has_a_page_too() -> None:
    test = load_splits(DataSettings()).test
    wrong = torch.nn.functional.one_hot((test.labels(test.ids) + 1) % 10, 10).float()
    section = charts.dark_knowledge(dark_knowledge(wrong[None], 2.0, "arithmetic", test), test)
    assert isinstance(section, Text)
    section = charts.disagreements(disagreements(wrong, wrong, test), test)
    assert isinstance(section, Text)


def test_the_page_draws_pictures_by_their_ids(result: dict) -> None:
    test = load_splits(DataSettings()).test
    labels = dict(zip(test.ids.tolist(), test.labels(test.ids).tolist(), strict=True))
    found = result["details"]["dark_knowledge"]["examples"] + result["details"]["disagreements"]["examples"]
    assert found
    for example in found:
        assert labels[example["id"]] == class_number(test.class_names, example["label"])
    for example in result["details"]["dark_knowledge"]["examples"]:
        assert max(example["shares"], key=example["shares"].get) == example["label"]


def test_the_headline_says_the_difference_in_plain_words(result: dict) -> None:
    assert [fewer_errors(number) for number in (-6.44, 2.0, 0.0, -0.04)] == [
        "6.4 fewer errors",
        "2.0 more errors",
        "No difference",
        "No difference",
    ]
    headline = answer(result)
    assert headline.sentence.startswith(fewer_errors(result["differences"][0]["mean"]))
    assert f"on {result['num_test']} test images" in headline.sentence
    assert "over 3 paired seeds" in headline.detail


def test_the_headline_says_where_the_two_intervals_disagree(result: dict) -> None:
    (first, *_) = result["differences"]
    sure = first | {"low": -3.0, "high": -1.0}
    unsure = answer(result | {"differences": [sure | {"low_examples": -4.0, "high_examples": 2.0}]})
    assert "excludes zero. Over test examples: [-4.0, +2.0], which includes zero" in unsure.detail
    over_seeds = first | {"low": -6.7, "high": 1.5, "low_examples": -5.0, "high_examples": -0.4}
    other = answer(result | {"differences": [over_seeds]})
    assert "undecided. Over test examples: [-5.0, -0.4], which excludes zero: other seeds" in other.detail
    for low, high in ((-4.0, -2.0), (None, None)):
        both = answer(result | {"differences": [sure | {"low_examples": low, "high_examples": high}]})
        assert "Over test examples" not in both.detail


def test_the_headline_says_what_probabilities_gain_beside_errors(result: dict) -> None:
    """As on a table: as many errors, and a likelihood that is several times better."""
    found = result["details"]["likelihood"]
    rows = {row["name"]: row for row in result["rows"]}
    assert found["mean"] == pytest.approx(
        rows["student-distilled"]["test_nll"] - rows["student-alone"]["test_nll"]
    )
    assert (found["name"], found["minus"], found["n"]) == ("student-distilled", "student-alone", 3)

    def said(**likelihood: float) -> str:
        details = result["details"] | {"likelihood": found | likelihood}
        return answer(result | {"details": details}).detail

    start, end = said(mean=-0.6, low=-0.7, high=-0.5), said(mean=0.6, low=0.5, high=0.7)
    nll = [f"{rows[name]['test_nll']:.3f}" for name in ("student-distilled", "student-alone")]
    nats = " nats, alone ".join(nll)
    assert f"Its probabilities are better: negative log-likelihood {nats}, difference [-0.700, -0.500]." in start
    assert "Its probabilities are worse" in end
    for low, high in ((-0.7, 0.1), (None, None), (-0.6, -0.6)):
        assert "Its probabilities" not in said(mean=-0.6, low=low, high=high)
    older = {key: value for key, value in result["details"].items() if key != "likelihood"}
    assert "Its probabilities" not in answer(result | {"details": older}).detail


def test_seeds_that_differ_equally_decide_nothing(result: dict) -> None:
    equal = result["differences"][0] | {"mean": 54.0, "low": 54.0, "high": 54.0, "n": 2, "low_examples": None}
    said = answer(result | {"differences": [equal]}).detail
    assert "[+54.0, +54.0], which has no width, since all differ equally: undecided" in said
    assert "excludes zero" not in said


def test_no_fit_reads_test(finished_run: Path) -> None:
    for path in (finished_run / "jobs").rglob("result.json"):
        assert "test_" not in path.read_text()


def test_teachers_have_seeds_that_no_student_has(tmp_path: Path) -> None:
    plan = Plan(DistillConfig(teachers=3, seed=2), tmp_path)
    seeds = {member.seed for member in plan.members}
    assert len(seeds) == 3
    assert not seeds & {*plan.seeds, *plan.tuning_seeds}


def test_student_alone_and_distilled_start_alike(finished_run: Path) -> None:
    alone, distilled = (
        Run.read(finished_run / "jobs" / kind / "seed-1") for kind in ("student-alone", "student-distilled")
    )
    differing = {key for key in distilled.config if distilled.config[key] != alone.config.get(key)}
    assert differing <= {"soft", "learning_rate"}


def test_run_leaves_these_files_and_no_others(finished_run: Path) -> None:
    files = {str(path.relative_to(finished_run)) for path in finished_run.rglob("*") if path.is_file()}
    own = {"config.toml", "environment.json", "result.json", "report.html", "log.txt", "DONE"}
    fit = {
        "config.toml",
        "environment.json",
        "result.json",
        "metrics.jsonl",
        "log.txt",
        "DONE",
        "checkpoints/final.safetensors",
    }
    assert {name for name in files if not name.startswith("jobs/")} == own
    assert {name.removeprefix("jobs/teacher/") for name in files if name.startswith("jobs/teacher/")} == fit


def test_page_stands_alone(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    assert len(page.encode()) < 1_500_000
    assert 'src="http' not in page
    assert "<script" not in page
    for words in ("Dark knowledge", "Calibration", "Errors by class", "Get it again", "95 % interval"):
        assert words in page


def test_same_command_again_reads_what_is_there(typed: Command, finished_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*") if path.is_file()}
    again = typed("distill", *TINY, "--run-dir", finished_run, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((finished_run / "result.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*") if path.is_file()}


def test_other_settings_in_the_same_directory_are_refused(typed: Command, finished_run: Path) -> None:
    other = typed("distill", *TINY, "--run-dir", finished_run, "--seeds", "4")
    assert other.returncode == 1
    assert "seeds is 3 there and 4 here" in other.stderr


def test_a_runs_teacher_teaches_another_student(finished_run: Path, tmp_path: Path) -> None:
    """From a run directory, and from its weights as a file; the same soft targets give the same student."""
    weights = finished_run / "jobs" / "teacher" / "checkpoints" / "final.safetensors"
    results = [
        distilled(
            tmp_path / str(number),
            teacher={"network": teacher},
            student={"network": "mlp:8x1", "epochs": 2, "learning_rate": 0.1},
            seeds=1,
            temperature=4.0,
        )["rows"]
        for number, teacher in enumerate((f"{finished_run}:teacher", f"mlp:64x1@{weights}"))
    ]
    old = Run.read(finished_run).result()["rows"][0]
    assert results[0][0]["mean"] == results[1][0]["mean"] == old["mean"]
    assert results[0][2]["test_nll"] == results[1][2]["test_nll"]


def test_a_teacher_of_another_split_is_refused(typed: Command, finished_run: Path, tmp_path: Path) -> None:
    done = typed(
        "distill", "--teacher", f"{finished_run}:teacher", "--split-seed", "7", "--run-dir", tmp_path / "run"
    )
    assert done.returncode == 2
    assert "another split of digits" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_learned_from_the_validation_examples_is_refused(tmp_path: Path) -> None:
    small, whole = FitSettings(network="mlp:4x1", epochs=1), TransferSettings(validation_too=True)
    job = fit_job(tmp_path, "teacher", small, DataSettings(), seed=0, transfer=whole)
    run_jobs([job], tmp_path, quiet=True).raise_if_failed()
    with pytest.raises(UsageError, match="learned from the validation examples too"):
        load_network(FitSettings(network=str(tmp_path / "jobs" / "teacher")), load_splits(DataSettings()))


def test_a_users_own_modules_and_data(instar: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def data():\n"
        "    generator = torch.Generator().manual_seed(0)\n"
        "    inputs = torch.randn(300, 5, generator=generator)\n"
        "    return (inputs[:200], (inputs[:200, 0] > 0).long()), (inputs[200:], (inputs[200:, 0] > 0).long())\n"
        "def network(input_shape, num_classes):\n"
        "    first, last = torch.nn.Linear(input_shape[0], 6), torch.nn.Linear(6, num_classes)\n"
        "    return torch.nn.Sequential(first, torch.nn.ReLU(), last)\n"
    )
    mine = ["--data", "python:mine:data", "--teacher", "python:mine:network", "--student", "python:mine:network"]
    small = [
        *("--epochs", "2", "--teacher-epochs", "20", "--seeds", "1"),
        *("--temperature", "2", "--learning-rate", "0.1"),
    ]
    done = instar("distill", *mine, *small, "--run-dir", tmp_path / "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["parameters"] == 5 * 6 + 6 + 6 * 2 + 2
    assert rows[0]["test_accuracy"] > 0.7


def test_students_with_views_ask_a_live_teacher(finished_run: Path, tmp_path: Path) -> None:
    result = distilled(
        tmp_path / "run",
        teacher={"network": f"{finished_run}:teacher"},
        student={"network": "mlp:8x1", "epochs": 2, "learning_rate": 0.1, "views": "jitter:1"},
        seeds=1,
        temperature=[2.0, 8.0],
        tuning_seeds=1,
    )
    assert not (tmp_path / "run" / "jobs" / "teacher-logits").exists()
    assert math.isfinite(result["rows"][2]["test_nll"])
