"""Publishing a result in `results/`, with all that is needed to repeat it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.files import write_bytes


def publish(result: Mapping[str, Any], name: str, folder: Path = Path("results")) -> Path:
    """Write a result with its configuration, seeds and spread, machine and commit.

    Args:
        result: the content of a `result.json`.
        name: of the file, without `.json`; characters that do not belong in a file name become hyphens.
        folder: the folder of results.

    Returns:
        The path of the file.
    """
    name = re.sub(r"[^\w.-]+", "-", name)
    content = {"name": name, **result}
    path = folder / f"{name}.json"
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return path
