"""A graph of jobs: its order, what is skipped, what fails and what dies."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import job_functions
from instar.errors import InstarError, RunError, UsageError
from instar.jobs import Batch, Job, JobReport, check_graph, open_engine, run_batches, run_jobs
from instar.jobs.graph import costs_ahead, threads_of
from instar.jobs.walk import STARTED, Task
from instar.runs import Run
from instar.training import fit
from small_fits import perceptron, same_bits


def job(name: str, function: Any = job_functions.note, *needs: str, **options: Any) -> Job:
    return Job(name, function, options.pop("config", {"name": name}), needs, **options)


# The graph


def test_levels_follow_from_the_needs() -> None:
    jobs = [job("c", job_functions.note, "a", "b"), job("b", job_functions.note, "a"), job("a"), job("d")]
    assert check_graph(jobs) == {"a": 0, "d": 0, "b": 1, "c": 2}


def test_threads_are_shared_within_a_level_whatever_is_done_already() -> None:
    jobs = [job("teacher"), *(job(f"student-{n}", job_functions.note, "teacher") for n in range(3))]
    assert threads_of(jobs, 8) == {"teacher": 8, "student-0": 2, "student-1": 2, "student-2": 2}
    assert threads_of(jobs, 2) == {"teacher": 2, "student-0": 1, "student-1": 1, "student-2": 1}
    assert threads_of([job("shared", processes=4)], 8) == {"shared": 2}
    assert threads_of([job("shared", processes=4)], 2) == {"shared": 1}


# Listed first and small; then two that a large one waits for.
UNEVEN = [
    *(job(f"small-{n}", cost=2.0) for n in range(2)),
    job("large", job_functions.note, "second", cost=9.0),
    job("second", job_functions.note, "first"),
    job("first"),
]


def test_what_lies_ahead_is_the_longest_chain_of_what_needs_a_job() -> None:
    assert costs_ahead(UNEVEN) == {"small-0": 2, "small-1": 2, "large": 9, "second": 10, "first": 11}
    assert costs_ahead([job("a", cost=2.0), job("b", job_functions.note, "a"), job("c", job_functions.note, "a")])[
        "a"
    ] == pytest.approx(3.0)


def test_what_has_most_ahead_goes_first(tmp_path: Path) -> None:
    with open_engine(cores=1) as engine:
        report = run_jobs(UNEVEN, tmp_path, engine=engine, quiet=True)
    assert report.done == ["first", "second", "large", "small-0", "small-1"]


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([job("a"), job("a")], "two jobs share a name"),
        ([job("a", job_functions.note, "b")], "job 'a' needs 'b', which is no job"),
        ([job("a", job_functions.note, "b"), job("b", job_functions.note, "a")], "jobs need each other"),
        ([job("../a")], "should be a path below jobs/"),
        ([job("/a")], "should be a path below jobs/"),
        ([job("")], "should be a path below jobs/"),
        ([job("a", processes=0)], "both are above 0"),
        ([job("a", cost=0.0)], "both are above 0"),
        ([job("a", lambda run, needs: {})], "job 'a' cannot be sent to another process .* one of a module"),
    ],
)
def test_a_graph_that_cannot_be_done_is_refused_before_anything_is_begun(
    jobs: list[Job], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        run_jobs(jobs, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_an_unknown_engine_and_no_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown engine 'slurm'; there is local"):
        run_jobs([job("a")], tmp_path, engine="slurm")
    with pytest.raises(UsageError, match="cores is 0, expected at least 1"):
        open_engine(cores=0)


@pytest.mark.parametrize(("gpus", "at_once"), [(0, 1), (1, 2)])
def test_jobs_on_a_gpu_take_one_core_each(gpus: int, at_once: int, tmp_path: Path) -> None:
    with open_engine(cores=2) as engine:
        for name in ("a", "b"):
            engine.submit(Task(job(name, gpus=gpus), tmp_path, 2, 1.0))
        news = list(engine.news())
    assert [one.state for one in news].count(STARTED) == at_once


# What happens to jobs

GRAPH = [
    job("last", job_functions.note, "student/seed-0", "student/seed-1"),
    job("student/seed-0", job_functions.note, "teacher"),
    job("student/seed-1", job_functions.note, "teacher"),
    job("teacher"),
    job("refused", job_functions.refuse),
    job("stumbles", job_functions.stumble),
    job("after refused", job_functions.note, "refused"),
    job("after that", job_functions.note, "after refused", "teacher"),
    job("dies always", job_functions.die),
    job("dies once", job_functions.fragile_fit, config={"dies_at": 5, "epochs": 3}),
]


class Events(list[tuple[str, str]]):
    """What an engine tells, and a worker that is killed while it begins."""

    def __call__(self, name: str, state: str) -> None:
        self.append((name, state))
        if len(self) == 1:
            for process in multiprocessing.active_children():
                process.kill()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobReport, Events, JobReport]:
    """The graph above, done once, and what became of it when the same was asked again."""
    root, events = tmp_path_factory.mktemp("graph"), Events()
    with open_engine(cores=2) as engine:
        batches = iter([Batch(GRAPH)])
        report = engine.run(root, lambda _: next(batches, None), on_change=events)
        times = {path: path.stat().st_mtime_ns for path in (root / "jobs" / "teacher").rglob("*")}
        again = run_jobs(
            [job for job in GRAPH if not job.name.startswith("dies al")], root, engine=engine, quiet=True
        )
        assert {path: path.stat().st_mtime_ns for path in (root / "jobs" / "teacher").rglob("*")} == times
    assert not multiprocessing.active_children()
    return root, report, events, again


Graph = tuple[Path, JobReport, Events, JobReport]


def test_each_job_is_done_after_its_needs(graph: Graph) -> None:
    root, report, _, _ = graph
    rows = {
        name: Run.read(root / "jobs" / name).result()["rows"][0] for name in report.done if name != "dies once"
    }
    assert sorted(report.done) == ["dies once", "last", "student/seed-0", "student/seed-1", "teacher"]
    assert rows["student/seed-0"]["there"] == rows["student/seed-1"]["there"] == ["teacher"]
    assert rows["last"]["there"] == ["student/seed-0", "student/seed-1"]
    assert rows["teacher"]["time"] < rows["student/seed-0"]["time"] < rows["last"]["time"]
    assert {name: rows[name]["threads"] for name in rows} == {name: threads_of(GRAPH, 2)[name] for name in rows}


def test_jobs_come_while_others_run(tmp_path: Path) -> None:
    flag = str(tmp_path / "flag")
    waiting, quick = job("waits", job_functions.wait_for, config={"path": flag}), job("quick")
    raises_flag = job("raises it", job_functions.touch, "quick", config={"path": flag})

    def more(report: JobReport) -> Batch | None:
        if "waits" in report.done:
            return None
        return Batch([quick, raises_flag] if "quick" in report.done else [waiting, quick], beside=1)

    with open_engine(cores=2) as engine:
        report = run_batches(more, tmp_path, engine=engine, quiet=True)
    assert sorted(report.done) == ["quick", "raises it", "waits"]
    assert report.failed == {}


def test_what_fails_is_listed_with_its_reason_and_keeps_back_only_what_needs_it(graph: Graph) -> None:
    root, report, _, _ = graph
    assert set(report.failed) == {"refused", "stumbles", "dies always"}
    assert report.failed["refused"] == "this was not to be"
    assert report.failed["stumbles"].startswith("ZeroDivisionError: division by zero (job_functions.py:")
    assert "1 / 0" in (root / "jobs" / "stumbles" / "log.txt").read_text()
    assert report.kept_back == {"after refused": "refused", "after that": "after refused"}
    assert not (root / "jobs" / "after refused").exists()
    with pytest.raises(InstarError, match=r"failed: .*; 2 more failed; 2 that need them were not started"):
        report.raise_if_failed()


def test_what_dies_is_tried_three_times(graph: Graph) -> None:
    root, report, events, _ = graph
    assert (root / "jobs" / "dies always" / "tries.txt").read_text() == 3 * "again\n"
    assert report.failed["dies always"] == "its process died 3 times (exit status -9)"
    told = [state for name, state in events if name == "dies always"]
    assert told == ["started", "died, tried again", "started", "died, tried again", "started", "failed"]


def test_a_worker_that_is_killed_before_it_takes_its_job_is_replaced(graph: Graph) -> None:
    _, report, events, _ = graph
    first = events[0][0]
    assert events[0] == (first, "started")
    assert (first, "died, tried again") in events
    assert first in [*report.done, *report.failed]


def test_a_fit_whose_process_was_killed_goes_on_from_its_checkpoint(graph: Graph) -> None:
    root, _, events, _ = graph
    assert ("dies once", "died, tried again") in events
    path = root / "jobs" / "dies once"
    assert (path / "died.txt").exists()
    assert "resumed from epoch 0, step 4" in (path / "log.txt").read_text()
    alone = fit(job_functions.Fragile(perceptron(dropout=0.2)), job_functions.TRAIN, epochs=3, batch_size=50)
    assert same_bits(Run.read(path).load_weights()[0], alone.network.state_dict())
    assert Run.read(path).result()["rows"] == alone.metrics


def test_the_same_graph_again_skips_what_is_done_and_tries_what_failed(graph: Graph) -> None:
    _, report, _, again = graph
    assert sorted(again.skipped) == sorted(report.done)
    assert again.done == []
    assert set(again.failed) == {"refused", "stumbles"}


def test_a_done_job_of_another_configuration_is_refused(graph: Graph) -> None:
    root, _, _, _ = graph
    with pytest.raises(RunError, match=r"teacher belongs to another configuration: config.name is"):
        run_jobs([job("teacher", config={"name": "other"})], root, quiet=True)
