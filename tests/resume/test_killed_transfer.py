"""`instar transfer` interrupted and killed at random, then the same again: the same bits."""

import json
import re
import signal
from pathlib import Path

import pytest

from instar.runs import Run
from killing import run_undisturbed_and_killed
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


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed, path, num_kills = run_undisturbed_and_killed(
        ["transfer", *STUDY], tmp_path, signals=SIGNALS, news="jobs/*/*", at_most_seconds=0.4
    )
    assert num_kills >= 3

    jobs = [done.parent for done in sorted(undisturbed.glob("jobs/*/*/DONE"))]
    assert [job.name for job in jobs] == ["A1B", "A1B+", "R1B", "baseA", "baseB"]
    logs = ""
    for job in jobs:
        one, other = Run.read(job), Run.read(path / job.relative_to(undisturbed))
        assert same_bits(one.load_weights()[0], other.load_weights()[0]), job
        assert one.result()["rows"] == other.result()["rows"]
        assert one.result()["metrics"] == other.result()["metrics"]
        logs += (other.path / "log.txt").read_text()
    assert any(int(step) > 0 for step in re.findall(r"resumed from epoch \d+, step (\d+)", logs))
    results = [json.loads((run / "result.json").read_text()) for run in (undisturbed, path)]
    for result in results:
        del result["seconds"], result["environment"]
    assert results[0] == results[1]
