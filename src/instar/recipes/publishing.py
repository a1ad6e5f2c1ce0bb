"""From a run to `results/`: the numbers that we claim, with all that it takes to get them again."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.runs import write_bytes


def publish(result: Mapping[str, Any], name: str, folder: Path = Path("results")) -> Path:
    """Write a result with its configuration, seeds, spread, machine and commit.

    Args:
        result: the content of a `result.json`.
        name: of the file, without its ending.
        folder: where results are kept.

    Returns:
        The path of the file.
    """
    content = {"name": name, "commit": _commit(), **result}
    path = folder / f"{name}.json"
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return path


def _commit() -> str | None:
    """The commit of the code that runs; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
