"""The jobs that ask teachers: their logits on the data of students, and stores of soft targets."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from instar.data import Dataset, parse_views
from instar.distillation import SoftTargetStore, out_of_fold_logits
from instar.evaluation import predict_logits
from instar.files import write_bytes
from instar.jobs import Job, num_gpus
from instar.networks import FittedEstimator
from instar.recipes.fitting import LOGITS, LOGITS_OF, STORE, outside, transfer_data
from instar.recipes.loading import load_run_network
from instar.recipes.settings import DataSettings, TransferSettings
from instar.recipes.splits import about_data, load_splits, splits_of
from instar.runs import Run


def logits_job(
    teacher: str,
    data: DataSettings,
    *,
    transfer: TransferSettings | None = None,
    folds: int | None = None,
    device: str = "cpu",
) -> Job:
    """A job that stores a teacher's logits on training and validation examples, or on those of a transfer set.

    Args:
        teacher: the job that fits it.
        data: the data.
        transfer: pictures of a folder in place of these examples, or sampled rows beside them.
        folds: of an estimator: the logits of each labelled training example are those of a copy that was not
            fitted on it; see `out_of_fold_targets`.
        device: where the teacher runs.
    """
    splits = load_splits(data)
    config = {**about_data(data), "teacher": teacher}
    if transfer is not None and (transfer.folder or transfer.sampled_rows):
        config |= {"transfer": transfer.model_dump(exclude_defaults=True), **outside(splits, transfer, None)}
    if folds is not None:
        config["folds"] = folds
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
    options: Mapping[str, Any] | None = None,
    cost: float = 1.0,
) -> Job:
    """A job that stores teachers' logits on several views of each example.

    Args:
        name: of the job.
        teachers: the jobs that fit them.
        data: the data.
        views: augmentation.
        num_views: of each example.
        transfer: what is stored; by default the training examples.
        device: where the teachers run.
        options: of `SoftTargetStore.write`: what is kept of their logits.
        cost: relative to that of fits.
    """
    transfer = transfer or TransferSettings()
    config = {
        **about_data(data),
        "transfer": transfer.model_dump(exclude_defaults=True),
        "teachers": list(teachers),
        "views": views,
        "num_views": num_views,
        **({} if options is None else {"options": dict(options)}),
    }
    function = functools.partial(_write_store, device=device)
    return Job(name, function, config, tuple(teachers), cost, gpus=num_gpus(device))


def _write_logits(run: Run, needs: Mapping[str, Path], *, teacher: str, device: str) -> dict[str, Any]:
    splits = splits_of(run.config)
    network = load_run_network(needs[teacher]).to(device)
    train = transfer_data(run.config, splits) if "transfer" in run.config else splits.train
    parts = [train] if run.config.get("transfer", {}).get("folder") else [train, splits.validation]
    logits = [predict_logits(network, part.to(torch.device(device)), device=device).cpu() for part in parts]
    if folds := run.config.get("folds"):
        assert isinstance(network, FittedEstimator)
        labelled = train.labels(train.ids) >= 0
        others = out_of_fold_logits(network.new(), train.subset(train.ids[labelled]), folds=folds)
        logits[0][labelled] = others
    write_bytes(run.path / LOGITS, logits_file(parts, logits))
    return {}


def logits_file(parts: Sequence[Dataset], logits: Sequence[Tensor]) -> bytes:
    """The content of a file of logits by id; an example that is in two parts, a copy, is there once."""
    ids = torch.cat([part.ids for part in parts])
    order = ids.argsort(stable=True)
    is_first = torch.cat((torch.ones(1, dtype=torch.bool), ids[order][1:] != ids[order][:-1]))
    rows = order[is_first].sort().values
    return save({"ids": ids[rows], "logits": torch.cat(list(logits))[rows]})


def _write_store(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    data = DataSettings(**config["data"])
    train = transfer_data(config, splits_of(config))
    train = train.with_views(parse_views(config["views"]), view_seed=data.view_seed)
    teachers = {name: load_run_network(needs[name]) for name in config["teachers"]}
    options: dict[str, Any] = {**config.get("options", {}), "views": config["num_views"], "device": device}
    SoftTargetStore.write(run.path / STORE, teachers, train, **options)
    return {}
