"""`instar specialists` killed while specialists learn, then the same again: the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar.runs import PROGRESS, Run
from small_fits import same_bits

STUDY = ["--seeds", "1", "--top-n", "1", "--controls", "random", "--sets", "2"]
STUDY += ["--epochs", "3", "--specialist-epochs", "40"]


def start(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "instar", "specialists", *STUDY, "--run-dir", str(path), "--quiet"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_a_specialist(path: Path, process: subprocess.Popen[str]) -> None:
    began = time.time()
    while process.poll() is None:
        if any(file.stat().st_mtime > began for file in path.glob(f"jobs/*specialist/*/*/{PROGRESS}")):
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_specialists_that_are_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "undisturbed")
    _, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    moments, path, num_kills = random.Random(5), tmp_path / "killed", 0
    for number in (signal.SIGINT, signal.SIGKILL):
        process = start(path)
        wait_for_a_specialist(path, process)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is None:
            os.killpg(process.pid, number)
            num_kills += 1
        process.communicate(timeout=60)
    assert num_kills >= 1
    last = start(path)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said

    jobs = [done.parent for done in sorted((tmp_path / "undisturbed").glob("jobs/*specialist/*/*/DONE"))]
    assert len(jobs) == 4
    for job in jobs:
        one, other = Run.read(job), Run.read(path / job.relative_to(tmp_path / "undisturbed"))
        assert same_bits(one.load_weights()[0], other.load_weights()[0]), job
        assert one.result()["rows"] == other.result()["rows"]
    results = [json.loads((run / "result.json").read_text()) for run in (tmp_path / "undisturbed", path)]
    for result in results:
        del result["seconds"], result["fit_seconds"], result["environment"]
        for row in result["rows"]:
            del row["training_seconds"], row["parallel_seconds"]
    assert results[0] == results[1]
