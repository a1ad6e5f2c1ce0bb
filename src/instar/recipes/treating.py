"""The job that fits a treatment: copies layers of a base, freezes them or not, and proves what stayed frozen."""

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from instar.data import Dataset, InMemoryDataset, Splits, parse_views
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.networks import assert_frozen, cut
from instar.recipes.fitting import (
    about_network,
    build_for,
    decided_precision,
    fit_cost,
    fit_options,
    load_run_network,
    load_splits,
    settings_of,
)
from instar.recipes.settings import DataSettings, FitSettings, Settings
from instar.runs import Run
from instar.training import fit
from instar.transfer import Treatment, apply_treatment_, frozen_hashes

CACHE_BYTES = 2**30  # of a frozen prefix's features, for one job


class CopySettings(Settings):
    """What becomes of copied layers."""

    frozen_dropout: bool = True
    """dropout in frozen layers stays on in training, as in the paper"""
    frozen_norm: Literal["source", "target"] = "source"
    """statistics of frozen normalisations: as copied, or measured on the target's training data first"""
    learning_rate_factor: Annotated[float, Field(gt=0)] = 1.0
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
    device: str = "cpu",
) -> Job:
    """A job that fits one treatment on the data of its target; `base` is the job whose layers it copies."""
    splits = load_splits(data)
    network = build_for(settings, splits, seed=seed)
    config = {
        **about_network(settings, data, splits),
        "seed": seed,
        "learning_rate": settings.learning_rate[0],
        "precision": decided_precision(root / "jobs" / name, settings.precision, network, device),
        "treatment": {"name": treatment.name, "n": treatment.n, "fine_tune": treatment.fine_tune, "base": base},
        "copied": copied.model_dump(),
    }
    cost = fit_cost(settings, splits, network)
    needs = () if base is None else (base,)
    return Job(name, functools.partial(_fit_treatment, treatment=treatment, device=device), config, needs, cost)


def _fit_treatment(run: Run, needs: Mapping[str, Path], *, treatment: Treatment, device: str) -> dict[str, Any]:
    config = run.config
    data, settings = settings_of(config)
    copied = CopySettings(**config["copied"])
    splits = load_splits(data)
    base = config["treatment"].get("base")
    network = build_for(settings, splits, seed=config["seed"])
    example_input = splits.train.gather(splits.train.ids[:2], 0)
    calibrates = base is None or copied.frozen_norm == "target"
    apply_treatment_(
        network,
        treatment,
        load_run_network(needs[base]) if base is not None else None,
        example_input=example_input,
        frozen_dropout=copied.frozen_dropout,
        calibrate_on=splits.train if calibrates else None,
    )
    n = 0 if treatment.fine_tune else treatment.n
    before = frozen_hashes(network, n, example_input=example_input)
    views = parse_views(settings.views)
    train = splits.train.with_views(views, view_seed=data.view_seed)
    learning: tuple[nn.Module, Dataset, Dataset] = (network, train, splits.validation)
    cached = False
    if n and views is None:
        parts = _features_once(network, n, splits, config["precision"], example_input, copied.frozen_dropout)
        learning, cached = (parts, True) if parts else (learning, False)
    result = fit(
        learning[0],
        learning[1],
        validation=learning[2],
        learning_rate=config["learning_rate"],
        precision=config["precision"],
        device=device,
        seed=config["seed"],
        run=run,
        **fit_options(settings),
    )
    assert_frozen(before, frozen_hashes(network, n, example_input=example_input))
    run.save_weights(network.state_dict(), {"epochs": settings.epochs, "frozen": sorted(before)})
    last = {**result.metrics[-1], "prefix_cached": cached, "num_frozen": len(before)}
    return {"metrics": last, "rows": result.metrics}


def _features_once(
    network: nn.Module, n: int, splits: Splits, precision: str, example_input: Tensor, frozen_dropout: bool
) -> tuple[nn.Module, Dataset, Dataset] | None:
    """The rest of a network and the features that its frozen prefix gives it, where these can be kept."""
    parts = cut(network, n, example_input)
    dropouts = [one for one in parts.prefix.modules() if isinstance(one, nn.modules.dropout._DropoutNd) and one.p]
    if not parts.cacheable or (dropouts and frozen_dropout):
        return None
    with torch.no_grad():
        one = parts.prefix.eval()(example_input)
    in_training = torch.bfloat16 if precision == "bfloat16" else torch.float32
    num_bytes = one[0].numel() * (len(splits.train) * in_training.itemsize + 4 * len(splits.validation))
    if not isinstance(one, Tensor) or num_bytes > CACHE_BYTES:
        return None
    casting = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with casting:
        train = _as_features(parts.prefix, splits.train, in_training)
    return parts.rest, train, _as_features(parts.prefix, splits.validation, torch.float32)


def _as_features(prefix: nn.Module, data: Dataset, dtype: torch.dtype) -> Dataset:
    features = predict_logits(prefix, data).to(dtype)
    return InMemoryDataset(features, data.labels(data.ids), class_names=data.class_names, ids=data.ids)
