"""Small runs of `instar distill` in this process: a process of its own would import torch for each of them."""

from pathlib import Path
from typing import Any

from instar.recipes.distill.recipe import STUDY
from instar.recipes.distill.settings import read_config
from instar.recipes.study import Execution, run_study

SMALL: dict[str, Any] = {
    "student": {"network": "mlp:8x1", "epochs": 6, "learning_rate": 0.1},
    "temperature": 4.0,
    "seeds": 2,
}
"""One candidate, two seeds."""


def distilled(path: Path, **settings: Any) -> dict[str, Any]:
    """The result of `instar distill` with these settings."""
    return run_study(STUDY, read_config(settings), path, Execution(quiet=True))
