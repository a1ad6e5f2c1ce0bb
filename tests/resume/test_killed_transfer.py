"""`instar transfer` interrupted and killed at random, then the same again: the same bits."""

import json
import re
import signal
from pathlib import Path

import pytest

from instar.runs import FINAL, Run
from killing import run_undisturbed_and_killed

STUDY = ["--network", "mlp:16x2", "--set", "network.dropout=0.2", "--epochs", "300"]
STUDY += ["--splits", "1", "--targets", "B", "--treatments", "AnB,AnB+,RnB", "--cuts", "1"]
STUDY += [
    "--set",
    "longer=false",
    "--set",
    "copied.frozen_dropout=false",
]  # so that the frozen prefixes are cached
SIGNALS = (signal.SIGKILL, signal.SIGINT)  # the second leaves a checkpoint


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed, path = run_undisturbed_and_killed(
        ["transfer", *STUDY],
        tmp_path,
        signals=SIGNALS,
        news="jobs/*/*",
        at_most_seconds=0.4,
    )
    jobs = [done.parent for done in sorted(undisturbed.glob("jobs/*/*/DONE"))]
    assert [job.name for job in jobs] == ["A1B", "A1B+", "R1B", "baseA", "baseB"]
    logs = ""
    for job in jobs:
        one, other = Run.read(job), Run.read(path / job.relative_to(undisturbed))
        assert (one.path / FINAL).read_bytes() == (other.path / FINAL).read_bytes(), job
        assert one.result()["rows"] == other.result()["rows"]
        assert one.result()["metrics"] == other.result()["metrics"]
        logs += (other.path / "log.txt").read_text()
    assert any(int(step) > 0 for step in re.findall(r"resumed from epoch \d+, step (\d+)", logs))
    results = [json.loads((run / "result.json").read_text()) for run in (undisturbed, path)]
    for result in results:
        del result["seconds"], result["fit_seconds"], result["environment"]
    assert results[0] == results[1]
