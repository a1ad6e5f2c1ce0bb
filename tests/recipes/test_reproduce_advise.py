"""`instar reproduce advise`: the advice is judged on the study's own networks, on pairs named before."""

import json
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from command_line import Command
from instar import UsageError
from instar.evaluation import predict_logits
from instar.recipes.advise.plan import Plan
from instar.recipes.advise.reproduction import STUDY
from instar.recipes.advise.reproduction_plan import JudgeConfig, config_for
from instar.recipes.fitting import load_run_network
from instar.recipes.settings import checked
from instar.recipes.study import Execution, run_study
from instar.runs import Run
from instar.transfer import random_halves, semantic_halves
from instar.transfer.groups import CIFAR100_PARENTS


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "run"
    run_study(STUDY, config_for("tiny"), path, Execution(quiet=True))
    return path


def test_a_row_for_each_pair(judged: Path) -> None:
    result = Run.read(judged).result()
    assert [row["name"] for row in result["rows"]] == list(config_for("tiny").pairs)
    assert all(row["n"] == 2 for row in result["rows"])
    assert len(result["details"]["study"]) == 3 * 5


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


def test_equal_bases_are_trained_once(judged: Path) -> None:
    assert len(list((judged / "jobs" / "bases").iterdir())) == 2  # of three pairs


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
