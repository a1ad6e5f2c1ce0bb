"""Fits that failed to learn in the experiments, and what a page says to look at."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from command_line import Command
from instar.intervals import over_seeds
from instar.jobs import JobReport
from instar.recipes.choosing import Tried, best, judge, tuning_table
from instar.recipes.distill.observations import observations
from instar.recipes.distill.recipe import STUDY
from instar.recipes.learning import about_failures, failed_fits, failures_in_words
from instar.recipes.observations import observations as shared_observations
from instar.recipes.rows import row
from instar.reports import print_table
from instar.runs import Run
from instar.transfer import Measured
from small_studies import SMALL, distilled

FAILING = {**SMALL["student"], "epochs": 1, "learning_rate": 1e-7}


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Students that learn nothing, from a teacher that learns nothing."""
    path = tmp_path_factory.mktemp("failed") / "run"
    teacher = {"network": "mlp:8x1", "epochs": 1, "learning_rate": 1e-7}
    distilled(path, **{**SMALL, "student": FAILING}, teacher=teacher)
    return path


def test_rows_details_and_jobs_say_which_fits_failed(failed_run: Path) -> None:
    result = Run.read(failed_run).result()
    assert [(row["name"], row["failed_to_learn"], row["n"]) for row in result["rows"]] == [
        ("teacher", 1, 1),
        ("student-alone", 2, 2),
        ("student-distilled", 2, 2),
    ]
    fits = {one["fit"]: one["reason"] for one in result["details"]["failed_to_learn"]}
    kinds = [f"student-{kind}/seed-{seed}" for kind in ("alone", "distilled") for seed in (0, 1)]
    assert list(fits) == ["teacher", *kinds]
    for name, reason in fits.items():
        assert Run.read(failed_run / "jobs" / name).result()["failed_to_learn"] == reason
        assert "failed to learn: right on" in (failed_run / "jobs" / name / "log.txt").read_text()


def test_the_headline_says_it_before_it_compares(failed_run: Path) -> None:
    headline = STUDY.headline(Run.read(failed_run).result())
    assert headline.sentence == (
        "The teacher, 2 of 2 students alone and 2 of 2 distilled students failed to learn: they are no better "
        "than guessing on what they learned from."
    )
    assert headline.detail.startswith("With them: ")
    page = (failed_run / "report.html").read_text()
    assert page.index("failed to learn") < page.index("What to look at") < page.index("2 of 2</td>")


def test_the_terminal_says_it_too(typed: Command, failed_run: Path) -> None:
    done = typed("distill", "--config", failed_run / "config.toml", "--run-dir", failed_run, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert "2 of 2" in done.stdout
    assert done.stdout.index("failed to learn: they are") < done.stdout.index("With them: ")
    assert "- teacher failed to learn: it is right on" in done.stdout
    shown = typed("runs", "show", failed_run, COLUMNS="200")
    assert "What to look at" in shown.stdout


def test_an_export_and_its_card_say_that_a_network_guesses(
    failed_run: Path, tmp_path: Path, typed: Command
) -> None:
    said = "This network is no better than the commonest class: "
    done = typed("export", failed_run, "--to", "safetensors", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert said in " ".join(done.stdout.split())
    assert said in (tmp_path / "out" / "README.md").read_text()


def test_a_result_without_failures_has_no_word_of_them(finished_run: Path) -> None:
    result = Run.read(finished_run).result()
    assert not any("failed_to_learn" in row for row in result["rows"])
    assert "failed_to_learn" not in result["details"]
    assert STUDY.headline(result) == STUDY.answer(result)
    assert "failed to learn" not in (finished_run / "report.html").read_text()


@pytest.mark.slow
def test_a_candidate_that_failed_to_learn_is_passed_over_while_others_are_left(tmp_path: Path) -> None:
    student = {**SMALL["student"], "epochs": 2, "learning_rate": [1e-7, 0.1]}
    result = distilled(
        tmp_path / "run", **{**SMALL, "student": student, "seeds": 1}, teacher={"epochs": 1}, tuning_seeds=2
    )
    failed = [(row["name"], row["learning_rate"]) for row in result["tuning"] if row.get("failed_to_learn") == 2]
    assert failed == [("student-alone", 1e-7), ("student-distilled", 1e-7)]
    assert [row["learning_rate"] for row in result["rows"][1:]] == [0.1, 0.1]
    columns = {column.key for column in tuning_table(result["tuning"]).columns}
    assert "failed_to_learn" in columns
    assert "details" in result
    assert "failed_to_learn" not in result["details"]  # no reported fit did


def fit_in(path: Path, errors: int, reason: str = "") -> None:
    """The run directory of a finished fit."""
    with Run(path, recipe="fit", config={}) as run:
        found = {"metrics": {"validation_errors": errors, "validation_nll": 1.0}, "rows": []}
        run.finish(found | ({"failed_to_learn": reason} if reason else {}))


def test_the_fewest_errors_do_not_excuse_a_fit_that_failed(tmp_path: Path) -> None:
    for name, errors, reason in (("a", 3, "why"), ("b", 5, ""), ("c", 4, "why")):
        fit_in(tmp_path / "jobs" / name, errors, reason)
    report = JobReport()
    tried = judge("abc", lambda name: [name], report, tmp_path)
    assert best(tried, report) == "b"
    assert best([tried[0], tried[2]], report) == "a"  # none is left that learned
    assert tried[0].row("x", {})["failed_to_learn"] == 1
    assert "failed_to_learn" not in tried[1].row("x", {})
    assert best([Tried("a", over_seeds([3.0]), 1.0)], report) == "a"


def test_a_replicate_of_several_networks_failed_where_one_did(tmp_path: Path) -> None:
    for name, reason in (("a", "why"), ("b", ""), ("tuning/c", "why"), ("round-1/d", "why")):
        fit_in(tmp_path / "jobs" / name, 1, reason)
    a, b = (tmp_path / "jobs" / name for name in "ab")
    assert about_failures([[a, b], [b], [a]]) == {"failed_to_learn": 2}
    assert about_failures([b]) == {}
    assert failed_fits(tmp_path) == [{"fit": "a", "reason": "why"}]


def test_many_rows_that_failed_are_counted() -> None:
    rows = [{"name": f"A{n}B", "n": 3, "failed_to_learn": 1} for n in range(1, 6)]
    assert failures_in_words(rows).startswith(
        "1 of 3 A1B, 1 of 3 A2B, 1 of 3 A3B and networks of 2 more rows failed"
    )
    assert failures_in_words([{"name": "network", "n": 1, "failed_to_learn": 1}]) == (
        "The network failed to learn: it is no better than guessing on what it learned from."
    )
    assert failures_in_words([{"name": "network", "n": 1}]) == ""
    alone = [{"name": "student-alone", "n": 1, "failed_to_learn": 1}]
    sentence = (
        "tudent alone at the same cost failed to learn: it is no better than guessing on what it learned from."
    )
    words = {"student-alone": "students alone at the same cost"}
    assert failures_in_words(alone, words) == f"The s{sentence}"
    assert failures_in_words([{**alone[0], "n": 2}], words) == (
        f"1 of 2 students{sentence.removeprefix('tudent')}"
    )


def test_a_table_of_candidates_in_parts_says_in_each_which_row_is_which() -> None:
    same = {"temperature": 4.0, "soft_weight": 1.0, "epochs": 3}
    rows = [
        {
            "name": "student-alone",
            "round": 1 + n // 6,
            "learning_rate": n / 100,
            "validation_errors": 49 + n,
            **same,
        }
        for n in range(9)
    ]
    table = tuning_table(rows)
    assert list(table.labels) == ["name", "round", "learning_rate"]
    assert "Not searched: temperature 4, soft weight 1." in table.caption
    stream = io.StringIO()
    print_table(table, Console(file=stream, width=50))
    lines = stream.getvalue().splitlines()
    heads = [line for line in lines if line.startswith("  name")]
    assert ["learning rate" in head for head in heads] == [True, True]
    assert [line.split() for line in lines if line.endswith(" 52  ")] == [["student-alone", "1", "0.03", "52"]]


def test_rows_of_transfer_count_splits(tmp_path: Path) -> None:
    from instar.recipes.transfer.results import failures, rows_of

    networks: list[dict[str, Any]] = [
        {**Measured(split, target, kind, n, 50.0)._asdict(), "job": "x"}
        for split in (0, 1)
        for target in "AB"
        for kind, n in (("base", 0), ("AnB", 1), ("RnB", 1))
    ]
    for network in networks:
        if network["split"] == 1 and network["kind"] != "base":
            network["failed_to_learn"] = True
    found = {one["name"]: one.get("failed_to_learn") for one in rows_of(networks)}
    assert found == {"base": None, "A1B": 1, "R1B": 1}
    assert failures({"rows": rows_of(networks)}).startswith("1 of 2 A1B failed to learn")


def result_of(
    tuning: Sequence[Mapping[str, Any]] = (), *, num_validation: int = 2000, **changed: Mapping[str, Any]
) -> Any:
    """A result of distill with a good teacher, and what was changed in its rows."""
    rows = {
        "teacher": row("teacher", [20.0]),
        "student-alone": row("student-alone", [60.0, 62.0], train_teacher_agreement=0.90),
        "student-distilled": row(
            "student-distilled", [50.0, 52.0], train_teacher_agreement=0.95, learning_rate=0.1, temperature=4.0
        ),
    }
    for name, more in changed.items():
        rows[name.replace("_", "-")] |= more
    details = {"num_validation": num_validation, "commonest_class_errors": 800}
    return {"rows": [*rows.values()], "num_test": 1000, "details": details, "tuning": tuning}


def tried(errors: Mapping[float, float], key: str = "learning_rate") -> list[dict[str, Any]]:
    """Rows of `tuning`."""
    return [
        {"name": "student-distilled", key: value, "validation_errors": mean, "sd": 1.0, "n": 2}
        for value, mean in errors.items()
    ]


def test_nothing_is_said_of_a_result_in_which_nothing_is_strange() -> None:
    assert observations(result_of(tried({0.03: 90.0, 0.1: 40.0, 0.3: 200.0}))) == []


def test_a_teacher_no_better_than_the_student_alone() -> None:
    (seen,) = observations(result_of(teacher={"mean": 61.0}))
    assert seen.startswith("The teacher is no better than the student alone (61.0 and 61.0 errors on test)")


def test_networks_that_guess_on_test() -> None:
    result = result_of(teacher={"mean": 900.0})
    result["details"]["transfer"] = {"examples_are": "images"}
    longer = "Train it longer (--teacher-epochs), with --teacher-views crop:4+flip,"
    cures = {
        "mlp:1200x2@weights.safetensors": "Look at its weights, its preprocessing and the order of its classes.",
        "mlp:1200x2": f"{longer} take one that is made for pictures (--teacher resnet:20 --student convnet:8), or "
        "bring a pretrained one.",
        "resnet:8": f"{longer} or bring a pretrained one.",
        "forest": "Use another kind of teacher, or one that was trained on more examples.",
    }
    for network, cure in cures.items():
        first, second = observations({**result, "config": {"teacher": {"network": network}}})
        assert first.startswith("The teacher is no better")
        assert second == (
            "The teacher makes 900.0 errors on 1,000 test examples, where answering always the commonest class "
            f"makes 800. {cure}"
        )
    result["details"]["transfer"] = {"examples_are": "examples"}
    *_, second = observations({**result, "config": {"teacher": {"network": "mlp:12x1"}}})
    assert second.endswith("Train it longer (--teacher-epochs), or bring a pretrained one.")
    (seen,) = observations(result_of(student_alone={"mean": 790.0}))
    assert seen == (
        "student-alone makes 790.0 errors on 1,000 test examples, where answering always the commonest class "
        "makes 800."
    )


def test_what_to_do_where_all_networks_guess_about_pictures() -> None:
    guess = {"mean": 800.0}
    result = result_of(teacher=guess, student_alone=guess, student_distilled=guess)
    result["config"] = {"teacher": {"network": "resnet:8"}}
    result["details"]["transfer"] = {"examples_are": "images", "num_control": 93}
    *_, last = observations(result)
    assert last.startswith(
        "No network knows the classes after 93 training images: collect more, or make a teacher"
    )
    assert "methods/own-pictures" in last
    result["details"]["transfer"]["examples_are"] = "rows"
    assert not any(said.startswith("No network knows") for said in observations(result))


def test_a_distilled_student_that_agrees_less_with_its_teacher_than_the_control() -> None:
    (seen,) = observations(result_of(student_distilled={"train_teacher_agreement": 0.61}))
    assert "the distilled student agrees with its teacher on 61.0%, the student alone on 90.0%" in seen
    assert observations(result_of(student_distilled={"train_teacher_agreement": 0.8999})) == []  # 90.0 % too


@pytest.mark.parametrize(
    ("key", "values", "chosen", "words"),
    [
        (
            "learning_rate",
            (0.01, 0.1),
            0.1,
            "The learning rate of student-distilled, 0.1, is the largest that was",
        ),
        ("learning_rate", (0.1, 1.0), 0.1, "smallest that was tried (0.1, 1): a smaller one may be better."),
        ("temperature", (1.0, "inf"), "inf", None),
        ("hard_weight", (0.0, 0.5), 0.0, None),
        ("label_weight", (0.5, 1.0), 1.0, None),
        ("temperature", (2.0, 4.0, 8.0), 4.0, None),
    ],
)
def test_a_choice_at_the_edge_of_what_was_tried(key: str, values: Any, chosen: Any, words: str | None) -> None:
    errors = {value: 40.0 if value == chosen else 200.0 for value in values}
    seen = observations(result_of(tried(errors, key), student_distilled={key: chosen}))
    assert len(seen) == (words is not None)
    assert words is None or words in seen[0]


def test_a_candidate_that_failed_closes_the_edge() -> None:
    rows = [*tried({0.01: 90.0, 0.1: 40.0}), {"name": "student-distilled", "learning_rate": 1.0, "failed": "why"}]
    assert observations(result_of(rows)) == []


def test_validation_too_small_to_choose_by() -> None:
    few = observations(result_of(tried({0.1: 27.0, 0.3: 33.0}), num_validation=52))
    assert few == [
        "52 validation examples are too few to choose by: both candidates of student-distilled are within 7.1 "
        "errors of the best, the noise of so few examples. Which one was chosen is partly chance."
    ]
    enough = observations(result_of(tried({0.01: 3300.0, 0.1: 2700.0, 0.3: 3300.0}), num_validation=5200))
    assert enough == []
    last_round = [{**row, "round": 3} for row in tried({0.1: 40.0, 0.3: 41.0})]
    first = [{**row, "round": 1} for row in tried({0.01: 400.0, 0.1: 90.0, 0.3: 95.0, 1.0: 400.0})]
    assert observations(result_of([*first, *last_round])) == []  # the best of a search are alike
    some = observations(result_of(tried({0.01: 39.0, 0.1: 20.0, 0.3: 22.0}), num_validation=52))
    assert some[0].startswith("52 validation examples are too few to choose by: 2 of 3 candidates")
    both = [*tried({0.1: 27.0, 0.3: 33.0}), *({**row, "name": "teacher"} for row in tried({0.1: 27.0, 0.3: 28.0}))]
    assert observations(result_of(both, num_validation=52)) == [
        "52 validation examples are too few to choose by: both candidates of student-distilled are within 7.1 "
        "errors of the best, both of teacher within 7.1, the noise of so few examples. Which ones were chosen is "
        "partly chance."
    ]


def test_a_result_of_another_experiment_has_the_shared_observations() -> None:
    result = {"rows": [], "details": {"failed_to_learn": [{"fit": "base", "reason": "right on 3 of 9"}] * 2}}
    assert shared_observations(result) == [
        "base failed to learn: it is right on 3 of 9; 1 more in result.json. Try other learning rates, more "
        "epochs, or warm-up and gradient clipping."
    ]
