"""The networks of a configuration, and those that fits left."""

import functools
import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from instar.data import Splits, seen_by
from instar.deploy.code import check_code, code_identity, network_in
from instar.deploy.loading import load_run_network as load_run_network
from instar.deploy.loading import network_seeing
from instar.deploy.loading import source_of as source_of
from instar.deploy.rows import checksum_of
from instar.errors import DataWarning, UsageError
from instar.guards import NUM_TRIED, try_fit, try_forward
from instar.naming import is_of_library
from instar.networks import (
    brings_weights,
    build_network,
    described,
    head_change,
    initialise_,
    is_estimator,
    is_teacher_file,
)
from instar.recipes.settings import (
    DataSettings,
    FitSettings,
    NetworkSettings,
)
from instar.recipes.splits import about_data, normalisation_of
from instar.runs import Run, find_run, is_run
from instar.structures import Form, has_labels_at_each, is_plain, read_form, without_lengths, written_form


def about_network(settings: FitSettings, data: DataSettings, splits: Splits, *, seed: int = 0) -> dict[str, Any]:
    """The part of a job's configuration that describes its network: enough to load it again."""
    about = {
        "network": settings.network,
        "input_shape": written_form(splits.train.example_shape),
        "class_names": list(splits.class_names),
        "normalisation": normalisation_of(splits),  # also where it is empty: older runs have none
        "scale": splits.train.normalisation[0],
        "preparation": checksum_of(splits),
        **about_data(data, splits),
        "fit": settings.model_dump(exclude={"network"}),
    }
    if files := described(settings.network):
        about["described"] = files
    if is_teacher_file(settings.network) and splits.train.table is not None:
        about["table"] = splits.train.table.record()
    if pad := getattr(splits.train, "pad", 0):
        about["pad"] = pad
    return {**about, "network_identity": code_identity({**about, "seed": seed})}


def network_of(run: Run) -> nn.Module:
    """The network of a fit's run, as its training starts: initialised, or with the weights that its name brings.

    Raises:
        UsageError: it is the network of a user's function or of a library, which gives another one than when the
            run began.
    """
    check_code(run.config, run.path)
    config = run.config
    if not brings_weights(config["network"]):
        return network_in(config)
    _, settings = settings_of(config)
    shape, names, seed = read_form(config["input_shape"]), config["class_names"], config["seed"]
    return new_network(
        settings, shape, len(names), seed=seed, normalisation=config["normalisation"], class_names=names
    )


def settings_of(config: Mapping[str, Any]) -> tuple[DataSettings, FitSettings]:
    """The settings in the configuration of a job."""
    return DataSettings(**config["data"]), FitSettings(network=config["network"], **config["fit"])


def build_for(settings: NetworkSettings, splits: Splits, *, seed: int, as_it_is: bool = False) -> nn.Module:
    """The network of a configuration, initialised, for the examples and classes of the data; see `new_network`."""
    given, shape, names = normalisation_of(splits), splits.train.example_shape, splits.class_names
    about: dict[str, Any] = {"normalisation": given, "class_names": names, "table": splits.train.table}
    network = new_network(settings, shape, len(names), seed=seed, as_it_is=as_it_is, **about)
    listening = getattr(splits.preparation, "listening", None)
    if getattr(network, "heard_with", None) != (listening and listening.name) and hasattr(network, "heard_with"):
        raise UsageError(
            f"{settings.network} has another feature extractor than {splits.preparation.origin}, which made the "  # type: ignore[union-attr]
            "examples: name that of the network with --feature-extractor (data.feature_extractor)"
        )
    return network


def try_network(settings: FitSettings, splits: Splits, *, temperature: float | None = None) -> nn.Module:
    """Build the network of a configuration and try it on some examples, before the first job starts.

    Args:
        settings: of the network.
        splits: its data.
        temperature: of its soft targets; None where it learns from labels alone.

    Raises:
        UsageError, TrainingError: it cannot learn from these examples; the error says why.
    """
    network = build_for(settings, splits, seed=0)
    if is_estimator(settings.network):
        raise UsageError(f"{settings.network} is fitted by its library, as a teacher: name a network here")
    warn_of_head(network)
    inputs = splits.train.gather(splits.train.ids[:NUM_TRIED], 0)
    num_classes = len(splits.class_names)
    about: dict[str, Any] = {"temperature": temperature, "data_name": splits.name}
    is_sequential = has_labels_at_each(splits.train.example_shape)
    try_fit(network, settings.network, inputs, num_classes, at_each_position=is_sequential, **about)
    return network


def try_trained(network: nn.Module, name: str, splits: Splits) -> None:
    """Try a network that is used as it is.

    Raises:
        UsageError: it gives no logits of these classes for these examples.
    """
    inputs = seen_by(network, splits.train).gather(splits.train.ids[:NUM_TRIED], 0)
    is_sequential, about = has_labels_at_each(splits.train.example_shape), {"data_name": splits.name}
    try_forward(network, name, inputs, len(splits.class_names), at_each_position=is_sequential, **about)


def refuse_weights(settings: NetworkSettings, study: str, key: str) -> None:
    """Refuse a network that brings weights where every network is trained from scratch.

    Args:
        settings: of the network.
        study: what the error calls that which trains it.
        key: of the settings.

    Raises:
        UsageError: says how to leave them out.
    """
    if brings_weights(settings.network) and not settings.new_weights:
        raise UsageError(
            f"{settings.network} brings weights, and {study} trains every network from scratch: name the "
            f"architecture alone, or leave its weights out: --set {key}.new_weights=true"
        )


def outline(settings: FitSettings, splits: Splits) -> nn.Module:
    """The template of a network for the examples and classes of the data."""
    return template_network(settings, splits.train.example_shape, len(splits.class_names))


def template_network(settings: FitSettings, input_shape: Form, num_classes: int) -> nn.Module:
    """A network for its size alone, not to be changed: a plan with many alike builds it once."""
    if settings.network.startswith("python:"):  # its function may have changed
        return new_network(settings, input_shape, num_classes, seed=0)
    parts = {"network", "dropout", "input_dropout", "initialiser", "new_weights"}  # that a network is built from
    return _template_network(settings.model_dump_json(include=parts), json.dumps(input_shape), num_classes)


@functools.lru_cache(maxsize=4)
def _template_network(settings: str, input_shape: str, num_classes: int) -> nn.Module:
    found = FitSettings.model_validate_json(settings)
    if is_of_library(found.network):  # its weights need not be loaded
        found = found.model_copy(update={"new_weights": True})
    return new_network(found, read_form(json.loads(input_shape)), num_classes, seed=0)


def new_network(
    settings: NetworkSettings,
    input_shape: Form,
    num_classes: int,
    *,
    seed: int,
    normalisation: Mapping[str, Sequence[float]] | None = None,
    class_names: Sequence[str] | None = None,
    table: Any = None,
    as_it_is: bool = False,
) -> nn.Module:
    """The network of a configuration, initialised, for examples of a shape that have been normalised.

    Args:
        settings: of the network.
        input_shape: of one example.
        num_classes: of the data.
        seed: of the initialisation.
        normalisation: of the inputs.
        class_names: of the data, by which those of a library's network or of a teacher in a file are found.
        table: how rows of a table became examples, for a teacher in a file.
        as_it_is: whether weights that its name brings are used and not trained further.
    """
    is_anew = settings.new_weights and not is_of_library(settings.network)
    network = build_network(
        settings.network,
        input_shape=input_shape,
        num_classes=num_classes,
        seed=seed,
        dropout=settings.dropout,
        input_dropout=settings.input_dropout,
        initialiser=settings.initialiser,
        normalisation=normalisation,
        weights="none" if settings.new_weights else "own" if as_it_is else "start",
        class_names=class_names,
        table=table,
    )
    return initialise_(network, settings.initialiser, seed=seed) if is_anew else network


def load_network(settings: NetworkSettings, splits: Splits) -> nn.Module:
    """A network with its weights: of a run, of a file, or initialised.

    Raises:
        UsageError: the network of a run is for other classes or examples, or was trained on examples that are
            validation here: on another split, or on all of them.
    """
    spec, path = settings.network, find_run(settings.network)
    if not is_run(spec):
        if is_teacher_file(spec):
            return build_for(settings, splits, seed=0)
        has_own = spec.startswith("python:") or brings_weights(spec)
        if settings.pretrained and not has_own:
            raise UsageError(
                f"pretrained: {spec} is built anew and has no weights; name a file of them ({spec}@FILE), a run "
                "(RUN:teacher) or python:MODULE:FUNCTION"
            )
        if "/" in spec.partition(":")[0] and not has_own:
            raise UsageError(f"{spec}: there is no run in {path}; see instar runs list")
        return build_for(settings, splits, seed=0, as_it_is=True)
    config = Run.read(path).config
    if "network" not in config:
        raise UsageError(f"{path} holds no single network; name one of its fits, for instance {path}:teacher")
    expected = {"class_names": list(splits.class_names), "input_shape": written_form(splits.train.example_shape)}
    for key, value in expected.items():
        has, needs = (without_lengths(one) if key == "input_shape" else one for one in (config[key], value))
        if has != needs:
            cure = "; --image-size and --colour change pictures" if key == "input_shape" else ""
            raise UsageError(
                f"{settings.network} was trained for {key} {config[key]}, this data has {value}{cure}"
            )
    if config.get("preparation") != checksum_of(splits):
        raise UsageError(
            f"{settings.network} was trained on rows that were prepared otherwise (other training rows, columns "
            "or options), so the same row is another input to it; use the same data and split"
        )
    own = config["data"]
    is_of_these = own["name"] == splits.name
    if is_of_these and config.get("transfer", {}).get("validation_too"):
        raise UsageError(
            f"{settings.network} learned from the validation examples too, by which candidates are selected here; "
            "use a teacher that was trained without them"
        )
    if is_of_these and config["data_fingerprint"] != splits.fingerprint:
        raise UsageError(
            f"{settings.network} was trained on another split of {own['name']} (split_seed {own['split_seed']}, "
            f"validation_fraction {own['validation_fraction']}), or its data have changed since: its training may "
            "hold examples that are validation here; use the same data and split"
        )
    return network_seeing(path, normalisation_of(splits))


def warn_of_head(network: nn.Module) -> None:
    """Say what was done to the head of a library's network: its classes in another order, or a new head."""
    if said := head_change(network):
        warnings.warn(said, DataWarning, stacklevel=2)


def comes_with_weights(settings: NetworkSettings, spec: str | None = None) -> bool:
    """Whether a network is used as it is, not trained; `spec` is one of several in the settings."""
    spec = settings.network if spec is None else spec
    brings = is_teacher_file(spec) or (brings_weights(spec) and not settings.new_weights)
    return settings.pretrained or brings or is_run(spec)


def warn_of_plain_pictures(network: nn.Module, name: str, splits: Splits) -> None:
    """Warn of a network that comes with weights, and sees pixels from 0 to 1 which nobody asked for."""
    shape = splits.train.example_shape
    is_colour = is_plain(shape) and len(shape) == 3 and shape[0] == 3
    from_0_to_1 = is_colour and splits.normalise is None and not normalisation_of(splits)
    if from_0_to_1 and not is_run(name) and not hasattr(network, "input_normalisation"):
        warnings.warn(
            f"{name} comes with weights and sees pixels from 0 to 1, most networks were trained on normalised "
            "pictures: --normalise imagenet or MEAN/SD normalises for all networks, input_normalisation = mean, "
            "sd of a module for this one; --normalise none says that pixels from 0 to 1 are meant",
            DataWarning,
            stacklevel=2,
        )


def warn_of_other_normalisation(source: Splits, target: Splits) -> None:
    """Warn of layers that are copied from normalised inputs to plain ones, or the reverse."""
    plain = [splits.name for splits in (source, target) if not normalisation_of(splits)]
    if len(plain) == 1:
        other = target.name if plain[0] == source.name else source.name
        warnings.warn(
            f"inputs of {other} are normalised, those of {plain[0]} are not: copied layers see other values "
            "than they were trained on; --normalise data --source-normalise data normalises both",
            DataWarning,
            stacklevel=2,
        )


def member_specs(spec: str) -> list[str]:
    """The networks that a teacher's name means: all members if `RUN:teacher` was an ensemble."""
    members = list(itertools.takewhile(is_run, (f"{spec}/member-{number}" for number in itertools.count())))
    return members if ":" in spec and members and not is_run(spec) else [spec]
