"""The examples run as they stand, and the flat loop and the library give the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, folder: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, EXAMPLES / name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def test_the_flat_loop_and_the_library_give_the_same_numbers(tmp_path: Path) -> None:
    flat = printed("distill.py", tmp_path)
    assert flat.count("errors on 497 test images") == 3
    assert printed("distill_with_instar.py", tmp_path) == flat
