"""Running an experiment by name; experiments that are not yet a `Study` run as before."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from instar.naming import import_object
from instar.recipes.study import Execution, run_path, run_study


def _published(folder: str, config: Any) -> str:
    if folder == "advise":
        return str(config.published_as)
    if folder == "advise_study":
        return f"advise-{config.scale}"
    name = Path(config.data.name.replace(":", "-")).name
    scale = f"-{config.scale}" if getattr(config, "scale", None) else ""
    return {"mnist": "", "speech_study": "speech-"}.get(folder, f"{folder}-") + name + scale


def run_experiment(name: str, config: Any, path: Path | None, how: Execution) -> tuple[Any, Path, dict[str, Any]]:
    """Run a study: the study, its run directory and its result.

    Args:
        name: `MODULE:STUDY`.
        config: its configuration.
        path: the run directory; by default one below `runs/`.
        how: how it is run.
    """
    if ":" not in name:
        return _run_as_before(name, config, path, how)
    study = import_object(name)
    path = path or run_path(study, config)
    return study, path, run_study(study, config, path, how)


def _run_as_before(name: str, config: Any, path: Path | None, how: Execution) -> tuple[Any, Path, dict[str, Any]]:
    recipe, page = import_module(f"{name}.recipe"), import_module(f"{name}.page")
    folder = name.rpartition(".")[2]
    path = path or recipe.run_path(config)
    more = {"processes": how.processes, "tensorboard": how.tensorboard} if folder == "distill" else {}
    result = recipe.main(config, path, device=how.device, engine=how.engine, quiet=how.quiet, **more)
    return (
        SimpleNamespace(
            table=page.result_table, answer=page.answer, published=lambda config: _published(folder, config)
        ),
        path,
        result,
    )
