"""Some hundreds of damaged files for every reader: `python -m benchmarks fuzz`, small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUM_INPUTS = 300


@pytest.mark.slow
def test_damaged_files_are_read_as_others_read_them_or_refused_in_a_line(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    words = ["-m", "benchmarks.fuzz", "--inputs", str(NUM_INPUTS), "--seed", "1", "--out", str(out)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(out.read_text())["counts"]
    assert len(rows) == 10
    for row in rows:
        values, refused = row["value as a second reader has it"], row["refused in a line"]
        assert values > 0, row
        assert refused > 0, row
        assert values + refused + row["second reader failed"] == row["inputs"] == NUM_INPUTS, row
