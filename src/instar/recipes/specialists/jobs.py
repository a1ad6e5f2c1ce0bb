"""What the jobs of specialists do: find class sets, fit a specialist, save the ensemble."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, Splits, half_special, id_batches, parse_views
from instar.deploy.rows import keep_rows
from instar.distillation import LabelsInTargets, SoftTargetStore, Teacher
from instar.errors import RunError, UsageError
from instar.evaluation import predict_logits
from instar.networks import forward_logits, freeze_
from instar.recipes.fitting import STORE, fit_content, run_fit
from instar.recipes.loading import build_for, load_run_network, settings_of
from instar.recipes.settings import DataSettings
from instar.recipes.splits import as_planned, load_splits, splits_of
from instar.runs import Run
from instar.specialists import (
    ClassSet,
    SpecialistEnsemble,
    add_dustbin_correction_,
    confusable_class_sets,
    oversampling_correction,
    specialist_data,
    start_from_generalist_,
)
from instar.specialists.ensemble import ensemble_batch_size
from instar.structures import examples_in
from instar.transfer import prefix_features

_PREDICTION_BATCH = 5000  # predictions held in memory while class sets are clustered
DUSTBIN_KIND, FULL, FULL_HARD = "dustbin", "full-softmax", "full-softmax-hard"
"""Kinds of specialists: with a dustbin; with all classes, learned from soft targets, or from labels alone."""


def find_class_sets(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    """Cluster the classes that a generalist confuses. It uses predictions, no labels."""
    config = run.config
    splits = splits_of(config)
    network = load_run_network(needs[config["generalist"]]).to(device)
    predictions = (
        torch.softmax(predict_logits(network, data.subset(ids).to(device), device=device), 1)
        for data in (splits.train, splits.validation)
        for ids in id_batches(data.ids, _PREDICTION_BATCH)
    )
    names, seed = splits.class_names, config["seed"]
    found = confusable_class_sets(predictions, **config["sets"], seed=seed, class_names=names)
    return {"rows": [{"classes": class_set.classes, "names": class_set.names} for class_set in found]}


def specialist_splits(splits: Splits, class_set: ClassSet) -> Splits:
    """The data with the labels of a specialist with a dustbin."""
    train, validation, test = (
        specialist_data(part, class_set) for part in (splits.train, splits.validation, splits.test)
    )
    return dataclasses.replace(splits, train=train, validation=validation, test=test)


def fit_specialist(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    """Turn a copy of a generalist into the specialist of one class set."""
    about = run.config["specialist"]
    data, settings = settings_of(run.config)
    splits = load_splits(data)
    keep_rows(run.path, splits)
    class_set = ClassSet.of_numbers(about["classes"], splits.class_names)
    has_dustbin = about["kind"] == DUSTBIN_KIND
    own = as_planned(run.config, specialist_splits(splits, class_set) if has_dustbin else splits)
    special, rest = _special_and_rest(splits.train, class_set)
    correction = oversampling_correction(len(special), len(rest))
    generalist = load_run_network(needs[about["generalist"]])
    network = build_for(settings, own, seed=0)
    if has_dustbin:
        start_from_generalist_(network, generalist, class_set, correction=correction)
    else:
        network.load_state_dict(generalist.state_dict())
    example_inputs = splits.train.gather(splits.train.ids[:2], 0)
    num_frozen = about["num_frozen"]
    if num_frozen:
        freeze_(network, num_frozen, example_input=example_inputs)
    views = parse_views(settings.views)
    train = own.train.with_views(views, view_seed=data.view_seed)
    targets = _generalist_for_rest(generalist, train, rest, device) if about["kind"] == FULL else None
    trained, validation = network, own.validation
    if num_frozen and views is None:
        features = prefix_features(network, num_frozen, own, precision=settings.precision, device=device)
        trained, train, validation = features or (network, train, validation)
    if not has_dustbin:
        trained = _Oversampled(trained, class_set, correction)
    sampler = half_special(special)
    result = run_fit(run, trained, train, validation=validation, device=device, sampler=sampler, targets=targets)
    network.cpu().eval()
    if has_dustbin:
        add_dustbin_correction_(network, correction, example_inputs)
    run.save_weights(network.state_dict(), {**result.about, "correction": correction})
    return fit_content(result, correction=correction)


def _generalist_for_rest(generalist: nn.Module, train: Dataset, rest: Tensor, device: str) -> LabelsInTargets:
    """Soft targets: labels for examples of the set, the generalist's predictions for the rest."""
    teacher = Teacher(generalist, train, temperature=1.0, class_names=train.class_names, device=device)
    return LabelsInTargets(teacher, train.without_labels(rest), 1.0)


def _special_and_rest(data: Dataset, class_set: ClassSet) -> tuple[Tensor, Tensor]:
    """The ids of the examples of a class set, and of all others."""
    labels = data.labels(data.ids)
    is_special = torch.isin(labels, torch.tensor(class_set.classes, device=labels.device))
    return data.ids[is_special], data.ids[~is_special]


class _Oversampled(nn.Module):
    """A full softmax whose other classes have lower logits in training, because its set is oversampled there.

    So it starts as its generalist, and is validated as it will be used. (A dustbin is corrected after training.)
    """

    shift: Tensor

    def __init__(self, network: nn.Module, class_set: ClassSet, correction: float) -> None:
        super().__init__()
        self.network = network
        shift = torch.full((class_set.num_classes,), correction)
        shift[list(class_set.classes)] = 0
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        logits = forward_logits(self.network, named or (inputs[0] if len(inputs) == 1 else inputs))
        return logits - self.shift if self.training else logits


def save_ensemble(run: Run, needs: Mapping[str, Path], *, device: str) -> dict[str, Any]:
    """Save generalist and specialists as one network, and its soft targets for a student."""
    config = run.config
    specialists = [needs[name] for name in config["specialists"]]
    ensemble = assemble(needs[config["generalist"]], specialists, top_n=config["top_n"])
    ensemble.save(run.path)
    if config["num_views"]:
        data = DataSettings(**config["data"])
        train = splits_of(config).train.with_views(parse_views(config["views"]), view_seed=data.view_seed)
        SoftTargetStore.write(
            run.path / STORE,
            {"specialists": ensemble.to(device)},
            train,
            views=config["num_views"],
            batch_size=ensemble_batch_size(train.example_shape),
            device=device,
            progress=lambda fraction: run.report_progress(fraction, {}),
        )
    return {"metrics": {"num_shared": ensemble.num_shared}}


def assemble(generalist: Path, specialists: Sequence[Path], *, top_n: int = 1) -> SpecialistEnsemble:
    """The ensemble of a generalist and its specialists, from their run directories.

    Raises:
        UsageError: a specialist is of another generalist or other data, or of another kind than the first.
        RunError: a fit has not finished.
    """
    about = Run.read(generalist).config
    runs = [Run.read(path) for path in specialists]
    for run in runs:
        _check_specialist(run, generalist, about)
    has_dustbin = {run.config["specialist"]["kind"] == DUSTBIN_KIND for run in runs}
    if len(has_dustbin) > 1:
        raise UsageError("specialists with a dustbin and with a full softmax: combine those of one kind")
    options = {key: about["fit"][key] for key in ("dropout", "input_dropout")}
    if about.get("normalisation"):
        options["normalisation"] = about["normalisation"]
    return SpecialistEnsemble(
        load_run_network(generalist),
        [load_run_network(path) for path in specialists],
        [ClassSet.of_numbers(run.config["specialist"]["classes"], about["class_names"]) for run in runs],
        class_names=about["class_names"],
        example_inputs=examples_in(about["input_shape"], 2),
        top_n=top_n,
        full_softmax=has_dustbin == {False},
        architecture={"name": about["network"], "input_shape": about["input_shape"], **options},
    )


def _check_specialist(run: Run, generalist: Path, about: Mapping[str, Any]) -> None:
    """Check that a run is a finished specialist of the generalist that `about` describes."""
    if "specialist" not in run.config:
        raise UsageError(f"{run.path} is no specialist: it has no class set")
    if not run.is_done:  # its weights may be there before the dustbin is corrected
        raise RunError(f"{run.path} is not finished: run the same command again to resume it")
    network, data = run.config["network"], run.config["data"]
    if data != about["data"] or network != about["network"]:
        raise UsageError(
            f"{run.path} is a specialist of {network} on {data['name']}; the generalist {generalist} is "
            f"{about['network']} on {about['data']['name']}, or another split of it"
        )
