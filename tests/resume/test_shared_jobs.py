"""Several processes that share one job: what one process does, together or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import job_functions
from instar.jobs import Job, JobReport, run_jobs
from instar.networks import load_state_
from instar.runs import Run
from small_fits import perceptron, same_bits


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobReport]:
    """Jobs that two processes share."""
    root = tmp_path_factory.mktemp("shared")
    fragile = {"dies_at": 5, "rank": 1, "epochs": 3}
    jobs = [
        Job("share", job_functions.share, {}, processes=2),
        Job("dies once", job_functions.fragile_fit, fragile, processes=2),
        Job("one fails", job_functions.only_the_second_fails, {}, processes=2),
    ]
    report = run_jobs(jobs, root, quiet=True)
    return root, report


@pytest.mark.slow
@pytest.mark.parametrize("name", job_functions.SHARED)
def test_two_processes_do_what_one_does(name: str, shared: tuple[Path, JobReport]) -> None:
    root, report = shared
    assert "share" in report.done, report.failed
    network, metrics = job_functions.shared_case(name)
    rows = Run.read(root / "jobs" / "share").result()["rows"][list(job_functions.SHARED).index(name)]
    states = [load_file(root / "jobs" / "share" / f"{name}-{rank}.safetensors") for rank in range(2)]
    assert same_bits(*states)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(states[0][key], value, rtol=1e-4, atol=1e-6)
    assert len(rows) == len(metrics)
    for ours, alone in zip(rows, metrics, strict=True):
        assert ours == pytest.approx(alone, rel=1e-4)


@pytest.mark.slow
def test_two_processes_stop_early_together(shared: tuple[Path, JobReport]) -> None:
    root, _ = shared
    *_, stopped = Run.read(root / "jobs" / "share").result()["rows"]
    errors = [line["validation_errors"] for line in stopped]
    assert len(errors) == min(errors.index(min(errors)) + 2, 6)


@pytest.mark.slow
def test_a_job_one_of_whose_processes_was_killed_goes_on(shared: tuple[Path, JobReport]) -> None:
    root, report = shared
    assert "dies once" in report.done, report.failed
    run = Run.read(root / "jobs" / "dies once")
    assert (run.path / "died.txt").exists()
    assert "resumed from epoch" in (run.path / "log.txt").read_text()
    network = job_functions.Fragile(perceptron())
    load_state_(network, run.load_weights()[0], "fragile", "here")
    assert [line["step"] for line in run.metrics()] == [4, 8, 12]
    assert [line["epoch"] for line in run.result()["rows"]] == [1, 2, 3]


@pytest.mark.slow
def test_an_error_in_another_process_is_found_in_the_log(shared: tuple[Path, JobReport]) -> None:
    root, report = shared
    log = root / "jobs" / "one fails" / "log.txt"
    assert report.failed["one fails"] == f"one of the 2 processes failed: see {log}"
    assert "ZeroDivisionError: in the second process" in log.read_text()
