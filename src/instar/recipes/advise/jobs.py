"""The jobs on a pretrained network: take its weights, and score its features at every cut."""

import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from instar.data import Dataset, Splits, transfer_set
from instar.deploy.code import check_code
from instar.deploy.rows import keep_rows
from instar.errors import UsageError
from instar.jobs import Job
from instar.naming import is_of_library
from instar.networks import layers_of, load_state_, network_fingerprint
from instar.networks.weights import read_weights, without_prefix
from instar.recipes.loading import about_network, build_for, load_run_network, settings_of, warn_of_plain_pictures
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.splits import about_data, load_splits, normalisation_of, splits_of
from instar.runs import Run, find_run, is_run
from instar.structures import read_form, without_lengths, written_form
from instar.transfer import MOST_FEATURES, features_at, h_score, linear_probe, logme

MOST_EXAMPLES = 5000
"""Scores are computed on at most so many training and validation examples each."""


def pretrained_job(name: str, network: str, settings: FitSettings, data: DataSettings) -> Job:
    """A job that takes a network with its weights, whatever classes it was trained for.

    Args:
        name: of the job.
        network: RUN:job, NAME@WEIGHTS or python:MODULE:FUNCTION.
        settings: of the same architecture.
        data: of the target.
    """
    splits = load_splits(data)
    about = about_network(settings, data, splits)
    if is_run(network):
        theirs = config_of_fit(network)
        keys = ("input_shape", "class_names", "data", "data_fingerprint", "data_values", "fit", "seed")
        about |= {
            key: theirs.get(key) for key in (*keys, "normalisation", "network_identity", "adopted", "described")
        }
    taken = load_pretrained(network, settings, splits)
    warn_of_plain_pictures(taken, network, splits)
    return Job(name, _take, {**about, "taken_from": network, "weights": network_fingerprint(taken)})


def config_of_fit(network: str) -> dict[str, Any]:
    """The configuration of a run's fit.

    Raises:
        UsageError: the run is not a fit of one network but, for instance, a command's run with several.
    """
    path = find_run(network)
    config = Run.read(path).config
    if _is_fit(config):
        return config
    fits = [file.parent for file in path.glob("jobs/**/config.toml") if _is_fit(Run.read(file.parent).config)]
    if not fits:
        raise UsageError(f"{network} holds no network")
    fit = min(fits, key=lambda fit: ("base" not in fit.name, fit)).relative_to(path / "jobs")
    raise UsageError(f"{network} holds several networks; name one of its fits, for instance {network}:{fit}")


def _is_fit(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("network"), str) and "input_shape" in config


def load_pretrained(network: str, settings: FitSettings, splits: Splits) -> nn.Module:
    """A network with its weights; other than a run's, it gets a new last layer for the classes of the target.

    Raises:
        UsageError: a run's network takes other examples, or the run holds no single network.
        DataError: the weights cannot be read, or are of another architecture.
    """
    if is_run(network):
        theirs = config_of_fit(network)
        expected, found = (
            without_lengths(one) for one in (theirs["input_shape"], written_form(splits.train.example_shape))
        )
        if expected != found:
            raise UsageError(
                f"{network} was trained on examples of shape {read_form(expected)}, those of {splits.name} are "
                f"{tuple(found)}: layers transfer only between examples of the same shape"
            )
        _check_normalisation(network, theirs.get("normalisation"), splits)
        return load_run_network(find_run(network))
    if is_of_library(network):
        as_named = settings.model_copy(update={"new_weights": None, "network": network})
        return build_for(as_named, splits, seed=0).eval()
    made = build_for(settings.model_copy(update={"new_weights": None}), splits, seed=0)
    name, _, weights = network.partition("@")
    if weights:
        last = layers_of(made, splits.train.gather(splits.train.ids[:2], 0))[-1].name
        own = {key: value for key, value in made.state_dict().items() if key.startswith(f"{last}.")}
        read = without_prefix(read_weights(Path(weights)), made.state_dict())
        state = {key: value for key, value in read.items() if key not in own}
        load_state_(made, state | own, name, weights)
    return made.eval()


def _check_normalisation(network: str, trained: Mapping[str, Sequence[float]] | None, splits: Splits) -> None:
    """Refuse layers that were trained on inputs of another normalisation than those of the target."""
    found = normalisation_of(splits)
    if trained is None or all(_are_close(trained.get(key), found.get(key)) for key in ("mean", "std")):
        return
    mean, std = (",".join(f"{x:.6g}" for x in trained.get(*one)) for one in (("mean", [0.0]), ("std", [1.0])))
    raise UsageError(
        f"{network} was trained on inputs with another normalisation than those of {splits.name}; read these the "
        f"same way: --normalise {f'{mean}/{std}' if trained else 'none'}"
    )


def _are_close(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-6) for x, y in zip(one, other, strict=True))


def _take(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    network = run.config["taken_from"]
    keep_rows(run.path, splits_of(run.config))
    if is_run(network):
        taken = load_run_network(find_run(network))
    else:
        check_code(run.config, run.path)
        _, settings = settings_of(run.config)
        taken = load_pretrained(network, settings, splits_of(run.config))
    if network_fingerprint(taken) != run.config["weights"]:
        raise UsageError(f"{network} has other weights now than when this run started")
    run.save_weights(taken.state_dict(), {"taken_from": network})
    return {}


def scores_job(name: str, base: str, cuts: Sequence[int], data: DataSettings) -> Job:
    """A job that computes the features at all cuts of a base in one pass, and scores them."""
    config = {
        **about_data(data),
        "base": base,
        "cuts": list(cuts),
        "most_features": MOST_FEATURES,
        "most_examples": MOST_EXAMPLES,
    }
    return Job(name, functools.partial(_score, base=base), config, (base,))


def _score(run: Run, needs: Mapping[str, Path], *, base: str) -> dict[str, Any]:
    started = time.monotonic()
    splits, cuts = splits_of(run.config), run.config["cuts"]
    network = load_run_network(needs[base])
    train, validation = (_at_most(part) for part in (splits.train, splits.validation))
    labels, validation_labels = (part.labels(part.ids) for part in (train, validation))
    features, validation_features = (features_at(network, cuts, part) for part in (train, validation))
    rows = [
        {
            "cut": n,
            "num_features": features[n].shape[1],
            "probe_accuracy": 100
            * linear_probe(features[n], labels, validation_features[n], validation_labels).accuracy,
            "h_score": h_score(features[n], labels),
            "logme": logme(features[n], labels),
        }
        for n in cuts
    ]
    about = {"num_examples": len(train) + len(validation), "seconds": round(time.monotonic() - started, 3)}
    return {"metrics": about, "rows": rows}


def _at_most(data: Dataset) -> Dataset:
    """All examples, or of more than `MOST_EXAMPLES` the same share of each class."""
    share = MOST_EXAMPLES / len(data)
    return data if share >= 1 else transfer_set(data, fraction=share)
