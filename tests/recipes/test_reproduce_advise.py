"""`instar reproduce advise`: the advice is judged on the study's own networks, on pairs named before."""

import json
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from command_line import Command
from instar import UsageError
from instar.evaluation import predict_logits
from instar.recipes.advise.plan import Plan
from instar.recipes.advise_study.recipe import main
from instar.recipes.advise_study.scales import config_for
from instar.recipes.fitting import load_run_network
from instar.runs import Run


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "run"
    main(config_for("tiny"), path, quiet=True)
    return path


def test_a_row_for_each_pair(judged: Path) -> None:
    result = Run.read(judged).result()
    assert [row["name"] for row in result["rows"]] == list(config_for("tiny").pairs)
    assert all(row["n"] == 2 for row in result["rows"])
    assert len(result["study"]) == 3 * 5


def test_the_difference_is_that_of_the_studys_networks(judged: Path) -> None:
    result = Run.read(judged).result()
    config = config_for("tiny")
    row = next(iter(result["rows"]))
    plan = Plan(config.pairs[row["name"]], judged, folder="digits-0-4-to-5-9-10/")
    test = plan.splits.test

    def accuracy(name: str, seed: int) -> float:
        network = load_run_network(judged / "jobs" / plan.place(name, seed))
        right = predict_logits(network, test).argmax(1) == test.labels(test.ids)
        return 100 * float(right.double().mean())

    expected = sum(accuracy(row["advice"], seed) - accuracy(row["best"], seed) for seed in (0, 1)) / 2
    assert row["mean"] == pytest.approx(expected)
    errors = {
        name: sum(
            Run.read(judged / "jobs" / plan.place(name, seed)).result()["metrics"]["validation_errors"]
            for seed in (0, 1)
        )
        for name in plan.candidates(plan.cuts)
    }
    assert errors[row["best"]] == min(errors.values())


def test_scores_are_ranked_against_the_study(judged: Path) -> None:
    result = Run.read(judged).result()
    mine = [one for one in result["correlations"] if one["score"] == "logme" and one["with"] == "frozen"]
    expected = []
    for pair in config_for("tiny").pairs:
        scores = {row["cut"]: row["logme"] for row in result["scores"] if row["pair"] == pair}
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
    for words in ("Is the advice any good?", "How the cheap scores rank the cuts", "weights copied"):
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
