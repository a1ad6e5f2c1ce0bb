"""What a person sees while jobs run."""

import re
import time
from pathlib import Path

import pytest

from instar.jobs import Batch, Job
from instar.jobs import display as shown
from instar.runs import Run
from job_functions import note


@pytest.mark.parametrize("state", ["failed", "kept back"])
def test_what_failed_or_was_kept_back_is_no_work_of_this_session(state: str, tmp_path: Path) -> None:
    jobs = [Job("lost", note, {}, cost=3.0), Job("other", note, {}, cost=1.0)]
    display = shown.Display(tmp_path, quiet=True)
    display.add(Batch(jobs))
    display.change("other", "started")
    display.change("lost", state)
    assert display._whole(display._fractions) == 0.75  # nothing of it is left to do
    assert display._whole(display._fractions) - display._whole(display._first) == 0.0
    display.change("other", "done")
    assert display._whole(display._fractions) - display._whole(display._first) == 0.25


@pytest.mark.parametrize("state", ["cut off", "done"])
def test_time_left_leaves_out_what_earlier_processes_did(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "PLAIN_SECONDS", 0.0)
    jobs = [Job("old", note, {}, cost=3.0), Job("new", note, {}, cost=1.0)]
    with Run(tmp_path / "jobs" / "old", recipe="job", config={}) as run:
        run.report_progress(0.9, {"epoch": 9})
    began = time.monotonic()
    with Run(tmp_path / "jobs" / "new", recipe="job", config={}) as run, shown.Display(tmp_path) as display:
        display.add(Batch(jobs))
        display.change("old", "started" if state == "cut off" else "skipped")
        display.change("new", "started")
        run.report_progress(0.5, {"epoch": 1})
        time.sleep(1.2)
    fraction = (3 * (0.9 if state == "cut off" else 1.0) + 0.5) / 4
    last = capsys.readouterr().err.splitlines()[-1]
    percent, left = re.fullmatch(r"all jobs: (\d+)% done, ([\d.]+) s left", last).groups()  # type: ignore[union-attr]
    assert int(percent) == round(100 * fraction)
    # An eighth was gained in 0.5 seconds, or in all of them on a busy machine.
    assert 0.4 * (1 - fraction) / 0.125 < float(left) < 1.1 * (time.monotonic() - began) * (1 - fraction) / 0.125


def test_the_total_goes_on_as_jobs_come(tmp_path: Path) -> None:
    display = shown.Display(tmp_path, quiet=True)
    display.add(Batch([Job("first", note, {}, cost=3.0)]))
    display.change("first", "started")
    display.change("first", "done")
    display.add(Batch([Job("first", note, {}, cost=3.0), Job("second", note, {}, cost=1.0)], title="part 2 of 2"))
    assert display._whole(display._fractions) == 0.75
