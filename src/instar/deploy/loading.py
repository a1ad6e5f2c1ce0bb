"""Networks rebuilt from the run directory of the fit that left them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from instar.deploy.code import check_code, network_in
from instar.errors import UsageError
from instar.naming import listed
from instar.networks import change_normalisation_, evaluation_, load_state_
from instar.networks.inputs import Normalisation
from instar.runs import CONFIG, FINAL, Run, find_run, is_run

_STUDENTS = {"distill": ("student-distilled", "student-alone")}
"""The networks that a command is run for, by the command: validation decides between them."""

_BUILT_FROM = (
    "network",
    "input_shape",
    "class_names",
    "normalisation",
    "fit",
    "seed",
    "network_identity",
    "described",
    "table",
)
"""The part of a fit's configuration that its network is built from."""


def load_run_network(path: Path) -> nn.Module:
    """The network that a fit left, in evaluation mode, rebuilt from its run directory.

    Raises:
        UsageError: there is no such run, or its network is that of a user's function, whose code was changed.
        RunError: the fit is not finished.
    """
    run = Run.read(path)
    weights, about = run.load_weights()
    config, older = run.config, str(about.get("from", ""))
    if "adopted" not in config and older and is_run(older):
        # A run of an older instar does not hold what its network was trained as.
        config = {**config, "adopted": source_of(find_run(older))}
    return network_with(config, weights, path)


def network_with(config: Mapping[str, Any], weights: Mapping[str, Any], where: object) -> nn.Module:
    """The network in the configuration of a fit with its weights, in evaluation mode; `where` names it in errors.

    Raises:
        UsageError: it is the network of a user's function, whose code was changed.
        DataError: the weights are those of another architecture.
    """
    check_code(config, where)
    adopted = config.get("adopted")
    network = network_in(adopted or config)
    if adopted:
        network = _seeing(network, config.get("normalisation"), adopted.get("normalisation"))
    load_state_(network, weights, config["network"], str(where))
    return evaluation_(network)


def network_seeing(path: Path, given: Normalisation | None) -> nn.Module:
    """The network of a fit, which sees inputs of a given normalisation as those that it was trained on."""
    return _seeing(load_run_network(path), given, Run.read(path).config.get("normalisation"))


def _seeing(network: nn.Module, given: Normalisation | None, own: Normalisation | None) -> nn.Module:
    if given is not None and own is not None:  # runs of an older instar do not know theirs
        change_normalisation_(network, given, own)
    return network


def source_of(path: Path) -> dict[str, Any]:
    """What the network of a fit is built from, by those that take it over: its run may change or move."""
    run = Run.read(path)
    if "adopted" in run.config:
        return dict(run.config["adopted"])
    older = str(run.load_weights()[1].get("from", ""))
    if older and is_run(older):
        return source_of(find_run(older))
    return {key: run.config[key] for key in _BUILT_FROM if key in run.config}


def portable_config(path: Path) -> dict[str, Any]:
    """What `network_with` builds the network of a fit from, where its run is not at hand."""
    run, source = Run.read(path), source_of(path)
    own = {key: run.config[key] for key in _BUILT_FROM if key in run.config}
    return _without_folders(own) if source == own else {**own, "adopted": _without_folders(source)}


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """The same without folders of this machine: the files that describe the network are part of it."""
    name, at, weights = str(config["network"]).partition("@")
    if config.get("described"):
        library, _, folder = name.partition(":")
        name = f"{library}:{Path(folder).name}"
    return {**config, "network": name + at + Path(weights).name}


def find_fit(spec: str | Path) -> Path:
    """The run directory of the one network that a name means.

    `RUN:job` and the folder of a fit are that fit. Of several seeds, the one with the fewest validation errors is
    taken; the negative log-likelihood on validation breaks ties. So it is between the students of a run of
    `instar distill`, the distilled and the one alone, but that the distilled is taken of equal ones.

    Raises:
        UsageError: there is no such run, or it has several networks and none is named.
    """
    path = find_run(spec)
    if (path / CONFIG).is_file():
        run = Run.read(path)
        if "network" in run.config and "class_names" in run.config:
            return path
        if run.recipe == "fit":
            raise UsageError(
                f"{path} is a fit of a module of your own, which it does not hold: build the module, and load "
                f"{path / FINAL} into it"
            )
        if run.recipe in _STUDENTS:
            return min(_students(path, run.recipe), key=_errors)
        names = sorted(str(fit.relative_to(path / "jobs")) for fit in _fits(path / "jobs"))
        some = ", ".join(f"{path}:{name}" for name in names[:3])
        raise UsageError(f"{spec} has {len(names)} networks; name one of them, for instance {some or 'a fit'}")
    fits = [fit for fit in path.glob("seed-*") if (fit / CONFIG).is_file()]
    if not fits:
        raise UsageError(f"{spec}: there is no run in {path}; expected RUN, RUN:job or the folder of a fit")
    return min(sorted(fits), key=_validation)


def why_taken(spec: str | Path) -> str:
    """What decided which network `find_fit` takes, in words; empty where one was named."""
    path = find_run(spec)
    run = Run.read(path) if (path / CONFIG).is_file() else None
    if run is None or run.recipe not in _STUDENTS:
        return ""
    students = _students(path, run.recipe)
    counts = [_validation(one)[0] for one in students]
    if len(counts) == 1:
        return ""
    errors = listed([f"{one.parent.name} {count:g}" for one, count in zip(students, counts, strict=True)])
    tie = f", and of equal ones {students[0].parent.name} is taken" if len(set(counts)) == 1 else ""
    return f"errors on validation: {errors}{tie}"


def _students(path: Path, recipe: str) -> list[Path]:
    """The best fit of each student that a run has."""
    first, *others = _STUDENTS[recipe]
    there = [first, *(name for name in others if (path / "jobs" / name).is_dir())]
    return [find_fit(f"{path}:{name}") for name in there]


def _fits(path: Path) -> list[Path]:
    configs = (file.parent for file in path.rglob(CONFIG) if "tuning" not in file.parts)
    return [fit for fit in configs if "network" in Run.read(fit).config]


def _errors(fit: Path) -> float:
    """Alone between students: the likelihood of a few examples, all right, is that of the surest."""
    return _validation(fit)[0]


def _validation(fit: Path) -> tuple[float, float]:
    metrics = Run.read(fit).result()["metrics"]
    return metrics.get("validation_errors", 0.0), metrics.get("validation_nll", 0.0)
