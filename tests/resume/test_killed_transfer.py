"""`instar transfer` interrupted and killed at random, then the same again: the same bits."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar.runs import PROGRESS, Run
from small_fits import same_bits

STUDY = [
    "--network",
    "mlp:16x2",
    "--set",
    "network.dropout=0.2",
    "--epochs",
    "300",
    "--splits",
    "1",
    "--targets",
    "B",
]
STUDY += ["--treatments", "AnB,AnB+,RnB", "--cuts", "1", "--set", "longer=false"]
STUDY += ["--set", "copied.frozen_dropout=false"]  # so that the frozen prefixes are cached
SIGNALS = (signal.SIGINT, signal.SIGKILL, signal.SIGINT, signal.SIGKILL)


def start(path: Path) -> subprocess.Popen[str]:
    """In a session of its own, as a terminal would have it."""
    command = [sys.executable, "-m", "instar", "transfer", *STUDY, "--run-dir", str(path), "--quiet"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_news(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a fit has told of its progress since now, or all is done."""
    began = time.time()
    while process.poll() is None:
        if any(file.stat().st_mtime > began for file in path.glob(f"jobs/*/*/{PROGRESS}")):
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "undisturbed")
    _, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    moments, path, num_kills = random.Random(5), tmp_path / "killed", 0
    for number in SIGNALS:
        process = start(path)
        wait_for_news(path, process)
        time.sleep(moments.uniform(0, 0.4))
        if process.poll() is None:
            os.killpg(process.pid, number)
            num_kills += 1
        process.communicate(timeout=60)
    assert num_kills >= 3
    last = start(path)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said

    jobs = [done.parent for done in sorted((tmp_path / "undisturbed").glob("jobs/*/*/DONE"))]
    assert [job.name for job in jobs] == ["A1B", "A1B+", "R1B", "baseA", "baseB"]
    logs = ""
    for job in jobs:
        one, other = Run.read(job), Run.read(path / job.relative_to(tmp_path / "undisturbed"))
        assert same_bits(one.load_weights()[0], other.load_weights()[0]), job
        assert one.result()["rows"] == other.result()["rows"]
        assert one.result()["metrics"] == other.result()["metrics"]
        logs += (other.path / "log.txt").read_text()
    assert any(int(step) > 0 for step in re.findall(r"goes on from epoch \d+, step (\d+)", logs))
    results = [json.loads((run / "result.json").read_text()) for run in (tmp_path / "undisturbed", path)]
    for result in results:
        del result["seconds"], result["environment"]
    assert results[0] == results[1]
