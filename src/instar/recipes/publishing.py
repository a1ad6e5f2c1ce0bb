"""From a run to `results/`: the numbers that we claim, with all that it takes to get them again."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.files import write_bytes
from instar.runs import Run


def publish(result: Mapping[str, Any], name: str, folder: Path = Path("results")) -> Path:
    """Write a result with its configuration, seeds and spread, the machine and the commit that it ran on.

    Args:
        result: the content of a `result.json`.
        name: of the file, without its ending; what cannot stand in one becomes a hyphen (`folder:my/photos`).
        folder: where results are kept.

    Returns:
        The path of the file.
    """
    name = re.sub(r"[^\w.-]+", "-", name)
    content = {"name": name, **result}
    path = folder / f"{name}.json"
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return path


def time_spent(path: Path, started: float) -> dict[str, float]:
    """Seconds of a study since it was started last, and of all its fits, over every time that it was gone on with.

    Args:
        path: the run directory.
        started: by the monotonic clock.
    """
    fits = [lines[-1] for file in path.glob("jobs/**/metrics.jsonl") if (lines := Run.read(file.parent).metrics())]
    return {
        "seconds": round(time.monotonic() - started, 1),
        "fit_seconds": round(sum(float(line["seconds"]) for line in fits), 1),
    }
