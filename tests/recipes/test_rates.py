"""Learning rates that nobody gave: the rounds in which they are found, and networks that need unusual ones."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import nn

from instar.errors import InstarError, UsageError
from instar.intervals import over_seeds
from instar.jobs import Job, JobReport
from instar.networks import build_network
from instar.recipes.choosing import Tried, last_round, ranking_of
from instar.recipes.distill.plan import ALONE, DISTILLED, Plan
from instar.recipes.distill.search import _lowest
from instar.recipes.distill.settings import Candidate, read_config
from instar.recipes.halving import shortened, side_by_side
from instar.recipes.loading import load_network
from instar.recipes.rates import Found, find_rate, has_normalisation, settled
from instar.recipes.settings import DataSettings, FitSettings, StudentSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import Round, Rounds
from instar.runs import Run
from small_studies import distilled

SCALED = """
import torch

def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 6, generator=generator)
    labels = (inputs[:, 0] > 0).long() + 2 * (inputs[:, 1] > 0).long()
    return (inputs[:300], labels[:300]), (inputs[300:], labels[300:])

class Scaled(torch.nn.Module):
    def __init__(self, size, classes):
        super().__init__()
        self.first, self.last = torch.nn.Linear(size, 12), torch.nn.Linear(12, classes)

    def forward(self, inputs):
        return self.last(torch.relu(self.first(100 * inputs)))

def network(input_shape, num_classes):
    return Scaled(input_shape[0], num_classes)
"""
"""Four classes, and a network whose inputs are so large that the usual rates destroy it."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("scaled")
    (folder / "scaled_network.py").write_text(SCALED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        result = distilled(
            folder / "run",
            data={"name": "python:scaled_network:data", "validation_fraction": 0.3},
            teacher={"network": "mlp:32x1", "epochs": 20},
            student={"network": "python:scaled_network:network", "epochs": 30, "batch_size": 32},
            temperature=[2.0, 4.0],
            seeds=2,
        )
    return folder / "run", result


def test_a_network_that_needs_an_unusual_rate_learns(found: tuple[Path, dict]) -> None:
    _, result = found
    for row in result["rows"]:
        assert row["mean"] < 40, f"{row['name']}: at chance 75 of 100 are wrong"


def test_both_students_have_the_same_effort_and_the_chosen_candidate_is_marked(found: tuple[Path, dict]) -> None:
    path, result = found
    tuning = result["tuning"]
    assert {row["name"] for row in tuning} == {"teacher", ALONE, DISTILLED}
    for name in (ALONE, DISTILLED):
        fits = (path / "jobs" / "tuning" / name).rglob("result.json")
        assert sum(len(Run.read(fit.parent).result()["rows"]) for fit in fits) == 5 * 3 + 4 * 5 + 6 * 8
        (chosen,) = [row for row in tuning if row["name"] == name and row.get("chosen")]
        assert chosen in last_round(tuning)
        (row,) = [row for row in result["rows"] if row["name"] == name]
        assert chosen["learning_rate"] == row["learning_rate"]
    temperatures = {row["temperature"] for row in last_round(tuning) if row["name"] == DISTILLED}
    assert temperatures == {2.0, 4.0}


def test_networks_without_normalisation_are_clipped_and_the_page_says_so(found: tuple[Path, dict]) -> None:
    path, _ = found
    for job in ("teacher", f"{ALONE}/seed-0", f"{DISTILLED}/seed-1"):
        assert Run.read(path / "jobs" / job).config["fit"]["gradient_clip"] == 1.0
    assert "its gradients were clipped" in (path / "report.html").read_text()


def test_the_same_run_again_finds_the_same(found: tuple[Path, dict], tmp_path: Path) -> None:
    path, result = found
    (path / "DONE").unlink()
    (path / "jobs" / DISTILLED / "seed-0" / "DONE").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        config = read_config(dict(Run.read(path).config))
        again = distilled(path, **config.model_dump())
    assert again["tuning"] == result["tuning"]
    assert [row["values"] for row in again["rows"]] == [row["values"] for row in result["rows"]]


def made_up(path: Path, jobs: list[Job], errors: Mapping[str, int]) -> None:
    """Results of jobs, by the last part of their names; the others failed."""
    for job in jobs:
        if (name := job.name.rpartition("-")[2]) in errors:
            with Run(path / "jobs" / job.name, recipe="job", config={}) as run:
                metrics = {"validation_errors": errors[name], "validation_nll": 0.1 * errors[name]}
                run.finish({"metrics": metrics, "rows": []})


def drive(rounds: Rounds[Found], path: Path, errors: list[dict[str, int]]) -> tuple[list[list[str]], Found]:
    """What is fitted in each round, where the errors of each are known, and what is found."""
    current, fitted = next(rounds), []
    for known in errors:
        names = [job.name for job in current.jobs]
        fitted.append([name.rpartition("-")[2] for name in names])
        made_up(path, list(current.jobs), known)
        failed = {name: "the loss is not finite" for name in names if name.rpartition("-")[2] not in known}
        try:
            current = rounds.send(JobReport(failed=failed))
        except StopIteration as end:
            return fitted, end.value
    raise AssertionError("a round more than was expected")


def test_a_rate_that_wins_at_the_edge_is_followed_by_one_beyond_it(tmp_path: Path) -> None:
    settings = FitSettings(network="mlp:4x1", epochs=40)

    def job(name: str, short: FitSettings) -> Job:
        assert name.endswith(f"{short.learning_rate:g}")
        return Job(name, print, {})

    rounds = find_rate("teacher", settings, job, tmp_path, [2, 4], 100)
    first = {"0.0001": 90, "0.001": 80, "0.01": 40, "0.1": 60}
    fitted, found = drive(rounds, tmp_path, [first | {"1": 10}, {"0.3": 20, "1": 10, "3": 9}])
    assert fitted == [["0.0001", "0.001", "0.01", "0.1", "1"], ["0.3", "1", "3"]]
    assert found.rate == 3.0


def test_a_much_longer_fit_gets_the_rate_below_the_best_of_short_ones(tmp_path: Path) -> None:
    settings = FitSettings(network="mlp:4x1", epochs=40)
    errors = [{"0.0001": 90, "0.001": 80, "0.01": 40, "0.1": 20, "1": 60}, {"0.03": 30, "0.1": 20, "0.3": 10}]
    rates = []
    for length in (2, 3):
        rounds = find_rate(
            "teacher", settings, lambda name, _: Job(name, print, {}), tmp_path / f"{length}", [1, length], 100
        )
        rates.append(drive(rounds, tmp_path / f"{length}", errors)[1].rate)
    assert rates == [0.1, 0.3]  # 40 epochs are 20 times 2


def test_rates_that_diverge_are_out_and_reported(tmp_path: Path) -> None:
    settings = FitSettings(network="mlp:4x1", epochs=40)
    rounds = find_rate("teacher", settings, lambda name, short: Job(name, print, {}), tmp_path, [2, 4], 100)
    errors = [{"0.0001": 90, "0.001": 30, "0.01": 40}, {"0.0003": 30, "0.001": 25}]
    fitted, found = drive(rounds, tmp_path, errors)
    assert fitted[1] == ["0.0003", "0.001", "0.003"]
    assert (found.rate, [row["learning_rate"] for row in found.rows if "failed" in row]) == (
        0.001,
        [0.1, 1.0, 0.003],
    )


def test_errors_within_the_noise_are_a_tie_after_short_fits() -> None:
    """The statistics of batch normalisation lag behind: the likelihood prefers a network that has not moved."""
    tried = [Tried("still", over_seeds([10.0]), 1.1, train_loss=1.9)]
    tried.append(Tried("learning", over_seeds([12.0]), 4.1, train_loss=1.2))
    tried.append(Tried("bad", over_seeds([16.0]), 0.9, train_loss=0.9))
    assert ranking_of(tried) == ["still", "learning", "bad"]
    assert ranking_of(tried, num_validation=20) == ["learning", "still", "bad"]


def test_a_candidate_is_chosen_though_one_diverged_and_the_others_failed_to_learn() -> None:
    """A fit that was done is better than none, and one that learned is better than one with fewer errors."""
    slow, fast, good = (Candidate(learning_rate=rate) for rate in (0.1, 1.0, 0.3))
    lost = Tried(slow, over_seeds([10.0]), 1.0, num_failed_to_learn=1, train_loss=0.1)
    diverged, learned = Tried(fast, failed="diverged"), Tried(good, over_seeds([11.0]), 1.0, train_loss=0.5)
    for tried, expected in (([lost], slow), ([lost, diverged], slow), ([lost, diverged, learned], good)):
        assert _lowest(tried, 20) == expected
        assert ranking_of(tried, num_validation=20)[0] == ranking_of(tried)[0] == expected
    assert ranking_of([diverged], num_validation=20) == []  # the round says that all failed


def test_what_a_user_says_is_not_changed() -> None:
    plain, normal = build_network("convnet:8x4", input_shape=(3, 32, 32), num_classes=4, seed=0), nn.LayerNorm(3)
    open_ = StudentSettings(network="convnet:8x4", epochs=40)
    assert (settled(open_, plain, 1000).gradient_clip, settled(open_, plain, 1000).warmup_epochs) == (1.0, 2.0)
    assert settled(open_, normal, 1000).gradient_clip is None
    for given in ({"learning_rate": 0.1}, {"warmup_epochs": 0}, {"gradient_clip": 5.0}):
        said = StudentSettings(network="convnet:8x4", **given)
        assert settled(said, plain, 1000).gradient_clip == given.get("gradient_clip")
        assert settled(said, plain, 1000).warmup_epochs == 0.0
    assert not has_normalisation(nn.LocalResponseNorm(2))


def test_few_examples_are_learned_in_smaller_batches_unless_something_is_said() -> None:
    network = nn.LayerNorm(3)
    sizes = [settled(StudentSettings(network="mlp:8x1"), network, count).batch_size for count in (60_000, 184, 40)]
    assert sizes == [128, 32, 16]
    for given, expected in (({"learning_rate": 0.1}, 128), ({"batch_size": 64}, 64)):
        assert settled(StudentSettings(network="mlp:8x1", **given), network, 40).batch_size == expected


def test_a_network_that_is_built_anew_is_no_pretrained_one_and_a_run_that_is_not_there_is_said() -> None:
    splits = load_splits(DataSettings())
    with pytest.raises(UsageError, match=r"mlp:8x1 is built anew and has no weights"):
        load_network(FitSettings(network="mlp:8x1", pretrained=True), splits)
    with pytest.raises(UsageError, match="there is no run in runs/nothing/jobs/teacher"):
        load_network(FitSettings(network="runs/nothing:teacher"), splits)


def test_a_shorter_fit_has_the_whole_schedule() -> None:
    settings = FitSettings(network="mlp:4x1", epochs=60, schedule="step:30,45", warmup_epochs=6.0)
    short = shortened(settings, 10)
    assert (short.epochs, short.schedule, short.warmup_epochs) == (10, "step:5,7.5", 1.0)


def test_rounds_side_by_side_share_jobs_and_go_on_on_their_own() -> None:
    base = Job("base", print, {})

    def series(name: str, length: int) -> Rounds[str]:
        for number in range(length):
            report = yield Round([base, Job(f"{name}-{number}", print, {})], may_fail=True)
            assert set(report.failed) <= {f"{name}-{number}"}
        return name

    rounds = side_by_side(series("a", 2), side_by_side(series("b", 1), series("c", 2)))

    def after(*done: str, failed: bool = True) -> list[str]:
        more = rounds.send(JobReport(done=["base", *done], failed={"a-0": "why"} if failed else {}))
        assert more.early
        return [job.name for job in more.jobs]

    assert [job.name for job in next(rounds).jobs] == ["base", "a-0", "b-0", "c-0"]
    assert after(failed=False) == []
    assert after() == ["base", "a-1"]  # b and c still run
    assert after("c-0") == ["base", "c-1"]
    assert after("c-0", "b-0", "a-1") == []
    with pytest.raises(StopIteration) as end:
        after("c-0", "b-0", "a-1", "c-1")
    assert end.value.value == ["a", ["b", "c"]]


def test_a_failed_job_of_one_series_ends_them_all_where_it_may_not_fail() -> None:
    def series(name: str) -> Rounds[None]:
        yield Round([Job(name, print, {})])

    rounds = side_by_side(series("a"), series("b"))
    next(rounds)
    with pytest.raises(InstarError, match="b failed: why"):
        rounds.send(JobReport(failed={"b": "why"}))


def test_a_quick_look_is_one_seed_one_temperature_and_one_round(tmp_path: Path) -> None:
    config = read_config({"quick": True, "teacher": {"epochs": 5}})
    assert (config.seeds, config.tuning_seeds, config.temperature) == (1, 1, [4.0])
    assert (config.teacher.epochs, config.student.epochs) == (5, 30)
    assert len(Plan(config, tmp_path).lengths) == len(Plan(config, tmp_path).teacher_lengths) == 1
    assert read_config({"quick": False}) == read_config({})
