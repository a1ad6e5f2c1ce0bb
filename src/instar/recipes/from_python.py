"""The commands as functions: the same settings, run directory and result as from the command line."""

from pathlib import Path
from types import ModuleType
from typing import Any

from instar.recipes.advise import settings as advise_settings
from instar.recipes.advise.recipe import STUDY as ADVISE
from instar.recipes.fitting import load_pictures, load_splits
from instar.recipes.study import Execution, Study, run_study
from instar.recipes.transfer import settings as transfer_settings
from instar.recipes.transfer.recipe import STUDY


def transfer_study(
    *,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """How transferable each layer of a network is: `instar transfer` from Python.

    Args:
        run_dir: where to keep the run, or to go on with it; below `runs/` by default.
        device: where to compute.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: as in a configuration file (`instar transfer --config FILE`): `data={"name": "mnist"}`,
            `network={"network": "convnet:5", "epochs": 10}`, `treatments=["AnB", "AnB+"]`, `splits=3`.

    Returns:
        The content of `result.json`: `rows` by treatment and cut in percent, `differences` in points,
        `details` with `boosts` and `transition`. The page is `report.html` in the run directory.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = transfer_study(
        ...         run_dir=folder, network={"epochs": 1}, cuts=[1], treatments=["AnB"], splits=1, targets=["B"],
        ...         longer=False,
        ...     )
        >>> [(row["treatment"], row["cut"], row["n"]) for row in result["rows"]]
        [('base', 0, 1), ('AnB', 1, 1)]

    References:
        Yosinski et al. 2014.
    """
    return _run(transfer_settings, STUDY, settings, run_dir, device, engine, quiet)


def advise(
    *,
    run_dir: Path | str | None = None,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Which layers of a pretrained network to keep, and whether to freeze them: `instar advise` from Python.

    Args:
        run_dir: where to keep the run, or to go on with it; below `runs/` by default.
        device: where to compute.
        engine: `local`, `ray` or `ray:HOST:PORT`.
        quiet: show no progress.
        settings: as in a configuration file (`instar advise --config FILE`): `network="python:MODULE:FUNCTION"`,
            `data={"name": "folder:PATH"}`, `examples_per_class=20`, `seeds=3`.

    Returns:
        The content of `result.json`: `rows` of the treatments with full fits, the advice with `chosen` true and
        its expected accuracy `mean` within `low` to `high`; `tuning`, all that were tried; `details` with the
        `scores` at every cut and the `cost`.

    Raises:
        UsageError: an unknown setting, or a value out of its range.
        TrainingError, RunError: a fit failed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     result = advise(run_dir=folder, base={"epochs": 2}, fit={"epochs": 3}, rounds=[0.3])
        >>> sum(row["chosen"] for row in result["rows"]), [row["cut"] for row in result["details"]["scores"]]
        (1, [1, 2, 3])
    """
    return _run(advise_settings, ADVISE, settings, run_dir, device, engine, quiet)


def _run(
    settings_module: ModuleType,
    recipe: Any,
    settings: dict[str, Any],
    run_dir: Path | str | None,
    device: str,
    engine: str,
    quiet: bool,
) -> dict[str, Any]:
    for loaded in (load_splits, load_pictures):  # in one session the data may change between two calls
        loaded.cache_clear()
    config = settings_module.read_config(settings)
    if isinstance(recipe, Study):
        path = None if run_dir is None else Path(run_dir)
        return run_study(recipe, config, path, Execution(device, engine, quiet=quiet))
    path = recipe.run_path(config) if run_dir is None else Path(run_dir)
    result: dict[str, Any] = recipe.main(config, path, device=device, engine=engine, quiet=quiet)
    return result
