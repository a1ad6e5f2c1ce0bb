"""The jobs that recipes are made of: fit a network, take one as it is."""

import functools
import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.data import Dataset, InMemoryDataset, Splits, like_length, parse_views
from instar.deploy import multiplications_of
from instar.deploy.code import check_code
from instar.deploy.rows import keep_rows
from instar.distillation import LabelsInTargets, SoftTargetStore, StoredLogits, Teacher
from instar.errors import UsageError
from instar.evaluation import predict_logits, score, why_not_learned
from instar.files import load_tensors
from instar.identity import first_difference
from instar.jobs import Job, num_gpus
from instar.losses import Targets
from instar.networks import FittedEstimator, network_fingerprint
from instar.networks.eight_bits import in_eight_bits
from instar.optimisation import decide_precision
from instar.recipes.hinting import hint_loss
from instar.recipes.loading import (
    about_network,
    load_network,
    load_run_network,
    network_of,
    outline,
    settings_of,
    source_of,
    warn_of_plain_pictures,
)
from instar.recipes.settings import DataSettings, FitSettings, SoftSettings, TransferSettings
from instar.recipes.splits import load_splits, splits_of, training_data
from instar.runs import Run, find_run, is_run
from instar.structures import Inputs, read_form, varies
from instar.training import FitResult, fit

LOGITS, STORE = "logits.safetensors", "targets"
LOGITS_OF = "-logits"
"""After the name of a teacher: the job that stores its logits."""

CALIBRATION_EXAMPLES = 512
"""Of training: those by which the ranges of eight bits are found."""

_MOST_ADOPTED = 1000  # training examples by which a network that comes with its weights is judged


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
    recovers: str | None = None,
    manifest: Mapping[str, Any] | None = None,
    device: str = "cpu",
    processes: int = 1,
    tensorboard: bool = False,
) -> Job:
    """A job that fits one network.

    Args:
        root: run directory of the command.
        name: of the job.
        settings: how the network is built and trained.
        data: the data.
        seed: of initialisation and order.
        soft: the loss with soft targets; without it the network learns from labels.
        transfer: what it learns from; by default the training examples.
        needs: the jobs of its teachers, and those that store their logits.
        recovers: the job whose network it begins with, in place of a new one, to fit it in eight bits: with inputs
            and weights of its layers rounded.
        manifest: where its classes come from; also written into the file of its weights.
        device, processes, tensorboard: as in `Execution`.
    """
    splits = load_splits(data)
    transfer = transfer or TransferSettings()
    network = outline(settings, splits)
    config = {
        **fit_config(root / "jobs" / name, settings, data, splits, network, seed=seed, device=device),
        "soft": soft.model_dump() if soft else None,
        "transfer": transfer.model_dump(exclude_defaults=True) or None,
        **outside(splits, transfer, soft.store if soft and soft.store not in needs else None),
        "manifest": manifest,
        "recovers": recovers,
    }
    cost = fit_cost(settings, splits, network) * transfer.fraction
    function = functools.partial(_fit, device=device, tensorboard=tensorboard)
    needs = (*needs, recovers) if recovers else needs
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
    """The part of a configuration that all jobs have that fit a network; `path` is the run directory."""
    precision = decided_precision(path, settings.precision, network, device)
    settings = settings.model_copy(update={"precision": precision})
    return {**about_network(settings, data, splits, seed=seed), "seed": seed}


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
        network: the network, or the part of it that is trained.
        train: training data.
        validation: validation data.
        device: where to compute.
        learning_rate_factors: by parameter, in addition to those of the biases.
        options: of `fit`, in addition to those of the configuration: soft targets, a sampler.
    """
    settings = FitSettings(network=run.config["network"], **run.config["fit"])
    if "sampler" not in options and isinstance(train, InMemoryDataset) and varies(train.example_shape):
        options["sampler"] = like_length(train, batch_size=settings.batch_size)  # less padding: twice as fast
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


def fit_content(result: FitResult, **more: Any) -> dict[str, Any]:
    """What goes into the result of a job that fitted a network.

    Args:
        result: of the fit; `failed_to_learn`, the reason, is there only where it did.
        more: metrics beside those of the epoch that was kept.
    """
    content = {"metrics": {**result.kept, **more}, "rows": result.metrics}
    return content | ({"failed_to_learn": result.failed_to_learn} if result.failed_to_learn else {})


def adopt_job(name: str, settings: FitSettings, data: DataSettings) -> Job:
    """A job that takes a network with its weights: of a run, of a file, or a module of the user."""
    splits = load_splits(data)
    network = load_network(settings, splits)
    warn_of_plain_pictures(network, settings.network, splits)
    config = {**about_network(settings, data, splits), "weights": network_fingerprint(network)}
    if is_run(settings.network):
        config["adopted"] = source_of(find_run(settings.network))
    return Job(name, _adopt, config)


def estimator_job(name: str, settings: FitSettings, data: DataSettings, *, seed: int) -> Job:
    """A job that fits an estimator of another library to the training examples."""
    splits = load_splits(data)
    config = {**about_network(settings, data, splits, seed=seed), "seed": seed}
    cost = len(splits.train) * len(splits.class_names) * 1e5
    return Job(name, _fit_estimator, config, cost=cost)


def transfer_data(config: Mapping[str, Any], splits: Splits) -> Dataset:
    """What a network learns from, as it was when its job was planned."""
    transfer = TransferSettings(**config.get("transfer", {}))
    data = training_data(splits, transfer)
    if "transfer_identity" in config and (
        difference := first_difference(config["transfer_identity"], data.identity, "transfer")
    ):
        what = transfer.folder or "what is sampled"
        raise UsageError(f"{what} has changed since the command began; run it again ({difference})")
    return data


def outside(splits: Splits, transfer: TransferSettings, store: str | None) -> dict[str, Any]:
    """Fingerprints of what the data are without: pictures of a folder, sampled rows, the teachers of a store."""
    about: dict[str, Any] = {}
    if transfer.folder is not None or transfer.sampled_rows is not None:
        about["transfer_identity"] = training_data(splits, transfer).identity
    if store is not None:
        about["store_identity"] = SoftTargetStore.open(store).identity
    return about


def decided_precision(path: Path, precision: str, network: nn.Module, device: str) -> str:
    """The precision of a fit; a run directory keeps the one that it started with, on any machine."""
    if precision == "auto" and (path / "config.toml").exists():
        return str(Run.read(path).config["fit"]["precision"])
    return decide_precision(precision, network, device)


def _fit(run: Run, needs: Mapping[str, Path], *, device: str, tensorboard: bool) -> dict[str, Any]:
    config = run.config
    run.tensorboard = tensorboard
    run.about_weights = {"manifest": config["manifest"]} if "manifest" in config else {}
    data, settings = settings_of(config)
    splits, recovers = splits_of(config), config.get("recovers")
    network = load_run_network(needs[recovers]) if recovers else network_of(run)
    keep_rows(run.path, splits)
    transfer = TransferSettings(**config.get("transfer", {}))
    soft = SoftSettings(**config["soft"]) if config.get("soft") else None
    store = SoftTargetStore.open(_store_path(soft.store, needs)) if soft and soft.store else None
    views = parse_views(settings.views)
    train = transfer_data(config, splits).with_views(
        views, view_seed=data.view_seed, num_views=store.num_views if store and views else transfer.num_views
    )
    with (
        hint_loss(soft, needs, network, train, seed=config["seed"], device=device) as auxiliary,
        in_eight_bits(network, _calibration(splits.train)) if recovers else nullcontext(),
    ):
        result = run_fit(
            run,
            network,
            train,
            validation=None if transfer.validation_too else splits.validation,
            device=device,
            auxiliary=auxiliary,
            **soft_options(soft, needs, train, device, store),
        )
    return fit_content(result)


def _calibration(train: Dataset) -> Inputs:
    """The examples by which the ranges of eight bits are found."""
    return train.gather(train.ids[:: -(-len(train) // CALIBRATION_EXAMPLES)], 0)


def fit_options(settings: FitSettings) -> dict[str, Any]:
    """The arguments of `fit` that follow from the settings."""
    of_network = {"network", "dropout", "input_dropout", "initialiser", "pretrained", "new_weights"}
    of_job = {"bias_rate_factor", "views"}
    return settings.model_dump(exclude=of_network | of_job)


def bias_factors(network: nn.Module, settings: FitSettings) -> dict[str, float]:
    """The factor on the learning rate of each bias, by name; empty without one."""
    if settings.bias_rate_factor is None:
        return {}
    names = [name for name, _ in network.named_parameters() if name.rpartition(".")[2] == "bias"]
    return dict.fromkeys(names, settings.bias_rate_factor)


def fit_cost(settings: FitSettings, splits: Splits, network: nn.Module) -> float:
    """The relative cost of a fit, for the time left: multiplications, and what else a step takes."""
    return (
        settings.epochs
        * len(splits.train)
        * (_pass_cost(network, json.dumps(splits.train.example_shape)) + 20_000)
    )


@functools.lru_cache(maxsize=4)  # a plan has many fits of few networks
def _pass_cost(network: nn.Module, input_shape: str) -> int:
    known = multiplications_of(network, read_form(json.loads(input_shape)))
    return sum(parameter.numel() for parameter in network.parameters()) if known is None else known


def soft_options(
    soft: SoftSettings | None,
    needs: Mapping[str, Path],
    train: Dataset,
    device: str,
    store: SoftTargetStore | None = None,
) -> dict[str, Any]:
    """The arguments of `fit` for soft targets; none without them."""
    if soft is None:
        return {}
    targets = targets_of(soft, needs, train, device, store)
    weights = {"soft_weight": soft.soft_weight, "hard_weight": soft.hard_weight}
    return {"targets": targets, "soft_loss": soft.soft_loss, **weights}


def targets_of(
    soft: SoftSettings,
    needs: Mapping[str, Path],
    train: Dataset,
    device: str,
    store: SoftTargetStore | None = None,
) -> Targets:
    """A student's soft targets: from a store, from stored logits, or from the teachers at each step."""
    targets: Targets
    if store is not None:
        about: dict[str, Any] = {"mean": soft.mean, "reading": soft.reading, "device": device}
        targets = store.targets(train, temperature=soft.temperature, **about)
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


def _fit_estimator(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    splits, network = splits_of(run.config), network_of(run)
    assert isinstance(network, FittedEstimator)
    train, validation = splits.train, splits.validation
    labels = train.labels(train.ids)
    ids = train.ids[labels >= 0]
    network.fit_(train.gather(ids, 0), labels[labels >= 0])
    run.save_weights(network.state_dict(), {})
    keep_rows(run.path, splits)
    logits, judged = predict_logits(network, validation), validation.ids
    scores = score(logits, validation.labels(judged), validation.label_targets(judged))
    reason = why_not_learned(network, train, ids[:: -(-len(ids) // _MOST_ADOPTED)])
    return {
        "metrics": {f"validation_{key}": value for key, value in scores.items()},
        **({"failed_to_learn": reason} if reason else {}),
    }


def _adopt(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    _, settings = settings_of(run.config)
    check_code(run.config, run.path)
    splits = splits_of(run.config)
    keep_rows(run.path, splits)
    network = load_network(settings, splits)
    if network_fingerprint(network) != run.config["weights"]:
        raise UsageError(
            f"{settings.network} has other weights now than when this run was started; choose another --run-dir"
        )
    run.save_weights(network.state_dict(), {"from": settings.network})
    train = splits.train
    reason = why_not_learned(network, train, train.ids[:: -(-len(train) // _MOST_ADOPTED)])
    return {"failed_to_learn": reason} if reason else {}
