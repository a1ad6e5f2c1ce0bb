"""`instar specialists` killed while specialists learn, then the same again: the same bits."""

import json
import signal
from pathlib import Path

import pytest

from instar.runs import Run
from killing import run_undisturbed_and_killed
from small_fits import same_bits

STUDY = ["--seeds", "1", "--top-n", "1", "--controls", "random", "--sets", "2"]
STUDY += ["--epochs", "3", "--specialist-epochs", "40"]


@pytest.mark.slow
def test_specialists_that_are_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed, path = run_undisturbed_and_killed(
        ["specialists", *STUDY],
        tmp_path,
        signals=(signal.SIGINT, signal.SIGKILL),
        news="jobs/*specialists/*/*",
        at_most_seconds=0.2,
    )
    jobs = [done.parent for done in sorted(undisturbed.glob("jobs/*specialists/*/*/DONE"))]
    assert len(jobs) == 4
    for job in jobs:
        one, other = Run.read(job), Run.read(path / job.relative_to(undisturbed))
        assert same_bits(one.load_weights()[0], other.load_weights()[0]), job
        assert one.result()["rows"] == other.result()["rows"]
    results = [json.loads((run / "result.json").read_text()) for run in (undisturbed, path)]
    for result in results:
        del result["seconds"], result["fit_seconds"], result["environment"]
        for row in result["rows"]:
            del row["training_seconds"], row["parallel_seconds"]
    assert results[0] == results[1]
