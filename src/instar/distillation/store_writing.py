"""Writes a soft-target store, shard by shard; a write that was killed resumes and ends with the same bytes."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.arguments import require_network
from instar.data import Dataset, batches, id_batches, seen_by
from instar.distillation.store_format import (
    Columns,
    Manifest,
    ShardEntry,
    StoreSettings,
    lock_store,
    map_shard,
    shard_bytes,
)
from instar.distillation.store_rows import DTYPES, content_hashes, cut_logits, restore_logits
from instar.errors import DataError, TrainingError, UsageError
from instar.evaluation import batch_size_of, batch_size_on, predict_logits
from instar.files import write_bytes
from instar.logit_values import warn_of_zeros
from instar.losses import soft_targets
from instar.naming import described
from instar.networks import evaluation_mode, forward_logits, network_fingerprint, network_identity
from instar.teacher_checks import check_network, judged_ids, warn_of_classes

MOST_ROWS, MOST_NUMBERS = 65_536, 2**26
"""Of a shard by default: a kill may cost it, and it lies in memory while it is written. 512 rows of 131,072."""

MEASURED_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
SAMPLED_EXAMPLES = 16  # at least, up to twice as many, where the data has so many


def store_settings(
    fingerprints: Mapping[str, str],
    data: Dataset,
    *,
    answers: Mapping[str, Mapping[str, Any]] | None,
    views: int,
    top_k: int | None,
    dtype: str,
    temperatures: Sequence[float],
    rows_per_shard: int | None,
    split: Mapping[str, Any] | None,
) -> StoreSettings:
    """The settings of a store with these teachers' logits on this data.

    Args:
        fingerprints: of the teachers, by name.
        data: the examples.
        answers: what the teachers answer to some of them, `answers_of`; None where they cannot be asked again.
        views, top_k, dtype, temperatures, rows_per_shard, split: as for `SoftTargetStore.write`.

    Raises:
        UsageError: an argument of `SoftTargetStore.write` is out of its range.
    """
    if rows_per_shard is None:
        kept = len(fingerprints) * (data.num_classes if top_k is None else top_k)
        rows_per_shard = max(min(MOST_ROWS, MOST_NUMBERS // max(kept, 1)), 1)
    for wrong, message in (
        (not fingerprints, "no teacher to store; give one or more"),
        (dtype not in DTYPES, f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}"),
        (rows_per_shard < 1, f"rows_per_shard is {rows_per_shard}, expected at least 1"),
        (views < 1, f"views is {views}, expected at least 1"),
        (views > 1 and data.views is None, f"views is {views}, but the data has no views: see data.with_views"),
        (
            top_k is not None and not 1 <= top_k <= data.num_classes,
            f"top_k is {top_k}, expected from 1 to the {data.num_classes} classes",
        ),
        (
            top_k is not None and not temperatures,
            "a top-k store keeps the mass of the other classes at given temperatures: give one or more",
        ),
        (
            not all(0 < temperature < math.inf for temperature in temperatures),
            f"temperatures are {list(temperatures)}, expected finite numbers above 0",
        ),
    ):
        if wrong:
            raise UsageError(message)
    ids = data.ids.sort().values
    settings = StoreSettings(
        class_names=tuple(data.class_names),
        data_fingerprint=data.fingerprint,
        content=content_hashes(data, ids[:: max(len(ids) // SAMPLED_EXAMPLES, 1)]),
        views="none" if data.views is None else data.views.name,
        view_seed=data.view_seed,
        num_views=views,
        teachers=dict(fingerprints),
        top_k=top_k,
        dtype=dtype,
        temperatures=tuple(sorted({float(T) for T in temperatures})) or MEASURED_TEMPERATURES,
        rows_per_shard=rows_per_shard,
        num_examples=len(ids),
        split=split,
        answers=answers,
    )
    names = settings.column_names()
    if len(set(names)) < len(names):
        raise UsageError(f"the teachers' names {', '.join(fingerprints)} do not give distinct columns: rename one")
    return settings


def known_by(teachers: Mapping[str, Any], data: Dataset) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Fingerprints of networks, and what they answer to some examples, by name.

    Raises:
        UsageError: they are not networks by name.
    """
    if not isinstance(teachers, Mapping):
        raise UsageError(f"teachers: expected networks by name, {{'big': network}}, found {described(teachers)}")
    for name, network in teachers.items():
        require_network(f"teacher {name!r}", network)
    prints = {name: network_fingerprint(network) for name, network in teachers.items()}
    return prints, {name: answers_of(network, data) for name, network in teachers.items()}


def answers_of(network: nn.Module, data: Dataset) -> dict[str, Any]:
    """A sketch of what a teacher answers to some examples: it shows its code, where weights do not."""
    sketch: dict[str, Any] = network_identity(network, seen_by(network, data).examples(), trained=False)["outputs"]
    return sketch


def write_shards(
    path: Path,
    settings: StoreSettings,
    teachers: Mapping[str, nn.Module],
    data: Dataset,
    *,
    batch_size: int | None,
    device: str | torch.device,
    progress: Callable[[float], None] | None,
) -> None:
    """Write the shards that are missing or damaged; see `SoftTargetStore.write`."""
    data = data.with_views(data.views, view_seed=data.view_seed).to(torch.device(device))
    with ExitStack() as stack:
        for name, network in teachers.items():
            stack.enter_context(evaluation_mode(network.to(device)))
            _check_teacher(f"teacher {name!r}", network, data, device)
        networks, ids = list(teachers.values()), data.ids.sort().values
        size = batch_size or min(batch_size_of(network, device) for network in networks)
        write_rows(path, settings, ids, lambda rows: _logits(networks, data, ids, rows, size), progress=progress)


def write_rows(
    path: Path,
    settings: StoreSettings,
    ids: Tensor,
    logits_of: Callable[[range], Iterable[Tensor]],
    *,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write the shards that are missing or damaged.

    Args:
        path: of the store.
        settings: of the store.
        ids: of the examples, ascending.
        logits_of: gives those of some rows in pieces, (members, rows, classes) float32.
        progress: called with the fraction done.
    """
    with lock_store(path):
        manifest = Manifest.begin(path, settings)
        for number, file in enumerate(settings.files()):
            if not _is_whole(manifest, file):
                rows = settings.rows_of(number)
                columns, entry = _shard(settings, ids.cpu(), rows, logits_of(rows))
                content = shard_bytes(
                    columns, {"class_names": settings.class_names, "temperatures": settings.temperatures}
                )
                write_bytes(path / file, content)
                manifest.shards[file] = entry(content)
                manifest.write()
            if progress is not None:
                progress((number + 1) / len(settings.files()))


def _check_teacher(name: str, network: nn.Module, data: Dataset, device: str | torch.device) -> None:
    judged = data.subset(judged_ids(data))
    check_network(network, seen_by(network, judged).gather(judged.ids[: batch_size_on(device)], 0), name=name)
    logits = predict_logits(network, judged, device=device)
    if logits.shape != (len(judged), data.num_classes):
        raise UsageError(
            f"{name} returns {tuple(logits.shape)} for {len(judged)} examples, expected logits "
            f"({len(judged)}, {data.num_classes}): it was trained on other classes"
        )
    warn_of_classes(logits, judged.labels(judged.ids), data.class_names, name=name)


def _is_whole(manifest: Manifest, file: str) -> bool:
    try:
        return file in manifest.shards and bool(map_shard(manifest.path / file, manifest.shards[file]))
    except DataError:
        return False


def _logits(
    networks: Sequence[nn.Module], data: Dataset, ids: Tensor, rows: range, batch_size: int
) -> Iterator[Tensor]:
    """(members, rows, classes) float32 of each batch. These start with the shard: the last bits depend on them."""
    seen = [seen_by(network, data) for network in networks]
    with torch.no_grad():
        for view in range(rows[0] // len(ids), rows[-1] // len(ids) + 1):
            first = view * len(ids)
            wanted = ids[max(rows.start - first, 0) : rows.stop - first]
            for some, inputs, _ in batches(data, id_batches(wanted, batch_size), view=view):
                given = [inputs if one is data else one.gather(some, view) for one in seen]
                pairs = zip(networks, given, strict=True)
                yield torch.stack([forward_logits(*pair).float().cpu() for pair in pairs])


def _shard(
    settings: StoreSettings, ids: Tensor, rows: range, pieces: Iterable[Tensor]
) -> tuple[Columns, Callable[[bytes], ShardEntry]]:
    """The columns of a shard, and a function from its bytes to its entry in the manifest.

    Of the logits one piece is there at a time, and what is kept of the others.
    """
    places = torch.arange(rows.start, rows.stop)
    views = torch.div(places, len(ids), rounding_mode="floor").int()
    columns: Columns = {"id": ids[places % len(ids)].numpy(), "view": views.numpy()}
    parts: dict[str, list[Tensor]] = {}
    filled: dict[str, list[Tensor]] = {name: [] for name in settings.teachers}
    distances = []
    for piece in pieces:
        for name, full in zip(settings.teachers, piece, strict=True):
            kept = cut_logits(full, settings)
            _check_finite(name, full, kept[""])
            filled[name].append(full.any(-1, keepdim=True))
            for ending, values in kept.items():
                parts.setdefault(f"{name}{ending}", []).append(values)
            distances.append(torch.stack([_distances(full, kept, settings, T) for T in settings.temperatures]))
    for name, several in filled.items():
        warn_of_zeros(f"teacher {name!r}", torch.cat(several))
    columns |= {name: torch.cat(values).numpy() for name, values in parts.items()}
    by_temperature = torch.cat(distances, dim=1)  # (temperatures, members x rows)

    def entry(content: bytes) -> ShardEntry:
        return ShardEntry(
            rows=len(rows),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            max_l1=tuple(float(found.max()) for found in by_temperature),
            mean_l1=tuple(float(found.mean()) for found in by_temperature),
        )

    return columns, entry


def _check_finite(name: str, logits: Tensor, kept: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        raise TrainingError(
            f"teacher {name!r} returns logits that are not finite: NaN or infinity; train it again"
        )
    if not bool(kept.isfinite().all()):
        raise UsageError(f"teacher {name!r} returns logits up to {logits.abs().max():.3g}: too large for float16")


def _distances(full: Tensor, kept: Mapping[str, Tensor], settings: StoreSettings, T: float) -> Tensor:
    """L1 distances (rows,) between the soft targets of the teacher's logits and of the stored ones."""
    restored = restore_logits(kept, settings, T)
    return (soft_targets(full, T).probs - soft_targets(restored, T).probs).abs().sum(-1)
