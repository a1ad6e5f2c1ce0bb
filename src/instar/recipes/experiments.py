"""Running an experiment by name."""

from pathlib import Path
from typing import Any

from instar.naming import import_object
from instar.recipes.study import Execution, run_path, run_study


def run_experiment(name: str, config: Any, path: Path | None, how: Execution) -> tuple[Any, Path, dict[str, Any]]:
    """Run a study: the study, its run directory and its result.

    Args:
        name: `MODULE:STUDY`.
        config: its configuration.
        path: the run directory; by default one below `runs/`.
        how: how it is run.
    """
    study = import_object(name)
    path = path or run_path(study, config)
    return study, path, run_study(study, config, path, how)
