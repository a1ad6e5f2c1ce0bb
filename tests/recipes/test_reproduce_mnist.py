"""The study of section 3: what it plans, what it reports, and that nothing leaks from one part into another."""

import json
from pathlib import Path

import pytest
import torch

from command_line import Command
from instar import metrics
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.jobs import run_jobs
from instar.recipes.choosing import TUNING_SEED
from instar.recipes.distill.mnist import PAPER, STUDY, config_for, recovered, result_row
from instar.recipes.distill.mnist_plan import CORRECTED, LIKE, MnistConfig, MnistPlan
from instar.recipes.distill.settings import Candidate
from instar.recipes.distill.students import TEACHER_SEED, choose
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked, merge
from instar.recipes.settings import TransferSettings
from instar.recipes.splits import load_splits, training_data
from instar.recipes.study import Execution, run_study
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
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reproduce") / "run"
    run_study(STUDY, TINY, path, Execution(quiet=True))
    return path


def test_command_reads_the_result_that_is_there(typed: Command, finished: Path) -> None:
    done = typed("reproduce", "mnist", "--scale", "tiny", "--data", "digits", "--run-dir", finished, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == Run.read(finished).result()


def test_table_has_every_row_with_its_n_and_spread(finished: Path) -> None:
    rows = {row["name"]: row for row in Run.read(finished).result()["rows"]}
    temperatures = [f"temperature-{units}-units-T{T:g}" for units in (8, 16) for T in TINY.temperatures]
    ways = [f"{way}{views}" for way in ("hard", "soft") for views in ("", "-views")]
    fractions = [f"fraction-{percent}-percent-{way}" for percent in TINY.fractions for way in ways]
    assert {*PAPERS, *temperatures, *fractions} <= set(rows)
    for name, row in rows.items():
        assert row["n"] == len(row["values"]) >= 2, name
        assert row["sd"] is not None, name
        assert row.get("paper") == PAPER.get(name), name
    assert rows["big-net"]["n"] == 4
    assert rows["temperature-8-units-T4"]["n"] == 3
    assert rows["transfer-set-separate"]["num_train"] == pytest.approx(1438 / 2, abs=5)


def test_share_recovered_is_known_where_labels_alone_lose_something() -> None:
    values = {
        "small-net": [50.0, 60.0],
        "fraction-10-percent-hard": [150.0, 160.0],
        "fraction-10-percent-soft": [75.0, 75.0],
        "fraction-30-percent-hard": [150.0, 60.0],  # the second pair loses nothing
        "fraction-30-percent-soft": [75.0, 75.0],
    }
    (row,) = recovered(["10", "30"], values)
    assert row["percent"] == 10
    assert row["share"] == pytest.approx((0.75 + 0.85) / 2)


@pytest.mark.parametrize("name", ["mnist-paper", "mnist-small"])
def test_published_figures_come_out_of_their_values(name: str) -> None:
    """Bit for bit: rows from the values of their pairs, and the shares recovered."""
    published = json.loads((ROOT / "results" / f"{name}.json").read_text())
    values = {row["name"]: row["values"] for row in published["rows"]}
    for row in published["rows"]:
        again = result_row(row["name"], row["values"], row["num_train"])
        for key in ("mean", "sd", "low", "high", "n", "num_train"):
            assert again[key] == row[key], (row["name"], key)
        assert again.get("paper") == row.get("paper"), row["name"]
    assert published["metrics"] == {row["name"]: row["mean"] for row in published["rows"]}
    shares = published.get("details", published)["recovered"]
    for share, again in zip(shares, recovered(list(published["config"]["fractions"]), values), strict=True):
        assert {key: share[key] for key in again} == again


def test_errors_are_those_of_the_saved_weights(finished: Path) -> None:
    rows = {row["name"]: row for row in Run.read(finished).result()["rows"]}
    test = load_splits(TINY.data).test
    labels = test.labels(test.ids)
    for name in ("distilled-T20", "logit-matching", "beyond-2x800"):
        logits = [
            predict_logits(load_run_network(finished / "jobs" / name / f"seed-{pair}"), test) for pair in (0, 1)
        ]
        assert rows[name]["values"] == [int(metrics.errors(one, labels)) for one in logits]
    teachers = [predict_logits(load_run_network(finished / f"jobs/big-net/{k}"), test) for k in range(4)]
    ensembles = [torch.stack(teachers[k : k + 2]).softmax(-1).mean(0) for k in (0, 2)]
    assert rows["ensemble"]["values"] == [int(metrics.errors(one, labels)) for one in ensembles]


def _first_candidates(plan: MnistPlan) -> dict[str, Candidate]:
    first = {student.name: student.candidates[0] for student in plan.students if student.candidates}
    return first | {name: first[other] for name, other in LIKE.items()}


def test_pairs_share_no_teacher_and_tuning_is_reported_nowhere(tmp_path: Path) -> None:
    plan = MnistPlan(TINY, tmp_path)
    jobs = plan.final_jobs(_first_candidates(plan))
    for student in plan.students:
        needs = [job.needs for job in jobs if job.name.rpartition("/")[0] == student.name]
        assert len(needs) == len(student.seeds)
        assert len({need for one in needs for need in one}) == sum(len(one) for one in needs), student.name
    tuning = {job.config["seed"] for job in plan.tuning_jobs() if "seed" in job.config}
    assert tuning == {TUNING_SEED, TEACHER_SEED + TUNING_SEED}
    assert not tuning & {job.config.get("seed") for job in jobs}


def test_no_teacher_starts_with_a_students_seed(tmp_path: Path) -> None:
    plan = MnistPlan(TINY, tmp_path)
    jobs = plan.final_jobs(_first_candidates(plan)) + plan.tuning_jobs()
    fits = [job for job in jobs if "seed" in job.config]
    students = {job.config["seed"] for job in fits if job.config["soft"]}
    teachers = {job.config["seed"] for job in fits if "big-net" in job.name or "teacher" in job.name}
    assert teachers
    assert not students & teachers


def test_nothing_that_judges_was_learned_from(tmp_path: Path) -> None:
    held_out = load_splits(TINY.held_out)
    judged_by = set(held_out.validation.ids.tolist())
    students = {student.name: student for student in MnistPlan(TINY, tmp_path).students}
    for name, student in students.items():
        if name in CORRECTED or "fraction" in name:
            assert student.data == TINY.held_out
            assert student.teaching(0).teachers == ["held-out/big-net/0"]
            assert not judged_by & set(training_data(held_out, student.transfer).ids.tolist()), name
    data = training_data(held_out, students["omit-3"].transfer)
    assert 3 not in data.labels(data.ids)
    assert 3 in held_out.validation.labels(held_out.validation.ids)


def test_teacher_and_student_of_separate_sets_share_no_example(tmp_path: Path) -> None:
    splits, plan = load_splits(TINY.data), MnistPlan(TINY, tmp_path)
    jobs = {job.name: job for job in plan.teacher_jobs()}
    separate = next(student for student in plan.students if student.name == "transfer-set-separate")
    teacher = TransferSettings(**jobs["half/big-net/0"].config["transfer"])
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


def test_rows_that_are_named_need_no_other_teachers(tmp_path: Path) -> None:
    """Two students with their own teachers: the figures are those of the whole study."""
    some = TINY.model_copy(update={"rows": ["omit-*"], "smallest_pairs": 2})
    run_study(STUDY, some, tmp_path / "run", Execution(quiet=True))
    result = Run.read(tmp_path / "run").result()
    made = {path.name for path in tmp_path.glob("run/jobs/*")}
    assert made == {"held-out", "omit-3"}
    assert {row["name"] for row in result["rows"]} == {
        *(f"omit-3{on}-{way}" for on in ("", "-on-3s") for way in ("uncorrected", "bias-test", "bias-validation")),
    }
    page = (tmp_path / "run/report.html").read_text()
    assert "A part of the study" in page
    assert "Errors by class: omit-3" in page
    assert "Errors by class: only-7-8" not in page


def test_some_rows_come_out_as_all_do(finished: Path, tmp_path: Path) -> None:
    whole = {row["name"]: row["values"] for row in Run.read(finished).result()["rows"]}
    some = TINY.model_copy(update={"rows": ["transfer-set-*", "beyond-*", "fraction-10-*"]})
    run_study(STUDY, some, tmp_path / "run", Execution(quiet=True))
    rows = Run.read(tmp_path / "run").result()["rows"]
    assert {"transfer-set-separate", "distilled-T20", "beyond-2x800"} < {row["name"] for row in rows}
    assert {row["name"]: row["values"] for row in rows[1:]} == {
        row["name"]: whole[row["name"]] for row in rows[1:]
    }


def test_the_time_left_knows_what_a_convolution_and_a_store_of_views_cost(tmp_path: Path) -> None:
    """By its weights a study whose teachers are convolutional had 51 hours left, of one."""
    own = TINY.beyond.model_copy(
        update={"teacher": TINY.beyond.teacher.model_copy(update={"network": "vgg:4x4,mlp:9x1", "epochs": 3})}
    )
    plan = MnistPlan(TINY.model_copy(update={"rows": ["beyond-*"], "beyond": own}), tmp_path)
    costs = {job.name: job.cost for job in plan.teacher_jobs()}
    side = load_splits(TINY.data).train.example_shape[-1]
    num = len(load_splits(TINY.data).train)
    vgg = side**2 * (9 * 4 + 9 * 16) + (side // 2) ** 2 * 4 * 32 + 32 * 10
    convolutional, perceptron = 3 * num * (vgg + 20_000), 3 * num * (9 * side**2 + 9 * 10 + 20_000)
    assert costs["beyond/teacher-0/0"] == convolutional
    assert costs["beyond/teacher-1/0"] == perceptron
    assert costs["beyond/targets/0"] == (convolutional + perceptron) * own.num_views / 9


def test_row_that_nobody_has_is_one_line(tmp_path: Path) -> None:
    some = TINY.model_copy(update={"rows": ["omit-4"]})
    with pytest.raises(UsageError, match="omit-4"):
        run_study(STUDY, some, tmp_path / "run", Execution(quiet=True))
    assert not (tmp_path / "run").exists()


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
        "    return (inputs, labels), (1 - inputs, labels)\n"
    )
    run = ("--scale", "tiny", "--data", "python:mine:data", "--run-dir", tmp_path / "run")
    done = typed("reproduce", "mnist", *run, cwd=tmp_path)
    assert done.returncode == 2
    assert "python:mine:data lacks 7, 8" in done.stderr
    assert not (tmp_path / "run").exists()


def test_candidates_that_would_be_ignored_are_refused() -> None:
    soft = {"learning_rate": 0.1, "loss": {"temperature": 2.0}}
    for changed, words in (
        ({"small-net": [soft]}, "candidates.small-net: expected no loss"),
        ({"omit-3": [{"learning_rate": 0.1}]}, "candidates.omit-3: expected a loss"),
        ({"omit-3": []}, "candidates.omit-3 is missing"),
        ({"omit-4": [soft]}, "no row 'omit-4'"),
    ):
        with pytest.raises(UsageError, match=words):
            checked(MnistConfig, merge(TINY.model_dump(), {"candidates": changed}))


def test_candidate_that_diverges_is_skipped_and_reported(tmp_path: Path) -> None:
    loss = TINY.candidates["distilled-T20"][0].loss
    rates = [Candidate(learning_rate=rate, loss=loss) for rate in (1e30, 0.03)]
    few = {"small-net": TINY.candidates["small-net"][:1], "distilled-T20": rates}
    plan = MnistPlan(TINY.model_copy(update={"candidates": TINY.candidates | few}), tmp_path)
    report = run_jobs(plan.tuning_jobs(), tmp_path, quiet=True)
    failed = "tuning/distilled-T20/learning-rate-1e+30/seed-10000"
    assert list(report.failed) == [failed]
    chosen = choose(plan.tuned(), [TUNING_SEED], report, tmp_path)
    assert chosen.candidates["distilled-T20"] == rates[1]
    out, left = [row for row in chosen.tuning if row["name"] == "distilled-T20"]
    assert (left["learning_rate"], out["learning_rate"]) == (0.03, 1e30)
    assert "failed" not in left
    assert out["failed"] == report.failed[failed]


def test_row_without_candidates_takes_the_one_chosen_for_another(finished: Path) -> None:
    choices = Run.read(finished).result()["details"]["choices"]
    for name, other in LIKE.items():
        assert choices[name] == choices[other]


def test_page_shows_curves_and_confusions(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for words in (
        "Temperature, 8 units a layer",
        "Peak and fall",
        "Errors by class: omit-3",
        "Confusion",
        "Get it again",
    ):
        assert words in page
    details = Run.read(finished).result()["details"]
    test = load_splits(TINY.data).test
    labels = test.labels(test.ids)
    for name, counts in details["confusions"].items():
        assert [sum(row) for row in counts] == [int((labels == number).sum()) for number in range(10)], name
        errors = [row["errors"] for row in details["errors_by_class"] if row["network"] == name]
        assert errors == [sum(row) - row[number] for number, row in enumerate(counts)]
