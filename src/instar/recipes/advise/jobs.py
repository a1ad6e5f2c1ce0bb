"""The jobs that look at a pretrained network: take its weights, score its features at every cut."""

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from instar.data import Dataset, Splits, transfer_set
from instar.errors import UsageError
from instar.jobs import Job
from instar.networks import layers_of, load_state_, network_fingerprint
from instar.networks.weights import read_weights, without_prefix
from instar.recipes.fitting import about_network, build_for, is_run, load_run_network, load_splits
from instar.recipes.settings import DataSettings, FitSettings
from instar.runs import Run, find_run
from instar.transfer import MOST_FEATURES, features_at, h_score, linear_probe, logme

MOST_EXAMPLES = 5000  # a share of each class, where there are more


def pretrained_job(name: str, network: str, settings: FitSettings, data: DataSettings) -> Job:
    """A job that takes a network with the weights that it comes with, whatever classes it was trained for.

    Args:
        name: of the job.
        network: RUN:job, NAME@WEIGHTS or python:MODULE:FUNCTION.
        settings: of the same architecture.
        data: of the target.
    """
    splits = load_splits(data)
    if is_run(network):
        theirs = config_of_fit(network)
        about = {key: theirs[key] for key in ("input_shape", "class_names", "data", "data_fingerprint", "fit")}
        about["network"] = settings.network
    else:
        about = about_network(settings, data, splits)
    weights = network_fingerprint(load_pretrained(network, settings, splits))
    return Job(name, _take, {**about, "taken_from": network, "weights": weights})


def config_of_fit(network: str) -> dict[str, Any]:
    """What a run's fit was done with.

    Raises:
        UsageError: it is no fit of a network, but a command's run with several, for instance.
    """
    path = find_run(network)
    config = Run.read(path).config
    if _is_fit(config):
        return config
    fits = [one.parent for one in path.glob("jobs/**/config.toml") if _is_fit(Run.read(one.parent).config)]
    if not fits:
        raise UsageError(f"{network} holds no network")
    one = min(fits, key=lambda fit: ("base" not in fit.name, fit)).relative_to(path / "jobs")
    raise UsageError(f"{network} holds no single network; name one of its fits, for instance {network}:{one}")


def _is_fit(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("network"), str) and "input_shape" in config


def load_pretrained(network: str, settings: FitSettings, splits: Splits) -> nn.Module:
    """A network with its weights. Only a run's keeps its last layer: the others get one for the target's classes.

    Raises:
        UsageError: a run's network is for other examples, or is none.
        DataError: the weights cannot be read, or are of another architecture.
    """
    if is_run(network):
        expected, found = config_of_fit(network)["input_shape"], list(splits.train.example_shape)
        if expected != found:
            raise UsageError(
                f"{network} was trained on examples of {tuple(expected)}, those of {splits.name} are "
                f"{tuple(found)}: layers can move between tasks of the same form alone"
            )
        return load_run_network(find_run(network))
    made = build_for(settings.model_copy(update={"new_weights": None}), splits, seed=0)
    name, _, weights = network.partition("@")
    if weights:
        last = layers_of(made, splits.train.gather(splits.train.ids[:2], 0))[-1].name
        own = {key: value for key, value in made.state_dict().items() if key.startswith(f"{last}.")}
        read = without_prefix(read_weights(Path(weights)), made.state_dict())
        state = {key: value for key, value in read.items() if key not in own}
        load_state_(made, state | own, name, weights)
    return made.eval()


def _take(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    data, network = DataSettings(**config["data"]), config["taken_from"]
    settings = FitSettings(network=config["network"], **config["fit"])
    taken = load_run_network(find_run(network)) if is_run(network) else None
    taken = taken or load_pretrained(network, settings, load_splits(data))
    if network_fingerprint(taken) != config["weights"]:
        raise UsageError(f"{network} gives other weights now than when this run began")
    run.save_weights(taken.state_dict(), {"taken_from": network})
    return {}


def scores_job(name: str, base: str, cuts: Sequence[int], data: DataSettings) -> Job:
    """A job that computes the features at all cuts of a base in one pass, and scores them."""
    config = {
        "data": data.model_dump(),
        "data_fingerprint": load_splits(data).fingerprint,
        "base": base,
        "cuts": list(cuts),
        "most_features": MOST_FEATURES,
        "most_examples": MOST_EXAMPLES,
    }
    return Job(name, functools.partial(_score, base=base), config, (base,))


def _score(run: Run, needs: Mapping[str, Path], *, base: str) -> dict[str, Any]:
    started = time.monotonic()
    splits = load_splits(DataSettings(**run.config["data"]))
    network = load_run_network(needs[base])
    train, validation = (at_most(part) for part in (splits.train, splits.validation))
    labels, held_out = train.labels(train.ids), validation.labels(validation.ids)
    cuts = run.config["cuts"]
    features, others = (features_at(network, cuts, part) for part in (train, validation))
    rows = [
        {
            "cut": n,
            "num_features": features[n].shape[1],
            "probe_accuracy": 100 * linear_probe(features[n], labels, others[n], held_out).accuracy,
            "h_score": h_score(features[n], labels),
            "logme": logme(features[n], labels),
        }
        for n in cuts
    ]
    about = {"num_examples": len(train) + len(validation), "seconds": round(time.monotonic() - started, 3)}
    return {"metrics": about, "rows": rows}


def at_most(data: Dataset) -> Dataset:
    """All of the examples, or a share of each class where they are many."""
    share = MOST_EXAMPLES / len(data)
    return data if share >= 1 else transfer_set(data, fraction=share)
