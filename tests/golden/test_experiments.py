"""A tiny run of every experiment gives the numbers that it gave before.

`tiny/NAME.json` is what `python tests/golden/experiments.py tests/golden/tiny` wrote. Write it anew only with a
change that is meant to move values, and say so in the CHANGELOG (**changes values**). The first ones had, number
for number, what commit c8c33c6 gave before the experiments were rebuilt.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from experiments import COMMANDS, NEED_DATA, machine, run

GOLDEN = Path(__file__).with_name("tiny")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_tiny_run_gives_the_golden_numbers(name: str, tmp_path: Path) -> None:
    if name in NEED_DATA and "INSTAR_DATA" not in os.environ:
        pytest.skip("needs the spoken digits or the sentences of INSTAR_DATA")
    golden, found = json.loads((GOLDEN / f"{name}.json").read_text()), run(name, tmp_path)
    if golden.pop("machine") == machine():
        assert differences(golden, found) == []
    else:  # sums are rounded otherwise, and an example on a border falls to the other side
        assert golden.keys() == found.keys()
        assert [*golden["rows"][0]] == [*found["rows"][0]]
        assert all(abs(value) < float("inf") for value in found["metrics"].values() if value is not None)


def differences(golden: Any, found: Any, path: str = "") -> list[str]:
    """Where two results differ, each with both values."""
    if isinstance(golden, dict) and isinstance(found, dict) and golden.keys() == found.keys():
        return [line for key in golden for line in differences(golden[key], found[key], f"{path}.{key}")]
    if isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        pairs = enumerate(zip(golden, found, strict=True))
        return [line for row, pair in pairs for line in differences(*pair, f"{path}[{row}]")]
    return [] if type(golden) is type(found) and golden == found else [f"{path}: {golden!r}, now {found!r}"]


def test_the_last_bit_of_a_number_and_a_new_key_are_differences() -> None:
    golden = {"rows": [{"mean": 1.0, "n": 3}], "name": "x"}
    assert differences(golden, golden) == []
    moved = {"rows": [{"mean": 1.0 + 2**-52, "n": 3}], "name": "x"}
    assert differences(golden, moved) == [".rows[0].mean: 1.0, now 1.0000000000000002"]
    assert len(differences(golden, {**golden, "more": 1})) == 1
