"""The jobs that recipes are made of: fit a network, take one as it is, ask a teacher once."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from instar.data import Dataset, Splits, class_number, load_data, parse_views, transfer_set, unlabelled_pictures
from instar.distillation import LabelsInTargets, SoftTargetStore, StoredLogits, Teacher
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.files import load_tensors, write_bytes
from instar.jobs import Job, num_gpus
from instar.losses import Targets
from instar.networks import build_network, initialise_, load_state_, network_fingerprint
from instar.optimisation import decide_precision
from instar.recipes.settings import DataSettings, FitSettings, SoftSettings, TransferSettings
from instar.runs import Run, find_run, is_run
from instar.training import FitResult, fit

LOGITS, STORE = "logits.safetensors", "targets"
LOGITS_OF = "-logits"  # after a teacher's name: the job that asks it once


@functools.lru_cache(maxsize=32)  # parts of a data set share its memory
def load_splits(settings: DataSettings) -> Splits:
    """The data of a configuration; a process that does several jobs loads it once."""
    if settings.classes is not None:
        whole = load_splits(settings.model_copy(update={"classes": None}))
        numbers = [class_number(whole.class_names, name) for name in settings.classes]
        train, validation, test = (
            part.of_classes(numbers) for part in (whole.train, whole.validation, whole.test)
        )
        return dataclasses.replace(whole, train=train, validation=validation, test=test)
    splits = load_data(
        settings.name,
        validation_fraction=settings.validation_fraction,
        split_seed=settings.split_seed,
        image_size=settings.image_size,
    )
    if settings.fraction == 1:
        return splits
    train, validation = (
        transfer_set(part, fraction=settings.fraction, seed=settings.split_seed)
        for part in (splits.train, splits.validation)
    )
    return dataclasses.replace(splits, train=train, validation=validation)


def few_examples(data: DataSettings, per_class: int | None) -> DataSettings:
    """Data with so many training and validation examples of each class on average; of each the same share.

    Raises:
        UsageError: the data have fewer.
    """
    if per_class is None:
        return data
    whole = load_splits(data)
    available = (len(whole.train) + len(whole.validation)) / len(whole.class_names)
    if per_class > available:
        raise UsageError(f"examples_per_class is {per_class}: {whole.name} has only {available:.0f} per class")
    return data.model_copy(update={"fraction": per_class / available})


def fit_job(
    root: Path,
    name: str,
    settings: FitSettings,
    data: DataSettings,
    *,
    seed: int,
    soft: SoftSettings | None = None,
    transfer: TransferSettings | None = None,
    needs: tuple[str, ...] = (),
    manifest: Mapping[str, Any] | None = None,
    device: str = "cpu",
    processes: int = 1,
    tensorboard: bool = False,
) -> Job:
    """A job that fits one network; `needs` are its teachers, and where they are asked once, their logits.

    A `manifest` of where its classes come from goes into the file of its weights too.
    """
    splits = load_splits(data)
    transfer = transfer or TransferSettings()
    network = outline(settings, splits)
    config = {
        **fit_config(root / "jobs" / name, settings, data, splits, network, seed=seed, device=device),
        "soft": soft.model_dump() if soft else None,
        "transfer": transfer.model_dump(exclude_defaults=True) or None,
        **_outside(splits, transfer, soft.store if soft and soft.store not in needs else None),
        "manifest": manifest,
    }
    cost = fit_cost(settings, splits, network) * transfer.fraction
    function = functools.partial(_fit, device=device, tensorboard=tensorboard)
    return Job(name, function, config, needs, cost, processes, num_gpus(device, processes))


def fit_config(
    path: Path,
    settings: FitSettings,
    data: DataSettings,
    splits: Splits,
    network: nn.Module,
    *,
    seed: int,
    device: str,
) -> dict[str, Any]:
    """The configuration that every job has which fits a network; its run directory is `path`."""
    precision = decided_precision(path, settings.precision, network, device)
    settings = settings.model_copy(update={"precision": precision})
    return {**about_network(settings, data, splits), "seed": seed}


def run_fit(
    run: Run,
    network: nn.Module,
    train: Dataset,
    *,
    validation: Dataset | None,
    device: str,
    learning_rate_factors: Mapping[str, float] | None = None,
    **options: Any,
) -> FitResult:
    """Fit a network as the configuration of its job says.

    Args:
        run: of the job; its configuration has `fit` and `seed`.
        network: what learns; may be a part of the network that the job leaves.
        train: what it learns from.
        validation: what it is validated on.
        device: where to compute.
        learning_rate_factors: by parameter, beside those of the biases.
        options: of `fit`, beside those of the configuration: soft targets, a sampler.
    """
    settings = FitSettings(network=run.config["network"], **run.config["fit"])
    factors = bias_factors(network, settings) | dict(learning_rate_factors or {})
    return fit(
        network,
        train,
        validation=validation,
        learning_rate_factors=factors,
        device=device,
        seed=run.config["seed"],
        run=run,
        **fit_options(settings),
        **options,
    )


def adopt_job(name: str, settings: FitSettings, data: DataSettings) -> Job:
    """A job that takes a network with the weights that it comes with: a run's, a file's, a user's own module."""
    splits = load_splits(data)
    network = load_network(settings, splits)
    config = {**about_network(settings, data, splits), "weights": network_fingerprint(network)}
    return Job(name, _adopt, config)


def logits_job(teacher: str, data: DataSettings, *, folder: str | None = None, device: str = "cpu") -> Job:
    """A job that asks a teacher once: for all training and validation examples, or for a folder's pictures."""
    splits = load_splits(data)
    config = {"data": data.model_dump(), "data_fingerprint": splits.fingerprint, "teacher": teacher}
    if folder is not None:
        transfer = TransferSettings(folder=folder)
        config |= {"transfer": transfer.model_dump(exclude_defaults=True), **_outside(splits, transfer, None)}
    name = teacher + LOGITS_OF
    function = functools.partial(_write_logits, teacher=teacher, device=device)
    return Job(name, function, config, (teacher,), gpus=num_gpus(device))


def store_job(
    name: str,
    teachers: Sequence[str],
    data: DataSettings,
    *,
    views: str,
    num_views: int,
    transfer: TransferSettings | None = None,
    device: str = "cpu",
) -> Job:
    """A job that asks teachers once for their logits on several views of each example."""
    transfer = transfer or TransferSettings()
    config = {
        "data": data.model_dump(),
        "data_fingerprint": load_splits(data).fingerprint,
        "transfer": transfer.model_dump(exclude_defaults=True),
        "teachers": list(teachers),
        "views": views,
        "num_views": num_views,
    }
    function = functools.partial(_write_store, device=device)
    return Job(name, function, config, tuple(teachers), gpus=num_gpus(device))


def training_data(splits: Splits, transfer: TransferSettings) -> Dataset:
    """What a network learns from."""
    if transfer.folder is not None:
        data = load_pictures(transfer.folder, splits)
    else:
        data = splits.train.union(splits.validation) if transfer.validation_too else splits.train
    return transfer_set(data, **transfer.model_dump(exclude={"validation_too", "folder", "num_views"}))


@functools.lru_cache(maxsize=4)
def load_pictures(folder: str, splits: Splits) -> Dataset:
    """The unlabelled pictures below a folder, for the networks of some data."""
    return unlabelled_pictures(folder, splits.train)


def _outside(splits: Splits, transfer: TransferSettings, store: str | None) -> dict[str, Any]:
    """Who the pictures of a folder and the teachers of a store are: paths alone do not decide the numbers."""
    about: dict[str, Any] = {}
    if transfer.folder is not None:
        about["transfer_fingerprint"] = training_data(splits, transfer).fingerprint
    if store is not None:
        about["stored_teachers"] = dict(SoftTargetStore.open(store).settings.teachers)
    return about


def about_network(settings: FitSettings, data: DataSettings, splits: Splits) -> dict[str, Any]:
    """What the configuration of a job says of the network that it leaves: enough to load it again."""
    return {
        "network": settings.network,
        "input_shape": list(splits.train.example_shape),
        "class_names": list(splits.class_names),
        "data": data.model_dump(),
        "data_fingerprint": splits.fingerprint,
        "fit": settings.model_dump(exclude={"network"}),
    }


def decided_precision(path: Path, precision: str, network: nn.Module, device: str) -> str:
    """Decided once: what a run directory was begun with, it goes on with, on whatever machine."""
    if precision == "auto" and (path / "config.toml").exists():
        return str(Run.read(path).config["fit"]["precision"])
    return decide_precision(precision, network, device)


def _fit(run: Run, needs: Mapping[str, Path], *, device: str, tensorboard: bool) -> dict[str, Any]:
    config = run.config
    run.tensorboard = tensorboard
    run.about_weights = {"manifest": config["manifest"]} if "manifest" in config else {}
    data, settings = settings_of(config)
    splits = load_splits(data)
    network = build_for(settings, splits, seed=config["seed"])
    transfer = TransferSettings(**config.get("transfer", {}))
    soft = SoftSettings(**config["soft"]) if config.get("soft") else None
    store = SoftTargetStore.open(_store_path(soft.store, needs)) if soft and soft.store else None
    views = parse_views(settings.views)
    train = training_data(splits, transfer).with_views(
        views, view_seed=data.view_seed, num_views=store.num_views if store and views else transfer.num_views
    )
    result = run_fit(
        run,
        network,
        train,
        validation=None if transfer.validation_too else splits.validation,
        device=device,
        **soft_options(soft, needs, train, device, store),
    )
    return {"metrics": result.kept, "rows": result.metrics}


def fit_options(settings: FitSettings) -> dict[str, Any]:
    """The arguments of `fit` that a configuration decides for all fits alike."""
    of_network = {"network", "dropout", "input_dropout", "initialiser", "pretrained", "new_weights"}
    of_job = {"bias_rate_factor", "views"}
    return settings.model_dump(exclude=of_network | of_job)


def bias_factors(network: nn.Module, settings: FitSettings) -> dict[str, float]:
    """The factors on the learning rate of the biases, by name, where the configuration has one."""
    if settings.bias_rate_factor is None:
        return {}
    names = [name for name, _ in network.named_parameters() if name.rpartition(".")[2] == "bias"]
    return dict.fromkeys(names, settings.bias_rate_factor)


def fit_cost(settings: FitSettings, splits: Splits, network: nn.Module) -> float:
    """How long a fit takes beside others, for the time left."""
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return settings.epochs * len(splits.train) * (num_parameters + 20_000)


def settings_of(config: Mapping[str, Any]) -> tuple[DataSettings, FitSettings]:
    """The settings in the configuration of a job."""
    return DataSettings(**config["data"]), FitSettings(network=config["network"], **config["fit"])


def soft_options(
    soft: SoftSettings | None,
    needs: Mapping[str, Path],
    train: Dataset,
    device: str,
    store: SoftTargetStore | None = None,
) -> dict[str, Any]:
    """The arguments of `fit` that soft targets decide; none without them."""
    if soft is None:
        return {}
    targets = targets_of(soft, needs, train, device, store)
    return {"targets": targets, "soft_weight": soft.soft_weight, "hard_weight": soft.hard_weight}


def targets_of(
    soft: SoftSettings,
    needs: Mapping[str, Path],
    train: Dataset,
    device: str,
    store: SoftTargetStore | None = None,
) -> Targets:
    """A student's soft targets: from a store, from its teachers' logits where they were asked once, or live."""
    targets: Targets
    if store is not None:
        targets = store.targets(train, temperature=soft.temperature, mean=soft.mean, device=device)
        return LabelsInTargets(targets, train, soft.label_weight) if soft.label_weight else targets
    paths = [needs[name] for name in soft.teachers]
    class_names = tuple(Run.read(paths[0]).config["class_names"])
    options: dict[str, Any] = {"temperature": soft.temperature, "mean": soft.mean, "class_names": class_names}
    if train.views is None and all(name + LOGITS_OF in needs for name in soft.teachers):
        stored = [load_tensors(needs[name + LOGITS_OF] / LOGITS)[0] for name in soft.teachers]
        logits = torch.stack([one["logits"] for one in stored]).to(device)
        targets = StoredLogits(stored[0]["ids"].to(device), logits, **options)
    else:
        targets = Teacher([load_run_network(path) for path in paths], train, device=device, **options)
    return LabelsInTargets(targets, train, soft.label_weight) if soft.label_weight else targets


def _store_path(store: str, needs: Mapping[str, Path]) -> Path:
    return needs[store] / STORE if store in needs else Path(store)


def _adopt(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    data, settings = settings_of(run.config)
    network = load_network(settings, load_splits(data))
    if network_fingerprint(network) != run.config["weights"]:
        raise UsageError(f"{settings.network} gives other weights now than when this run began")
    run.save_weights(network.state_dict(), {"from": settings.network})
    return {}


def _write_logits(run: Run, needs: Mapping[str, Path], *, teacher: str, device: str) -> dict[str, Any]:
    splits = load_splits(DataSettings(**run.config["data"]))
    network = load_run_network(needs[teacher]).to(device)
    transfer = TransferSettings(**run.config.get("transfer", {}))
    parts = [training_data(splits, transfer)] if transfer.folder else [splits.train, splits.validation]
    logits = [predict_logits(network, part.to(torch.device(device)), device=device).cpu() for part in parts]
    ids = torch.cat([part.ids for part in parts])
    write_bytes(run.path / LOGITS, save({"ids": ids, "logits": torch.cat(logits)}))
    return {}


def _write_store(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    data = DataSettings(**config["data"])
    train = training_data(load_splits(data), TransferSettings(**config["transfer"]))
    train = train.with_views(parse_views(config["views"]), view_seed=data.view_seed)
    teachers = {name: load_run_network(needs[name]) for name in config["teachers"]}
    SoftTargetStore.write(run.path / STORE, teachers, train, views=config["num_views"], device=device)
    return {}


def build_for(settings: FitSettings, splits: Splits, *, seed: int) -> nn.Module:
    """The network of a configuration, freshly initialised, for the examples and classes of the data."""
    return new_network(settings, splits.train.example_shape, len(splits.class_names), seed=seed)


def outline(settings: FitSettings, splits: Splits) -> nn.Module:
    """The template of a network for the examples and classes of the data."""
    return template_network(settings, splits.train.example_shape, len(splits.class_names))


def template_network(settings: FitSettings, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """A network for its size alone, not to be changed: a plan with many alike builds it once."""
    if settings.network.startswith("python:"):  # its function may have changed
        return new_network(settings, input_shape, num_classes, seed=0)
    parts = {"network", "dropout", "input_dropout", "initialiser", "new_weights"}  # that a network is built from
    return _template_network(settings.model_dump_json(include=parts), tuple(input_shape), num_classes)


@functools.lru_cache(maxsize=4)
def _template_network(settings: str, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return new_network(FitSettings.model_validate_json(settings), input_shape, num_classes, seed=0)


def new_network(settings: FitSettings, input_shape: Sequence[int], num_classes: int, *, seed: int) -> nn.Module:
    """The network of a configuration, freshly initialised, for examples of a shape."""
    network = build_network(
        settings.network,
        input_shape=input_shape,
        num_classes=num_classes,
        seed=seed,
        dropout=settings.dropout,
        input_dropout=settings.input_dropout,
        initialiser=settings.initialiser,
    )
    return initialise_(network, settings.initialiser, seed=seed) if settings.new_weights else network


def load_network(settings: FitSettings, splits: Splits) -> nn.Module:
    """A network with the weights that it comes with: a run's, a file's, or fresh ones.

    Raises:
        UsageError: a run's network is for other classes or examples, or its training held examples that are
            validation here: of another split, or all of them.
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
    is_of_these = own["name"] == splits.name
    if is_of_these and config.get("transfer", {}).get("validation_too"):
        raise UsageError(
            f"{settings.network} learned from the validation examples too, by which students are chosen here; "
            "use a teacher that was trained without them"
        )
    if is_of_these and config["data_fingerprint"] != splits.fingerprint:
        raise UsageError(
            f"{settings.network} was trained on another split of {own['name']} (split_seed {own['split_seed']}, "
            f"validation_fraction {own['validation_fraction']}), or its data have changed since: its training may "
            "hold examples that are validation here; use the same data and split"
        )
    return load_run_network(path)


def member_specs(spec: str) -> list[str]:
    """The networks that a teacher's name means: of `RUN:teacher`, where an ensemble taught, all its members."""
    members = list(itertools.takewhile(is_run, (f"{spec}/member-{number}" for number in itertools.count())))
    return members if ":" in spec and members and not is_run(spec) else [spec]


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
