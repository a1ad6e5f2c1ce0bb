"""What a store says of itself: sizes, the errors of its precision, and rows whose logits are known in full."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.data import GivenData, as_dataset
from instar.distillation.store_checks import check_data, check_teachers, check_temperature
from instar.distillation.store_format import Manifest
from instar.distillation.store_reading import StoredRows
from instar.distillation.teachers import as_networks
from instar.errors import DataError, UsageError


@dataclass(frozen=True)
class TargetError:
    """L1 distance of stored soft targets from exact ones at a temperature, due to float16 or to the top k.

    Args:
        temperature: of the soft targets.
        max_l1: maximum over members and rows; an upper bound where it was not measured.
        mean_l1: mean over members and rows; None where it was not measured.
    """

    temperature: float
    max_l1: float
    mean_l1: float | None


@dataclass(frozen=True)
class StoreReport:
    """Sizes, and the errors of soft targets as measured when the store was written."""

    rows: int
    shards: int
    bytes: int
    errors: tuple[TargetError, ...]


def report_of(manifest: Manifest) -> StoreReport:
    """Sizes and measured errors from the manifest."""
    settings, shards = manifest.settings, manifest.shards.values()

    def measured(place: int, temperature: float) -> TargetError:
        mean = sum(shard.mean_l1[place] * shard.rows for shard in shards) / settings.num_rows
        return TargetError(temperature, max(shard.max_l1[place] for shard in shards), mean)

    errors = tuple(measured(place, T) for place, T in enumerate(settings.temperatures))
    num_bytes = sum(file.bytes for file in shards) + sum(file.bytes for file in manifest.files.values())
    return StoreReport(settings.num_rows, len(shards), num_bytes, errors)


def check_shards(manifest: Manifest, temperature: float | None) -> StoreReport:
    """As `SoftTargetStore.check`."""
    path, settings = manifest.path, manifest.settings
    if temperature is not None:
        if not 0 < temperature < math.inf:
            raise UsageError(f"temperature is {temperature}, expected finite and above 0")
        check_temperature(path, settings, temperature)
    largest, rows = 0.0, StoredRows(manifest)  # a shard that was intact when first read may be damaged by now
    for file, columns in rows.shards():
        for name in settings.teachers:
            values = columns[name]
            if not np.isfinite(values).all():
                raise DataError(f"{path / file}: {name} holds NaN or infinity; write the store again")
            largest = max(largest, float(np.abs(values).max()))
    rows.check_others()
    report = report_of(manifest)
    if temperature is None or temperature in settings.temperatures:
        return report
    half_step = float(np.spacing(np.float16(largest))) / 2 if settings.dtype == "float16" else 0.0
    if settings.hidden_width:  # an error of a hidden state reaches a logit times its weight
        half_step *= float(rows.head["weight"].abs().sum(1).max())
    bound = TargetError(temperature, 2 * math.tanh(half_step / (2 * temperature)), None)
    return dataclasses.replace(report, errors=(*report.errors, bound))


def rows_in_full(
    manifest: Manifest, rows: StoredRows, teachers: Mapping[str, Any] | None, data: GivenData | None
) -> tuple[Tensor, Tensor]:
    """Some rows of a top-k store of one teacher, (rows,), and all of their logits, (rows, classes).

    Raises:
        UsageError: it is another store; or it keeps no rows in full, and there are no teachers to ask.
    """
    path, settings = manifest.path, manifest.settings
    if settings.top_k is None or len(settings.teachers) > 1:
        raise UsageError(f"{path} is no top-k store of one teacher: no classes are left out, or those of several")
    if teachers is None or data is None:
        if not settings.num_full:
            raise UsageError(f"{path} keeps no rows in full: give the teacher and the data, to ask it again")
        full = rows.full()
        (name,) = settings.teachers
        return torch.from_numpy(full["row"].copy()), torch.from_numpy(full[name].copy())
    from instar.distillation.store_teachers import Answers  # reading needs none of it
    from instar.distillation.store_writing import FULL_ROWS, logits_of_rows

    data = as_dataset(data)
    check_teachers(path, settings, teachers, data)
    shown = data.with_views(data.views, view_seed=data.view_seed, num_views=settings.num_views)
    check_data(path, settings, rows.ids, shown)
    networks = {name: as_networks(teacher, data) for name, teacher in teachers.items()}
    wanted = settings.spread_rows(FULL_ROWS)
    return torch.tensor(wanted), logits_of_rows(Answers.of(networks, data, hidden=False), wanted)
