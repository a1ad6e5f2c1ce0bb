"""The jobs that recipes are made of: fit a network, take one as it is, ask a teacher once."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from instar.data import Splits, load_data, parse_views
from instar.distillation import StoredLogits, Teacher
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.files import load_tensors, write_bytes
from instar.jobs import Job
from instar.networks import build_network, load_state_, network_fingerprint
from instar.optimisation import decide_precision
from instar.recipes.settings import DataSettings, FitSettings
from instar.runs import Run, find_run
from instar.training import Targets, fit

LOGITS = "logits.safetensors"


@functools.lru_cache(maxsize=2)
def load_splits(settings: DataSettings) -> Splits:
    """The data of a configuration; a process that does several jobs loads it once."""
    return load_data(
        settings.name,
        validation_fraction=settings.validation_fraction,
        split_seed=settings.split_seed,
        image_size=settings.image_size,
    )


def fit_job(
    root: Path,
    name: str,
    settings: FitSettings,
    data: DataSettings,
    *,
    seed: int,
    learning_rate: float,
    soft: Mapping[str, float] | None = None,
    needs: tuple[str, ...] = (),
    device: str = "cpu",
    processes: int = 1,
    tensorboard: bool = False,
) -> Job:
    """A job that fits one network; `soft` holds temperature, soft_weight and hard_weight of its soft targets."""
    splits = load_splits(data)
    network = build_for(settings, splits, seed=seed)
    config = {
        **_about(settings, data, splits),
        "seed": seed,
        "learning_rate": learning_rate,
        "precision": _decided_precision(root / "jobs" / name, settings.precision, network, device),
        "soft": dict(soft) if soft else None,
    }
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    cost = settings.epochs * len(splits.train) * (num_parameters + 20_000)
    return Job(
        name, functools.partial(_fit, device=device, tensorboard=tensorboard), config, needs, cost, processes
    )


def adopt_job(name: str, settings: FitSettings, data: DataSettings) -> Job:
    """A job that takes a network with the weights that it comes with: a run's, a file's, a user's own module."""
    splits = load_splits(data)
    network = load_network(settings, splits)
    config = {**_about(settings, data, splits), "weights": network_fingerprint(network)}
    return Job(name, _adopt, config)


def logits_job(name: str, teacher: str, data: DataSettings, *, device: str = "cpu") -> Job:
    """A job that asks a teacher once for its logits on all training examples."""
    splits = load_splits(data)
    config = {"data": data.model_dump(), "data_fingerprint": splits.fingerprint, "teacher": teacher}
    return Job(name, functools.partial(_write_logits, teacher=teacher, device=device), config, (teacher,))


def _about(settings: FitSettings, data: DataSettings, splits: Splits) -> dict[str, Any]:
    return {
        "network": settings.network,
        "input_shape": list(splits.train.example_shape),
        "class_names": list(splits.class_names),
        "data": data.model_dump(),
        "data_fingerprint": splits.fingerprint,
        "fit": settings.model_dump(exclude={"network", "learning_rate", "precision"}),
    }


def _decided_precision(path: Path, precision: str, network: nn.Module, device: str) -> str:
    """Decided once: what a run directory was begun with, it goes on with, on whatever machine."""
    if precision == "auto" and (path / "config.toml").exists():
        return str(Run.read(path).config["precision"])
    return decide_precision(precision, network, device)


def _fit(run: Run, needs: Mapping[str, Path], *, device: str, tensorboard: bool) -> dict[str, Any]:
    config = run.config
    run.tensorboard = tensorboard
    data, settings = _settings_of(config)
    splits = load_splits(data)
    network = build_for(settings, splits, seed=config["seed"])
    train = splits.train.with_views(parse_views(settings.views), view_seed=data.view_seed)
    weights: dict[str, Any] = {}
    if config.get("soft"):
        weights = {
            "targets": _targets(needs, train, config["soft"]["temperature"], device),
            "soft_weight": config["soft"]["soft_weight"],
            "hard_weight": config["soft"]["hard_weight"],
        }
    result = fit(
        network,
        train,
        epochs=settings.epochs,
        validation=splits.validation,
        batch_size=settings.batch_size,
        optimiser=settings.optimiser,
        learning_rate=config["learning_rate"],
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        warmup_epochs=settings.warmup_epochs,
        gradient_clip=settings.gradient_clip,
        max_norm=settings.max_norm,
        ema_decay=settings.ema_decay,
        patience=settings.patience,
        precision=config["precision"],
        device=device,
        seed=config["seed"],
        run=run,
        **weights,
    )
    last = result.metrics[(result.best_epoch or len(result.metrics)) - 1]
    return {"metrics": last, "rows": result.metrics}


def _settings_of(config: Mapping[str, Any]) -> tuple[DataSettings, FitSettings]:
    return DataSettings(**config["data"]), FitSettings(network=config["network"], **config["fit"])


def _targets(needs: Mapping[str, Path], train: Any, temperature: float, device: str) -> Targets:
    teacher = Run.read(needs["teacher"])
    class_names = tuple(teacher.config["class_names"])
    if "teacher-logits" in needs:
        stored, _ = load_tensors(needs["teacher-logits"] / LOGITS)
        stored = {name: value.to(device) for name, value in stored.items()}
        return StoredLogits(stored["ids"], stored["logits"], temperature=temperature, class_names=class_names)
    network = load_run_network(needs["teacher"])
    return Teacher(network, train, temperature=temperature, class_names=class_names, device=device)


def _adopt(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    data, settings = _settings_of(run.config)
    network = load_network(settings, load_splits(data))
    if network_fingerprint(network) != run.config["weights"]:
        raise UsageError(f"{settings.network} gives other weights now than when this run began")
    run.save_weights(network.state_dict(), {"from": settings.network})
    return {}


def _write_logits(run: Run, needs: Mapping[str, Path], *, teacher: str, device: str) -> dict[str, Any]:
    splits = load_splits(DataSettings(**run.config["data"]))
    network = load_run_network(needs[teacher]).to(device)
    logits = predict_logits(network, splits.train.to(torch.device(device)), device=device).cpu()
    write_bytes(run.path / LOGITS, save({"ids": splits.train.ids.cpu(), "logits": logits}))
    return {}


def build_for(settings: FitSettings, splits: Splits, *, seed: int) -> nn.Module:
    """The network of a configuration, freshly initialised, for the examples and classes of the data."""
    return build_network(
        settings.network,
        input_shape=splits.train.example_shape,
        num_classes=len(splits.class_names),
        seed=seed,
        dropout=settings.dropout,
        input_dropout=settings.input_dropout,
        initialiser=settings.initialiser,
    )


def load_network(settings: FitSettings, splits: Splits) -> nn.Module:
    """A network with the weights that it comes with: a run's, a file's, or fresh ones.

    Raises:
        UsageError: a run's network is for other classes or examples, or its training held examples that are
            validation here.
    """
    path = find_run(settings.network)
    if not is_run(settings.network):
        return build_for(settings, splits, seed=0)
    config = Run.read(path).config
    if "network" not in config:
        raise UsageError(f"{path} holds no single network; name one of its fits, for instance {path}:teacher")
    expected = {"class_names": list(splits.class_names), "input_shape": list(splits.train.example_shape)}
    for key, value in expected.items():
        if config[key] != value:
            raise UsageError(f"{settings.network} was trained for {key} {config[key]}, this data has {value}")
    own = config["data"]
    if config["data_fingerprint"] != splits.fingerprint and own["name"] == splits.name:
        raise UsageError(
            f"{settings.network} was trained on another split of {own['name']} (split_seed {own['split_seed']}, "
            f"validation_fraction {own['validation_fraction']}): its training holds examples that are validation "
            "here; use the same split"
        )
    return load_run_network(path)


def is_run(spec: str) -> bool:
    """Whether a name is a run directory, `RUN` or `RUN:job`."""
    return (find_run(spec) / "config.toml").is_file()


def load_run_network(path: Path) -> nn.Module:
    """The network that a fit ended with, in evaluation mode, rebuilt from its run directory alone.

    Raises:
        UsageError: there is no such run.
        RunError: the fit has not ended.
    """
    run = Run.read(path)
    weights, about = run.load_weights()
    source = str(about.get("from", ""))
    if source and is_run(source):
        network = load_run_network(find_run(source))
    else:
        network = build_network(
            run.config["network"].partition("@")[0],
            input_shape=run.config["input_shape"],
            num_classes=len(run.config["class_names"]),
            seed=0,
            dropout=run.config["fit"]["dropout"],
            input_dropout=run.config["fit"]["input_dropout"],
        )
    load_state_(network, weights, run.config["network"], str(path))
    return network.eval()
