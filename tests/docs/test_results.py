"""docs/results.md says what results/ holds."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_page_is_the_one_that_results_give() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_results.py"))["page"]
    assert (ROOT / "docs" / "results.md").read_text() == page(), "stale: run `make results`"


def test_every_published_row_has_n_and_a_spread() -> None:
    for path in (ROOT / "results").glob("*.json"):
        result = json.loads(path.read_text())
        for row in result.get("rows", []):
            assert row["n"] >= 1, f"{path.name}: {row}"
            assert row["n"] == 1 or row["sd"] is not None, f"{path.name}: {row}"


def test_a_recorded_command_says_no_path_of_the_machine_that_ran_it() -> None:
    command = runpy.run_path(str(ROOT / "docs" / "make_results.py"))["command"]
    words = ["-m", "advise", "--network", "python:m:f@/a/b/data/weights/w.pth", "--data", "folder:photos/data/x"]
    expected = "instar advise --network python:m:f@$INSTAR_DATA/weights/w.pth --data folder:photos/data/x"
    assert command([*words, "--run-dir", "/a/runs/x"]) == expected
