"""Running an experiment by name."""

from pathlib import Path
from typing import Any

import torch

from instar.errors import UsageError
from instar.naming import import_object
from instar.recipes.splits import with_found_columns
from instar.recipes.study import Execution, run_path, run_study


def run_experiment(name: str, config: Any, path: Path | None, how: Execution) -> tuple[Any, Path, dict[str, Any]]:
    """Run a study.

    Args:
        name: `MODULE:STUDY`.
        config: its configuration; columns that it does not name are named first.
        path: the run directory; by default one below `runs/`.
        how: how it is run.

    Returns:
        The study, its run directory and its result.

    Raises:
        UsageError: this machine does not have the device, or the plan could not be carried out.
        InstarError: a job failed.
    """
    check_device(how.device)
    study, config = import_object(name), with_found_columns(config)
    path = path or run_path(study, config)
    return study, path, run_study(study, config, path, how)


def check_device(device: str) -> str:
    """The device, if this machine has it.

    Raises:
        UsageError: it does not.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.partition(":")[0], False):
        names = [name for name, is_there in available.items() if is_there]
        raise UsageError(f"device {device!r} is not available here; there is {', '.join(names)}")
    return device
