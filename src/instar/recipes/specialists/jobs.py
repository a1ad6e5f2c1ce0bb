"""The jobs that make specialists: class sets from a generalist, a specialist for each, all of them as one unit."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.data import Dataset, Splits, half_special, id_batches, parse_views
from instar.distillation import LabelsInTargets, SoftTargetStore, Teacher
from instar.errors import RunError, UsageError
from instar.evaluation import predict_logits
from instar.jobs import Job, num_gpus
from instar.networks import freeze_, layers_of
from instar.recipes.fitting import (
    STORE,
    build_for,
    fit_config,
    fit_cost,
    load_run_network,
    load_splits,
    outline,
    run_fit,
    settings_of,
    training_data,
)
from instar.recipes.settings import DataSettings, FitSettings, TransferSettings
from instar.recipes.specialists.settings import SetSettings, SpecialistSettings
from instar.runs import Run
from instar.specialists import (
    ClassSet,
    SpecialistEnsemble,
    add_dustbin_correction_,
    confusable_class_sets,
    oversampling_correction,
    random_class_sets,
    specialist_data,
    start_from_generalist_,
)
from instar.specialists.ensemble import ensemble_batch_size
from instar.transfer import prefix_features

UNIT = "unit"
_ROWS_AT_ONCE = 5000  # predictions that are held at a time, to be clustered
DUSTBIN_KIND, FULL, FULL_HARD = "dustbin", "full-softmax", "full-softmax-hard"
"""What a specialist gives: its set and the dustbin; all classes, the rest from soft targets; from labels alone."""


def class_sets_job(
    name: str, generalist: str, data: DataSettings, sets: SetSettings, *, seed: int, device: str = "cpu"
) -> Job:
    """A job that asks a generalist for its predictions and clusters what it confuses; labels are not looked at."""
    config = {
        "data": data.model_dump(),
        "data_fingerprint": load_splits(data).fingerprint,
        "generalist": generalist,
        "sets": sets.model_dump(),
        "seed": seed,
    }
    return Job(name, functools.partial(_find_sets, device=device), config, (generalist,), gpus=num_gpus(device))


def _find_sets(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    splits = load_splits(DataSettings(**config["data"]))
    network = load_run_network(needs[config["generalist"]]).to(device)
    sets = SetSettings(**config["sets"])
    found = confusable_class_sets(
        (
            torch.softmax(predict_logits(network, part.subset(ids).to(device), device=device), 1)
            for part in (splits.train, splits.validation)
            for ids in id_batches(part.ids, _ROWS_AT_ONCE)
        ),
        num_sets=sets.num_sets,
        classes_per_set=sets.classes_per_set,
        method=sets.method,
        seed=config["seed"],
        class_names=splits.class_names,
    )
    others = random_class_sets(found, seed=config["seed"])
    return {
        "rows": [
            {"classes": list(one.classes), "names": list(one.names), "random": list(other.classes)}
            for one, other in zip(found, others, strict=True)
        ]
    }


def class_sets_of(path: Path, class_names: Sequence[str], *, random: bool = False) -> list[ClassSet]:
    """The class sets that a job found, or the random ones of the same sizes."""
    rows = Run.read(path).result()["rows"]
    return [ClassSet.of_numbers(row["random" if random else "classes"], class_names) for row in rows]


def specialist_job(
    root: Path,
    name: str,
    generalist: str,
    settings: FitSettings,
    specialist: SpecialistSettings,
    data: DataSettings,
    class_set: ClassSet,
    *,
    kind: str = DUSTBIN_KIND,
    seed: int,
    device: str = "cpu",
) -> Job:
    """A job that turns a copy of a generalist into the specialist of one class set.

    Args:
        root: run directory of the command.
        name: of the job.
        generalist: the job whose network it starts from.
        settings: of the generalist.
        specialist: what differs.
        data: of the generalist.
        class_set: which classes it tells apart.
        kind: what it gives and learns from; see `DUSTBIN_KIND`, `FULL`, `FULL_HARD`.
        seed: of the order of the data.
        device: where to compute.
    """
    settings = specialist_fit(settings, specialist, kind)
    splits = load_splits(data)
    own = splits_of(splits, class_set) if kind == DUSTBIN_KIND else splits
    network = outline(settings, own)
    config = {
        **fit_config(root / "jobs" / name, settings, data, own, network, seed=seed, device=device),
        "specialist": {
            "kind": kind,
            "generalist": generalist,
            "classes": list(class_set.classes),
            "trainable_layers": specialist.trainable_layers,
        },
    }
    num = num_special(splits.train, class_set)
    if num == 0 or num == len(splits.train):
        raise UsageError(
            f"{name}: {num} of {len(splits.train)} training examples are of its class set; there must be some of "
            "both its classes and others"
        )
    share = 2 * num / len(splits.train)
    cost = fit_cost(settings, splits, network) * share
    return Job(
        name, functools.partial(_specialise, device=device), config, (generalist,), cost, 1, num_gpus(device)
    )


def specialist_fit(settings: FitSettings, specialist: SpecialistSettings, kind: str) -> FitSettings:
    """How a specialist is fitted. Labels alone overfit: their best epoch is kept, by validation."""
    update = {
        "epochs": specialist.epochs,
        "learning_rate": specialist.learning_rate,
        "warmup_epochs": 0.0,
        "patience": specialist.epochs if kind == FULL_HARD else None,
    }
    return settings.model_copy(update=update)


def splits_of(splits: Splits, class_set: ClassSet) -> Splits:
    """The data as a specialist with a dustbin sees it."""
    train, validation, test = (
        specialist_data(part, class_set) for part in (splits.train, splits.validation, splits.test)
    )
    return dataclasses.replace(splits, train=train, validation=validation, test=test)


def num_special(data: Dataset, class_set: ClassSet) -> int:
    """How many examples have a class of the set."""
    return int(_is_special(data, class_set).sum())


def _is_special(data: Dataset, class_set: ClassSet) -> torch.Tensor:
    labels = data.labels(data.ids)
    return torch.isin(labels, torch.tensor(class_set.classes, device=labels.device))


def _specialise(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config, about = run.config, run.config["specialist"]
    data, settings = settings_of(config)
    splits = load_splits(data)
    class_set = ClassSet.of_numbers(about["classes"], splits.class_names)
    is_special = _is_special(splits.train, class_set)
    special, rest = splits.train.ids[is_special], splits.train.ids[~is_special]
    correction = oversampling_correction(len(special), len(rest))
    generalist = load_run_network(needs[about["generalist"]])
    has_dustbin = about["kind"] == DUSTBIN_KIND
    own = splits_of(splits, class_set) if has_dustbin else splits
    network = build_for(settings, own, seed=0)
    if has_dustbin:
        start_from_generalist_(network, generalist, class_set, correction=correction)
    else:
        network.load_state_dict(generalist.state_dict())
    example_inputs = splits.train.gather(splits.train.ids[:2], 0)
    num_frozen = _freeze(network, about.get("trainable_layers"), example_inputs)
    views = parse_views(settings.views)
    train = own.train.with_views(views, view_seed=data.view_seed)
    options: dict[str, Any] = {}
    if about["kind"] == FULL:
        # Special examples learn from their labels, the others from what the generalist says of them.
        targets = Teacher(generalist, train, temperature=1.0, class_names=tuple(splits.class_names), device=device)
        options = {"targets": LabelsInTargets(targets, train.without_labels(rest), 1.0)}
    learner, validation = network, own.validation
    if num_frozen and views is None:
        parts = prefix_features(network, num_frozen, own, precision=settings.precision, device=device)
        learner, train, validation = parts or (network, train, own.validation)
    if not has_dustbin:
        shift = torch.full((len(splits.class_names),), correction)
        shift[list(class_set.classes)] = 0
        learner = _Oversampled(learner, shift)
    result = run_fit(
        run, learner, train, validation=validation, device=device, sampler=half_special(special), **options
    )
    network.cpu().eval()
    if has_dustbin:
        add_dustbin_correction_(network, correction, example_inputs)
    run.save_weights(network.state_dict(), {**result.about, "correction": correction})
    return {"metrics": {**result.kept, "correction": correction, "num_frozen": num_frozen}, "rows": result.metrics}


class _Oversampled(nn.Module):
    """A full softmax in training, where its set is too frequent: the logits of all other classes are lower there.

    So it starts as its generalist, and is validated as what will be used. (A dustbin is corrected afterwards.)
    """

    shift: torch.Tensor

    def __init__(self, network: nn.Module, shift: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(inputs)
        return logits - self.shift if self.training else logits


def _freeze(network: nn.Module, trainable_layers: int | None, example_inputs: torch.Tensor) -> int:
    """Freeze all but the last layers: how many."""
    if trainable_layers is None:
        return 0
    num_frozen = len(layers_of(network, example_inputs)) - trainable_layers
    freeze_(network, num_frozen, example_input=example_inputs)
    return num_frozen


def unit_job(
    name: str,
    generalist: str,
    specialists: Sequence[str],
    settings: FitSettings,
    data: DataSettings,
    *,
    top_n: int,
    views: str = "none",
    num_views: int = 0,
    device: str = "cpu",
) -> Job:
    """A job that puts a generalist and its specialists together, and stores what they say for a student.

    Args:
        name: of the job.
        generalist: its job.
        specialists: their jobs.
        settings: of the generalist.
        data: of the generalist.
        top_n: how many of the generalist's classes choose the specialists.
        views: that the student will see.
        num_views: of each training example to store soft targets for; 0 stores none.
        device: where to compute.
    """
    splits = load_splits(data)
    config = {
        "data": data.model_dump(),
        "data_fingerprint": splits.fingerprint,
        "generalist": generalist,
        "specialists": list(specialists),
        "top_n": top_n,
        "views": views,
        "num_views": num_views,
    }
    # On CIFAR-100 a view takes as long as four epochs or five: several networks are asked, then combined.
    cost = 1.0 + 4 * num_views * fit_cost(settings, splits, outline(settings, splits)) / settings.epochs
    function = functools.partial(_put_together, device=device)
    return Job(name, function, config, (generalist, *specialists), cost, gpus=num_gpus(device))


def _put_together(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    config = run.config
    together = assemble(
        needs[config["generalist"]], [needs[name] for name in config["specialists"]], top_n=config["top_n"]
    )
    together.save(run.path / UNIT)
    if config["num_views"]:
        data = DataSettings(**config["data"])
        train = training_data(load_splits(data), TransferSettings())
        train = train.with_views(parse_views(config["views"]), view_seed=data.view_seed)
        SoftTargetStore.write(
            run.path / STORE,
            {"specialists": together.to(device)},
            train,
            views=config["num_views"],
            batch_size=ensemble_batch_size(train.example_shape),
            device=device,
            progress=lambda fraction: run.report_progress(fraction, {}),
        )
    return {"metrics": {"num_shared": together.num_shared}}


def assemble(generalist: Path, specialists: Sequence[Path], *, top_n: int = 1) -> SpecialistEnsemble:
    """One unit from the run directories of a generalist and its specialists.

    Raises:
        UsageError: a specialist of another generalist, data set or kind than the first.
        RunError: a fit among them has not ended.
    """
    about = Run.read(generalist).config
    names = about["class_names"]
    class_sets, kinds = [], []
    for path in specialists:
        run = Run.read(path)
        theirs = run.config
        if "specialist" not in theirs:
            raise UsageError(f"{path} is no specialist: it has no class set")
        if not run.is_done:  # it may have weights already, whose dustbin is not corrected
            raise RunError(f"{path} is not finished: run the same command again to go on")
        if theirs["data"] != about["data"] or theirs["network"] != about["network"]:
            raise UsageError(
                f"{path} is a specialist of {theirs['network']} on {theirs['data']['name']}; the generalist "
                f"{generalist} is {about['network']} on {about['data']['name']}, or another split of it"
            )
        numbers = theirs["specialist"]["classes"]
        class_sets.append(ClassSet.of_numbers(numbers, names))
        kinds.append(theirs["specialist"]["kind"] == DUSTBIN_KIND)
    if len(set(kinds)) > 1:
        raise UsageError("specialists with a dustbin and with a full softmax: take those of one kind")
    fit_settings = about["fit"]
    return SpecialistEnsemble(
        load_run_network(generalist),
        [load_run_network(path) for path in specialists],
        class_sets,
        class_names=names,
        example_inputs=torch.zeros(2, *about["input_shape"]),
        top_n=top_n,
        full_softmax=bool(kinds) and not kinds[0],
        architecture={
            "name": about["network"],
            "input_shape": about["input_shape"],
            "dropout": fit_settings["dropout"],
            "input_dropout": fit_settings["input_dropout"],
        },
    )
