"""`kill -9` at any moment, then the same again: the same bits and the same metrics."""

import contextlib
import random
import re
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from interrupted_fits import CASES, fit_case, fit_in_a_process

from instar.processes import start_process
from instar.runs import FINAL, LAST, Run
from small_fits import same_bits

KILLS_EACH = 6


def wait_for_a_checkpoint(path: Path, process: BaseProcess) -> None:
    """Until there is one that was not there before, or the process has ended."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.is_alive():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime_ns != before:
                return
        time.sleep(0.001)


@pytest.mark.parametrize("name", CASES)
def test_a_fit_that_is_killed_again_and_again_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    """Six times each, at 24 moments in all: while it begins, computes, writes a checkpoint, or is at its end."""
    moments = random.Random(name)
    path, kills = tmp_path / "run", 0
    while not (path / "DONE").exists():
        checkpoint_seconds = moments.choice((0.0, 0.005))
        process = start_process(fit_in_a_process, name, path, checkpoint_seconds, torch.get_num_threads())
        if kills < KILLS_EACH:
            if kills:
                wait_for_a_checkpoint(path / LAST, process)
            process.join(moments.uniform(0, 0.04))
            process.kill()
        process.join()
        assert process.exitcode in (0, -9)
        kills += process.exitcode == -9
    alone = fit_case(name)
    run = Run.read(path)
    weights, about = run.load_weights()
    assert same_bits(weights, alone.network.state_dict())
    assert run.result()["rows"] == alone.metrics
    assert [{key: line[key] for key in line if key != "seconds"} for line in run.metrics()] == alone.metrics
    assert (about["steps"], about["best_epoch"]) == (alone.num_steps, alone.best_epoch)
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert files == {"config.toml", "environment.json", "metrics.jsonl", "result.json", "log.txt", "DONE", FINAL}
    log = (path / "log.txt").read_text()
    steps = [int(step) for step in re.findall(r"resumed from epoch \d+, step (\d+)", log)]
    assert steps == sorted(steps)
    assert kills >= 5
    assert any(step % 10 for step in steps)  # in the middle of an epoch
