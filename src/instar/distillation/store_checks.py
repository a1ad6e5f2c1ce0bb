"""Whether data and teachers are those that a store was written for."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.data import Dataset
from instar.distillation.store_format import StoreSettings, check_class_names
from instar.distillation.store_rows import content_hashes, tokens_of
from instar.distillation.teachers import as_networks
from instar.errors import UsageError
from instar.identity import first_difference
from instar.networks import network_fingerprint
from instar.sparse_targets import READINGS


def check_data(path: Path, settings: StoreSettings, ids: Tensor, data: Dataset) -> None:
    """As `SoftTargetStore.check_data`, of the store at a path with these settings and ids."""
    here, there = tokens_of(data), settings.tokens
    if there is not None and here != there:
        raise UsageError(
            f"{path} was written for the tokens {there}, the data has {here or 'none'}: use the same tokenizer "
            "(--tokenizer and --max-length as they were; one that is trained on other texts is another)"
        )
    check_class_names(path, settings.class_names, tuple(data.class_names))
    here = "none" if data.views is None else f"{data.views.name} (view_seed {data.view_seed})"
    there = "none" if settings.views == "none" else f"{settings.views} (view_seed {settings.view_seed})"
    if here != there:
        raise UsageError(f"{path} holds views {there}, the data has {here}; use the same")
    if data.views is not None and data.num_views != settings.num_views:
        shown = "a new one in each epoch" if data.num_views is None else data.num_views
        raise UsageError(
            f"{path} has {settings.num_views} views, the data shows {shown}: "
            f"pass num_views={settings.num_views} to data.with_views"
        )
    missing = int((~torch.isin(data.ids.cpu(), ids)).sum())
    if missing:
        raise UsageError(
            f"{path} was written for other data: {missing} of the {len(data)} examples are not in it; "
            "use that data, or write a store for this data"
        )
    sampled = torch.tensor([int(example) for example in settings.content], device=data.ids.device)
    sampled = sampled[torch.isin(sampled, data.ids)]
    for example, content in content_hashes(data, sampled).items() if len(sampled) else ():
        if content != settings.content[example]:
            raise UsageError(f"{path}: example {example} has other content in this data; use the same")


def check_teachers(path: Path, settings: StoreSettings, teachers: Mapping[str, Any], data: Dataset | None) -> None:
    """As `SoftTargetStore.check_teachers`, of the store at a path with these settings."""
    from instar.distillation.store_teachers import Answers  # reading needs none of it

    members = settings.teachers
    if data is not None:
        teachers = {name: as_networks(teacher, data) for name, teacher in teachers.items()}
    for name in [*members, *teachers]:
        if name not in teachers or name not in members:
            raise UsageError(f"{path} holds the teachers {', '.join(members)}, not {', '.join(teachers)}")
        if network_fingerprint(teachers[name]) != settings.teachers[name]:
            raise UsageError(f"{path}: teacher {name!r} has other weights now than when it was written")
    if data is None or settings.answers is None or data.fingerprint != settings.data_fingerprint:
        return
    answers = Answers.of(teachers, data, hidden=settings.hidden_width is not None)
    for name, there in settings.answers.items():
        difference = first_difference(there, answers.sketch(name), name)
        if difference:
            raise UsageError(
                f"{path}: teacher {name!r} has the same weights, and answers otherwise than when the store was "
                f"written: {difference}"
            )


def check_temperature(path: Path, settings: StoreSettings, temperature: float) -> None:
    """Refuse a temperature that a top-k store was not written for.

    Raises:
        UsageError: names those that it was written for.
    """
    if settings.top_k is not None and temperature not in settings.temperatures:
        written_for = ", ".join(f"{T:g}" for T in settings.temperatures)
        raise UsageError(
            f"{path} keeps the top {settings.top_k} of {len(settings.class_names)} classes for the temperatures "
            f"{written_for}, not for {temperature:g}; use one of these or write a store for it"
        )
    if settings.hidden_width and temperature == math.inf:
        raise UsageError(f"{path} keeps hidden states, which are read at a finite temperature, not at inf")


def reading_of(path: Path, settings: StoreSettings, reading: str | None, temperature: float) -> str | None:
    """What the student is told of the classes outside the top k; None where the targets are not read sparse.

    Args:
        path: of the store.
        settings: of the store.
        reading: as for `SoftTargetStore.soft_targets`.
        temperature: of the soft targets.

    Raises:
        UsageError: the store was not written for this reading, or for this temperature.
    """
    check_temperature(path, settings, temperature)
    if reading is None and settings.is_sparse:
        return "drawn" if "drawn" in readings_at(path, settings, temperature) else "tail"
    if reading is None:
        return None
    if reading not in READINGS:
        raise UsageError(f"reading is {reading!r}, expected one of {', '.join(READINGS)}")
    if settings.top_k is None:
        raise UsageError(
            f"{path} has what all classes need; a reading, {reading!r}, is for a top-k store: leave it out"
        )
    if len(settings.teachers) > 1:
        raise UsageError(
            f"{path} has {len(settings.teachers)} teachers; a reading, {reading!r}, is of one: leave it out"
        )
    if reading == "drawn" and not settings.num_draws:
        raise UsageError(f"{path} has no draws: read it as 'tail', or write a store with draws")
    if reading == "drawn" and settings.draws_at != temperature:
        raise UsageError(
            f"{path} has draws made at temperature {settings.draws_at:g}, which say nothing at {temperature:g}: "
            f"read it as 'tail', or write a store with draws at {temperature:g}"
        )
    return reading


def readings_at(path: Path, settings: StoreSettings, temperature: float) -> list[str]:
    """The readings that a top-k store of one teacher has at a temperature.

    Raises:
        UsageError: it was not written for this temperature.
    """
    check_temperature(path, settings, temperature)
    has_draws = settings.num_draws and settings.draws_at == temperature
    return [reading for reading in READINGS if reading != "drawn" or has_draws]
