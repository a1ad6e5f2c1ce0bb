"""From a run to `results/`: the numbers that we claim, with all that it takes to get them again."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.files import write_bytes


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
