"""The data of a configuration: parts of a data set, training data, and what a job writes down of them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from instar.data import Dataset, Splits, class_number, load_data, transfer_set, unlabelled_pictures
from instar.data.sampled import with_sampled_rows
from instar.errors import UsageError
from instar.identity import first_difference
from instar.naming import is_source, is_text_files
from instar.recipes.settings import DataSettings, Settings, SettingsType, TransferSettings

COLUMNS = {"label", "text", "image", "audio", "features", "group", "key", "part"}
"""The settings of data that say which column of a table is what."""
_OF_KINDS = {
    *("categories", "clip_seconds", "sample_rate", "feature_extractor"),
    *("tokenizer", "max_length", "split_by", "separator"),
}
"""The settings of single kinds of data."""


@functools.lru_cache(maxsize=32)  # parts of a data set share its memory
def load_splits(settings: DataSettings) -> Splits:
    """The data of a configuration; a process loads it once for all its jobs."""
    if settings.classes is not None:
        whole = load_splits(settings.model_copy(update={"classes": None}))
        numbers = [class_number(whole.class_names, name) for name in settings.classes]
        train, validation, test = (
            part.of_classes(numbers) for part in (whole.train, whole.validation, whole.test)
        )
        return dataclasses.replace(whole, train=train, validation=validation, test=test)
    if settings.normalise is not None:  # before the classes are chosen: tasks of one data set see the same inputs
        return load_splits(settings.model_copy(update={"normalise": None})).normalised(settings.normalise)
    splits = load_data(
        settings.name,
        validation_fraction=settings.validation_fraction,
        split_seed=settings.split_seed,
        image_size=settings.image_size,
        colour=settings.colour,
        **settings.model_dump(include=COLUMNS | _OF_KINDS),
    )
    if settings.fraction == 1:
        return splits
    train, validation = (
        transfer_set(part, fraction=settings.fraction, seed=settings.split_seed)
        for part in (splits.train, splits.validation)
    )
    return dataclasses.replace(splits, train=train, validation=validation)


def notes_of(config: Settings) -> tuple[str, ...]:
    """What was guessed or decided of the data of an experiment, where they are rows of a table."""
    data = getattr(config, "data", None)
    has_notes = isinstance(data, DataSettings) and (is_source(data.name) or is_text_files(data.name))
    return load_splits(data).notes if has_notes else ()


def with_found_columns(config: SettingsType) -> SettingsType:
    """The configuration with the columns that were found: one that names them is the same run.

    Where no data are rows of a table it is unchanged.
    """
    data = getattr(config, "data", None)
    if not isinstance(data, DataSettings) or not is_source(data.name):
        return config
    roles = load_splits(data).roles
    found = {} if roles is None else {name: getattr(roles, name) or None for name in COLUMNS}
    return config.model_copy(update={"data": data.model_copy(update=found)})


def few_examples(data: DataSettings, per_class: int | None) -> DataSettings:
    """Data with so many training and validation examples per class on average; the same share of each class.

    Raises:
        UsageError: the data has fewer.
    """
    if per_class is None:
        return data
    whole = load_splits(data)
    available = (len(whole.train) + len(whole.validation)) / len(whole.class_names)
    if per_class > available:
        raise UsageError(f"examples_per_class is {per_class}: {whole.name} has only {available:.0f} per class")
    return data.model_copy(update={"fraction": per_class / available})


def training_data(splits: Splits, transfer: TransferSettings) -> Dataset:
    """What a network learns from."""
    if transfer.folder is not None:
        data = load_pictures(transfer.folder, splits)
    else:
        data = splits.train.union(splits.validation) if transfer.validation_too else splits.train
    of_this = {"validation_too", "folder", "num_views", "sampled_rows"}
    data = transfer_set(data, **transfer.model_dump(exclude=of_this))
    if transfer.sampled_rows is None:
        return data
    return with_sampled_rows(data, transfer.sampled_rows, seed=transfer.seed)


@functools.lru_cache(maxsize=4)
def load_pictures(folder: str, splits: Splits) -> Dataset:
    """The unlabelled pictures below a folder, in the shape of the data."""
    return unlabelled_pictures(folder, splits.train)


def about_data(data: DataSettings, splits: Splits | None = None) -> dict[str, Any]:
    """The part of a job's configuration that describes its data, by name and by content."""
    identity = (splits or load_splits(data)).identity
    values = {name: value for name, value in identity.items() if name != "fingerprint"}
    return {"data": data.model_dump(), "data_fingerprint": identity["fingerprint"], "data_values": values}


def splits_of(config: Mapping[str, Any]) -> Splits:
    """The data of a job; see `as_planned`."""
    return as_planned(config, load_splits(DataSettings(**config["data"])))


def as_planned(config: Mapping[str, Any], splits: Splits) -> Splits:
    """The data of a job.

    Raises:
        UsageError: they are not those of its plan.
    """
    there = {"fingerprint": config["data_fingerprint"], **config["data_values"]}
    if difference := first_difference(there, splits.identity):
        name = splits.name
        function = f"{name}: the function gives other data each time it is called: seed it"
        changed = f"{name} has changed since the command began; run it again"
        raise UsageError(f"{function if name.startswith('python:') else changed} ({difference})")
    return splits


def normalisation_of(splits: Splits) -> dict[str, list[float]]:
    """`mean` and `std` of each channel by which the inputs of the data are normalised; empty for none."""
    _, mean, std = splits.train.normalisation
    return {name: numbers for name, numbers in (("mean", mean), ("std", std)) if numbers is not None}
