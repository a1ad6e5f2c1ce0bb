"""The job that fits a treatment: copies layers of a base, freezes them or not, and proves what stayed frozen."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from instar.data import parse_views
from instar.errors import RunError
from instar.jobs import Job, num_gpus
from instar.networks import assert_frozen, name_layers_
from instar.recipes.fitting import (
    bias_factors,
    build_for,
    fit_config,
    fit_cost,
    load_run_network,
    load_splits,
    outline,
    run_fit,
    settings_of,
    soft_options,
)
from instar.recipes.settings import DataSettings, FitSettings, Settings, SoftSettings
from instar.runs import Run
from instar.transfer import Treatment, apply_treatment_, frozen_hashes, prefix_features


class CopySettings(Settings):
    """What becomes of copied layers."""

    frozen_dropout: bool = True
    """dropout in frozen layers stays on in training, as in the paper"""
    frozen_norm: Literal["source", "target"] = "source"
    """statistics of frozen normalisations: as copied, or measured on the target's training data first"""
    learning_rate_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """of copied layers that learn on; 1 in the paper"""


def treatment_job(
    root: Path,
    name: str,
    treatment: Treatment,
    settings: FitSettings,
    data: DataSettings,
    *,
    base: str | None,
    seed: int,
    copied: CopySettings,
    base_data: DataSettings | None = None,
    layers: Sequence[str] | None = None,
    manifest: Mapping[str, Any] | None = None,
    soft: SoftSettings | None = None,
    teachers: Sequence[str] = (),
    device: str = "cpu",
) -> Job:
    """A job that fits one treatment on the data of its target.

    Args:
        root: run directory of the command.
        name: of the job.
        treatment: which layers, from where, and whether they learn on.
        settings: of the network, as its base has them.
        data: of the target.
        base: the job whose layers are copied; None for random ones.
        seed: of the upper layers, and of the order of the data.
        copied: what becomes of copied layers.
        base_data: what the base has to be trained on; None takes any.
        layers: names of the layers, where the network's own stages are not meant.
        manifest: of the split; goes into the file of the weights too.
        soft: soft targets that it learns from as well.
        teachers: the jobs that give them, and where they are asked once, their logits.
        device: where to compute.
    """
    splits = load_splits(data)
    network = outline(settings, splits)
    about_base = None if base_data is None else load_splits(base_data).fingerprint
    config = {
        **fit_config(root / "jobs" / name, settings, data, splits, network, seed=seed, device=device),
        "treatment": {
            "name": treatment.name,
            "n": treatment.n,
            "fine_tune": treatment.fine_tune,
            "base": base,
            "base_data_fingerprint": about_base,
        },
        "copied": copied.model_dump(),
        "layers": layers,
        "manifest": manifest,
        "soft": soft.model_dump() if soft else None,
    }
    cost = fit_cost(settings, splits, network)
    needs = (*(() if base is None else (base,)), *teachers)
    function = functools.partial(_fit_treatment, treatment=treatment, device=device)
    return Job(name, function, config, needs, cost, gpus=num_gpus(device))


def _fit_treatment(run: Run, needs: Mapping[str, Path], *, treatment: Treatment, device: str) -> dict[str, Any]:
    config = run.config
    data, settings = settings_of(config)
    copied = CopySettings(**config["copied"])
    splits = load_splits(data)
    run.about_weights = {"manifest": config["manifest"]} if "manifest" in config else {}
    base = _load_base(config["treatment"], needs)
    network = build_for(settings, splits, seed=config["seed"])
    for one in (network, base):
        if one is not None and "layers" in config:
            name_layers_(one, config["layers"])
    example_input = splits.train.gather(splits.train.ids[:2], 0)
    names = apply_treatment_(
        network,
        treatment,
        base,
        example_input=example_input,
        frozen_dropout=copied.frozen_dropout,
        calibrate_on=splits.train if base is None or copied.frozen_norm == "target" else None,
    )
    frozen = [] if treatment.fine_tune else names
    run.about_weights |= {"frozen": frozen}
    before = frozen_hashes(network, frozen)
    views = parse_views(settings.views)
    parts = None
    if frozen and views is None:
        parts = prefix_features(network, treatment.n, splits, precision=settings.precision, device=device)
    train = splits.train.with_views(views, view_seed=data.view_seed)
    soft = SoftSettings(**config["soft"]) if "soft" in config else None
    learner, train, validation = parts or (network, train, splits.validation)
    factors: dict[str, float] = {}
    if treatment.fine_tune:
        of_biases = bias_factors(network, settings)
        copied_names = [name for name, _ in network.named_parameters() if name in set(names)]
        factors = {name: copied.learning_rate_factor * of_biases.get(name, 1) for name in copied_names}
    result = run_fit(
        run,
        learner,
        train,
        validation=validation,
        device=device,
        learning_rate_factors=factors,
        **soft_options(soft, needs, train, device),
    )
    assert_frozen(before, frozen_hashes(network, frozen))
    if parts is not None:  # what was saved is the rest
        run.save_weights(network.state_dict(), result.about)
    return {
        "metrics": {**result.kept, "prefix_cached": parts is not None, "num_frozen": len(frozen)},
        "rows": result.metrics,
    }


def _load_base(treatment: Mapping[str, Any], needs: Mapping[str, Path]) -> nn.Module | None:
    """The network whose layers are copied, if it is the one that was meant."""
    if "base" not in treatment:
        return None
    path = needs[treatment["base"]]
    expected, found = treatment.get("base_data_fingerprint"), Run.read(path).config.get("data_fingerprint")
    if expected not in (None, found):
        raise RunError(
            f"{path} was trained on other data than {treatment['name']} copies from; remove it and run again"
        )
    return load_run_network(path)
