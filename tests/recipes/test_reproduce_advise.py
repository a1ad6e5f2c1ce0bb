"""`instar reproduce advise`: the advice is judged on the study's own networks, on pairs named before."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

from command_line import Command
from instar import UsageError
from instar.evaluation import predict_logits
from instar.recipes.advise import reproduction
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.reproduction import STUDY
from instar.recipes.advise.reproduction_plan import JudgeConfig, config_for, plans_for
from instar.recipes.advise.search import Fitted, Search
from instar.recipes.loading import load_run_network
from instar.recipes.reading_settings import checked
from instar.recipes.study import Execution, run_study
from instar.runs import Run
from instar.transfer import random_halves, semantic_halves
from instar.transfer.groups import CIFAR100_PARENTS

PAIRS = ("digits 0-4 to 5-9, 10", "digits 5-9 to 0-4, 10")
RIGHT = {"A1B": 0.5, "A1B+": 0.9, "A2B": 0.6, "A2B+": 0.8, "baseB": 0.7}
"""The share of the test examples that a treatment has right, with seed 0; with seed 1 a tenth less."""


def fitted(errors: int) -> Fitted:
    return Fitted(errors, nll=0.5, epochs=6, seconds=2.0, cached=False)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The result of two pairs with made-up fits: the advice is right on the first pair and wrong on the second."""

    def right_on_test(plan: Plan, job: str) -> torch.Tensor:
        _, name, seed = job.rsplit("/", 2)
        return torch.arange(100) < 100 * RIGHT[name] - 10 * int(seed[-1])

    monkeypatch.setattr(reproduction, "right_on_test", right_on_test)
    scored = [{"cut": 1, "probe_accuracy": 60.0, "h_score": 1.0, "logme": 0.1}]
    scored += [{"cut": 2, "probe_accuracy": 50.0, "h_score": 2.0, "logme": 0.1}]
    names, errors = list(RIGHT), {"A1B": 9, "A1B+": 2, "A2B": 8, "A2B+": 3, "baseB": 4}
    full = {name: [fitted(errors[name]), fitted(errors[name])] for name in names}
    second = {**full, "A2B+": [fitted(1), fitted(9)]}  # best with the advisor's seed, not with both
    short = {name: fitted(5) for name in names}
    metrics = {"num_examples": 50, "seconds": 1.0}
    searches = [
        Search({"metrics": metrics, "rows": scored}, names, [short], {}, ["A1B+", "A2B+"], fits)
        for fits in (full, second)
    ]
    config = config_for("tiny")
    plans = {name: plan for name, plan in plans_for(config, tmp_path, Execution()).items() if name in PAIRS}
    return STUDY.measure(plans, dict(zip(PAIRS, searches, strict=True)))


def test_the_advisor_has_one_seed_and_the_study_all(measured: dict[str, Any]) -> None:
    first, second = measured["rows"]
    assert (first["advice"], first["best"], first["mean"]) == ("A1B+", "A1B+", 0.0)
    assert (second["advice"], second["best"]) == ("A2B+", "A1B+")
    assert second["values"] == pytest.approx([-10.0, -10.0])
    assert (second["advice_accuracy"], second["best_accuracy"]) == pytest.approx((75.0, 85.0))
    assert measured["metrics"]["within_one_point"] == 1


def test_differences_over_pairs_of_the_advice_and_of_what_people_do_without(measured: dict[str, Any]) -> None:
    means = {row["name"]: row["mean"] for row in measured["differences"]}
    expected = {"advice": -5, "freeze all, train the head": -30, "fine-tune all": -10, "from scratch": -20}
    assert means == pytest.approx(expected)
    assert all(row["n"] == 2 for row in measured["differences"])


def test_correlations_leave_out_pairs_where_a_score_is_constant(measured: dict[str, Any]) -> None:
    found = {(row["score"], row["with"]): (row["mean"], row["n"]) for row in measured["details"]["correlations"]}
    assert found["probe_accuracy", "frozen"] == (pytest.approx(-1), 2)
    assert found["probe_accuracy", "fine-tuned"] == (pytest.approx(1), 2)
    assert found["h_score", "frozen"] == (pytest.approx(1), 2)
    assert found["logme", "frozen"] == (None, 0)


def test_the_cost_is_that_of_one_seed_beside_the_study_of_two(measured: dict[str, Any]) -> None:
    for row in measured["rows"]:
        advice, study = row["cost"]["advice"], row["cost"]["study"]
        assert (advice["fits"], study["fits"]) == (5 + 2, 5 * 2)
        assert row["cost_ratio"] == advice["multiplications"] / study["multiplications"]
        assert row["cost_ratio_one_seed"] == pytest.approx(2 * row["cost_ratio"])
        assert row["seconds_ratio"] == (7 * 2.0 + 1.0) / (10 * 2.0)
        assert row["within_goal"] is False  # it costs more than a tenth


def test_every_treatment_of_every_pair_is_in_the_study(measured: dict[str, Any]) -> None:
    rows = measured["details"]["study"]
    assert len(rows) == 2 * 5
    assert {row["name"]: row["minus_scratch"] for row in rows[:5]} == pytest.approx(
        {"A1B": -20, "A1B+": 20, "A2B": -10, "A2B+": 10, "baseB": 0}
    )


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "run"
    run_study(STUDY, config_for("tiny"), path, Execution(quiet=True))
    return path


@pytest.mark.slow
def test_a_row_for_each_pair(judged: Path) -> None:
    result = Run.read(judged).result()
    assert [row["name"] for row in result["rows"]] == list(config_for("tiny").pairs)
    assert all(row["n"] == 2 for row in result["rows"])
    assert len(result["details"]["study"]) == 3 * 5


@pytest.mark.slow
def test_the_difference_is_that_of_the_studys_networks(judged: Path) -> None:
    result = Run.read(judged).result()
    config = config_for("tiny")
    row = next(iter(result["rows"]))
    plan = Plan(config.pairs[row["name"]], judged, folder="digits-0-4-to-5-9-10/")
    test = plan.splits.test

    def accuracy(name: str, seed: int) -> float:
        network = load_run_network(judged / "jobs" / plan.full_name(name, seed))
        right = predict_logits(network, test).argmax(1) == test.labels(test.ids)
        return 100 * float(right.double().mean())

    expected = sum(accuracy(row["advice"], seed) - accuracy(row["best"], seed) for seed in (0, 1)) / 2
    assert row["mean"] == pytest.approx(expected)
    errors = {
        name: sum(
            Run.read(judged / "jobs" / plan.full_name(name, seed)).result()["metrics"]["validation_errors"]
            for seed in (0, 1)
        )
        for name in plan.treatments
    }
    assert errors[row["best"]] == min(errors.values())


@pytest.mark.slow
def test_scores_are_ranked_against_the_study(judged: Path) -> None:
    result = Run.read(judged).result()["details"]
    mine = [one for one in result["correlations"] if one["score"] == "logme" and one["with"] == "frozen"]
    expected = []
    for pair in config_for("tiny").pairs:
        scores = {row["cut"]: row["logme"] for row in result["scores_by_pair"] if row["pair"] == pair}
        means = {
            row["cut"]: row["mean"]
            for row in result["study"]
            if row["pair"] == pair and row["cut"] and not row["fine_tune"]
        }
        assert set(means) == set(scores)
        if len(set(means.values())) > 1:
            expected.append(float(spearmanr([scores[n] for n in means], list(means.values())).statistic))
    assert mine[0]["mean"] == pytest.approx(sum(expected) / len(expected))
    assert mine[0]["n"] == len(expected)


@pytest.mark.slow
def test_equal_bases_are_trained_once(judged: Path) -> None:
    assert len(list((judged / "jobs" / "bases").iterdir())) == 2  # of three pairs


@pytest.mark.slow
def test_page_and_table(typed: Command, judged: Path) -> None:
    page = (judged / "report.html").read_text()
    for words in ("Is the advice any good?", "Rank correlations of the cheap scores", "weights copied"):
        assert words in page
    done = typed("reproduce", "advise", "--scale", "tiny", "--run-dir", judged, "--json")
    assert json.loads(done.stdout) == Run.read(judged).result()
    done = typed("reproduce", "advise", "--scale", "tiny", "--run-dir", judged)
    assert "of 3 pairs of tasks" in " ".join(done.stdout.split())


@pytest.mark.parametrize("scale", ["small", "full"])
def test_ten_pairs_or_more_are_written_down(scale: str) -> None:
    tasks = {name.rpartition(",")[0] for name in config_for(scale).pairs}
    assert len(tasks) >= 10
    for pair in config_for(scale).pairs.values():
        assert pair.source is not None
        assert not set(pair.source.classes or ()) & set(pair.data.classes or ())


def test_unknown_scale() -> None:
    with pytest.raises(UsageError, match="unknown scale 'huge'"):
        config_for("huge")


def test_pairs_of_cifar100_are_the_drawn_halves() -> None:
    names = sorted(CIFAR100_PARENTS)
    semantic = semantic_halves(names, seed=0)
    for scale, size in (("small", 10), ("full", 20)):
        pairs = config_for(scale).families["cifar100"].pairs
        for seed in (0, 1):
            halves = random_halves(names, seed=seed, classes_per_half=size)
            assert (pairs[f"random {seed}"].source, pairs[f"random {seed}"].target) == (halves.a, halves.b)
        assert (pairs["man-made to living"].source, pairs["man-made to living"].target) == (semantic.a, semantic.b)
        assert (pairs["living to man-made"].source, pairs["living to man-made"].target) == (semantic.b, semantic.a)


def test_a_pair_twice_is_refused() -> None:
    config = config_for("tiny").model_dump()
    config["families"]["digits"]["pairs"]["5-9 to 0-4"]["examples"] = [10, 10]
    with pytest.raises(UsageError, match="two pairs of tasks are the same"):
        checked(JudgeConfig, config)
