"""The job that fits a treatment: it copies layers of a base, freezes them, and proves that they stayed frozen."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from instar.data import Dataset, Splits, parse_views
from instar.deploy.rows import keep_rows
from instar.errors import RunError
from instar.jobs import Job
from instar.networks import assert_frozen, name_layers_
from instar.recipes.fitting import bias_factors, fit_content, fit_job, run_fit, soft_options
from instar.recipes.loading import load_run_network, network_of, settings_of
from instar.recipes.settings import DataSettings, FitSettings, SoftSettings
from instar.recipes.splits import load_splits, splits_of
from instar.recipes.transfer.settings import CopySettings
from instar.runs import Run
from instar.transfer import Treatment, apply_treatment_, frozen_hashes, prefix_features


def treatment_job(
    root: Path,
    name: str,
    treatment: Treatment,
    settings: FitSettings,
    data: DataSettings,
    *,
    base: str | None,
    copied: CopySettings,
    base_data: DataSettings | None = None,
    layers: Sequence[str] | None = None,
    teachers: Sequence[str] = (),
    device: str = "cpu",
    **options: Any,
) -> Job:
    """A job that fits one treatment on the data of its target.

    Args:
        root: the run directory of the command.
        name: of the job.
        treatment: which layers to copy, from where, and whether they are frozen.
        settings: of the network, the same as those of its base.
        data: of the target.
        base: the job whose layers are copied; None for random layers.
        copied: what happens to copied layers.
        base_data: the data that the base must have been trained on; None accepts any.
        layers: names of the modules that count as layers; by default the stages of the network.
        teachers: with soft targets, the jobs of the teachers, and of their precomputed logits.
        device: where to compute.
        options: of `fit_job`: `seed` of the upper layers and of the order of the data, `manifest`, `soft`.
    """
    needs = (*(() if base is None else (base,)), *teachers)
    job = fit_job(root, name, settings, data, needs=needs, device=device, **options)
    about = {
        "name": treatment.name,
        "n": treatment.n,
        "fine_tune": treatment.fine_tune,
        "base": base,
        "base_data_fingerprint": None if base_data is None else load_splits(base_data).fingerprint,
    }
    config = {**job.config, "treatment": about, "copied": copied.model_dump(), "layers": layers}
    function = functools.partial(_fit_treatment, treatment=treatment, device=device)
    return dataclasses.replace(job, function=function, config=config)


def _fit_treatment(run: Run, needs: Mapping[str, Path], *, treatment: Treatment, device: str) -> dict[str, Any]:
    config = run.config
    data, settings = settings_of(config)
    splits = splits_of(config)
    keep_rows(run.path, splits)
    network, names = _treated(run, treatment, _load_base(config["treatment"], needs), splits)
    frozen = [] if treatment.fine_tune else names
    run.about_weights = {"manifest": config["manifest"]} if "manifest" in config else {}
    run.about_weights |= {"frozen": frozen}
    before = frozen_hashes(network, frozen)
    views = parse_views(settings.views)
    learner: nn.Module = network
    train: Dataset = splits.train.with_views(views, view_seed=data.view_seed)
    validation: Dataset = splits.validation
    features = None
    if frozen and views is None:
        features = prefix_features(network, treatment.n, splits, precision=settings.precision, device=device)
    if features is not None:
        learner, train, validation = features
    soft = SoftSettings(**config["soft"]) if "soft" in config else None
    result = run_fit(
        run,
        learner,
        train,
        validation=validation,
        device=device,
        learning_rate_factors=_factors(network, names, settings, config) if treatment.fine_tune else None,
        **soft_options(soft, needs, train, device),
    )
    assert_frozen(before, frozen_hashes(network, frozen))
    if features is not None:  # the fit saved the rest alone
        run.save_weights(network.state_dict(), result.about)
    return fit_content(result, prefix_cached=features is not None, num_frozen=len(frozen))


def _treated(
    run: Run, treatment: Treatment, base: nn.Module | None, splits: Splits
) -> tuple[nn.Module, list[str]]:
    """The network with its copied layers, and the names of their weights and buffers."""
    config, network = run.config, network_of(run)
    copied = CopySettings(**config["copied"])
    for module in (network, base):
        if module is not None and "layers" in config:
            name_layers_(module, config["layers"])
    names = apply_treatment_(
        network,
        treatment,
        base,
        example_input=splits.train.gather(splits.train.ids[:2], 0),
        frozen_dropout=copied.frozen_dropout,
        calibrate_on=splits.train if base is None or copied.frozen_norm == "target" else None,
    )
    return network, names


def _factors(
    network: nn.Module, names: Sequence[str], settings: FitSettings, config: Mapping[str, Any]
) -> dict[str, float]:
    """Factors on the learning rate of fine-tuned copied layers, by parameter."""
    of_biases, factor = bias_factors(network, settings), CopySettings(**config["copied"]).learning_rate_factor
    copied = set(names)
    return {name: factor * of_biases.get(name, 1) for name, _ in network.named_parameters() if name in copied}


def _load_base(treatment: Mapping[str, Any], needs: Mapping[str, Path]) -> nn.Module | None:
    """The network whose layers are copied.

    Raises:
        RunError: it was trained on other data.
    """
    if "base" not in treatment:
        return None
    path = needs[treatment["base"]]
    expected, found = treatment.get("base_data_fingerprint"), Run.read(path).config.get("data_fingerprint")
    if expected not in (None, found):
        raise RunError(
            f"{path} was trained on other data than {treatment['name']} copies from; remove it and run again"
        )
    return load_run_network(path)
