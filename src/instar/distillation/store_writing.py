"""Writes a soft-target store, shard by shard; a write that was killed resumes and ends with the same bytes."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from instar.data import Dataset
from instar.data.hashing import key_of
from instar.distillation.store_format import (
    FULL,
    HEAD,
    SEQUENCES,
    Columns,
    FileEntry,
    Manifest,
    ShardEntry,
    StoreSettings,
    lock_store,
    map_file,
    map_shard,
    shard_bytes,
)
from instar.distillation.store_rows import DTYPES, content_hashes, cut_logits, cut_sparse, restore_logits
from instar.distillation.store_teachers import Answers, rows_at_once
from instar.errors import DataError, TrainingError, UsageError
from instar.files import tensor_bytes, write_bytes
from instar.identity import plain
from instar.logit_values import warn_of_zeros
from instar.losses import soft_targets
from instar.networks import evaluation_mode

MOST_ROWS, MOST_NUMBERS = 65_536, 2**26
"""Of a shard by default: a kill may cost it, and it lies in memory while it is written. 512 rows of 131,072."""

MEASURED_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
SAMPLED_EXAMPLES = 16  # at least, up to twice as many, where the data has so many
DRAWS = 16  # of each position of sequences
FULL_ROWS = 16  # kept in full by default, in a store that is read sparse

Cut = Callable[[Tensor], tuple[dict[str, Tensor], Tensor]]
"""From one member's answers (rows, ...) to what is kept, and its L1 distances (temperatures, rows)."""


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
    draws: int | None = None,
    draws_at: float | None = None,
    full_rows: int | None = None,
    hidden_width: int | None = None,
    lengths: Tensor | None = None,
    length: int | None = None,
    tokens: str | None = None,
) -> StoreSettings:
    """The settings of a store with these teachers' logits on this data.

    Args:
        fingerprints: of the teachers, by name.
        data: the examples.
        answers: what the teachers answer to some of them, a sketch; None where they cannot be asked again.
        views, top_k, dtype, temperatures, rows_per_shard, split, draws, draws_at, full_rows: as for
            `SoftTargetStore.write`.
        hidden_width: of the hidden states that are kept in place of logits.
        lengths, length, tokens: of sequences, as in `Answers`.

    Raises:
        UsageError: an argument of `SoftTargetStore.write` is out of its range.
    """
    temperatures = tuple(sorted({float(T) for T in temperatures}))
    if top_k is not None and lengths is not None and draws is None:
        # No dense tensor of all classes is made of positions, and without draws they teach less than labels do.
        draws = DRAWS if top_k < data.num_classes else 0
    is_sparse = draws is not None
    num_rows = views * (len(data) if lengths is None else int(lengths.sum()))
    if is_sparse and full_rows is None:
        full_rows = min(FULL_ROWS, num_rows)
    if draws and draws_at is None and temperatures:
        draws_at = 1.0 if 1.0 in temperatures else temperatures[0]
    if rows_per_shard is None:
        kept = len(fingerprints) * (hidden_width or (data.num_classes if top_k is None else top_k + (draws or 0)))
        rows_per_shard = max(min(MOST_ROWS, MOST_NUMBERS // max(kept, 1)), 1)
    shown = ", ".join(f"{T:g}" for T in temperatures)
    for wrong, message in (
        (not fingerprints, "no teacher to store; give one or more"),
        (dtype not in DTYPES, f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}"),
        (rows_per_shard < 1, f"rows_per_shard is {rows_per_shard}, expected at least 1"),
        (views < 1, f"views is {views}, expected at least 1"),
        (views > 1 and data.views is None, f"views is {views}, but the data has no views: see data.with_views"),
        (
            views > 1 and lengths is not None,
            f"views is {views}: of sequences the unchanged examples alone are kept",
        ),
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
        (is_sparse and (draws or 0) < 0, f"draws is {draws}, expected 0 or more"),
        (is_sparse and top_k is None, "draws are of the classes outside the top k: give top_k too"),
        (
            bool(draws) and top_k == data.num_classes,
            f"top_k is {top_k}, all classes: there are no others to draw from",
        ),
        (draws_at is not None and not draws, f"draws_at is {draws_at}, but there are no draws: give draws too"),
        (
            draws_at is not None and draws_at not in temperatures,
            f"draws_at is {draws_at}, expected one of the temperatures {shown}",
        ),
        (full_rows is not None and full_rows < 0, f"full_rows is {full_rows}, expected 0 or more"),
        (
            (full_rows or 0) > num_rows,
            f"full_rows is {full_rows}, the store has {num_rows} rows: expected no more",
        ),
        (bool(full_rows) and not is_sparse, "full_rows are for a store that is read sparse: give top_k and draws"),
        (
            hidden_width is not None and top_k is not None,
            "hidden states are kept in place of logits: leave top_k out",
        ),
        (
            len(fingerprints) > 1 and (is_sparse or hidden_width is not None or lengths is not None),
            f"{len(fingerprints)} teachers: draws, hidden states and sequences are of one; write a store of each",
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
        temperatures=temperatures or ((1.0,) if hidden_width else MEASURED_TEMPERATURES),
        rows_per_shard=rows_per_shard,
        num_examples=len(ids),
        split=split,
        answers=answers,
        num_draws=draws,
        draws_at=None if draws_at is None else float(draws_at),
        num_full=full_rows,
        hidden_width=hidden_width,
        num_positions=None if lengths is None else int(lengths.sum()),
        length=length,
        tokens=tokens,
    )
    names = settings.column_names()
    if len(set(names)) < len(names):
        raise UsageError(f"the teachers' names {', '.join(fingerprints)} do not give distinct columns: rename one")
    return settings


def settings_of(answers: Answers, data: Dataset, **options: Any) -> StoreSettings:
    """The settings of a store with what these teachers answer; `options` as for `store_settings`."""
    fingerprints, sketches = answers.known_by()
    head = next(iter(answers.heads.values()), None) if answers.hidden else None
    return store_settings(
        fingerprints,
        data,
        answers=sketches,
        hidden_width=None if head is None else head.in_features,
        lengths=answers.lengths,
        length=answers.length,
        tokens=answers.tokens,
        **plain(options),
    )


def write_shards(
    path: Path,
    settings: StoreSettings,
    answers: Answers,
    *,
    batch_size: int | None,
    device: str | torch.device,
    progress: Callable[[float], None] | None,
) -> None:
    """Write the shards that are missing or damaged; see `SoftTargetStore.write`."""
    data = answers.data
    answers = replace(answers, data=data.with_views(data.views, view_seed=data.view_seed).to(torch.device(device)))
    ask = partial(answers.pieces, batch_size=batch_size, device=device)
    with ExitStack() as stack:
        for network in answers.teachers.values():
            stack.enter_context(evaluation_mode(network.to(device)))
        answers.check(device)
        head = next(iter(answers.heads.values())) if answers.hidden else None
        ids = data.ids.sort().values
        write_rows(path, settings, ids, ask, lengths=answers.lengths, head=head, progress=progress)


def write_rows(
    path: Path,
    settings: StoreSettings,
    ids: Tensor,
    answers_of: Callable[[range], Iterable[Tensor]],
    *,
    lengths: Tensor | None = None,
    head: nn.Linear | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write the files that are missing or damaged.

    Args:
        path: of the store.
        settings: of the store.
        ids: of the examples, ascending.
        answers_of: gives the logits of some rows in pieces, (members, rows, classes) float32, or the hidden
            states, (1, rows, width).
        lengths: of the sequences, in the order of `ids`, where the rows are positions.
        head: that of the hidden states.
        progress: called with the fraction done.
    """
    with lock_store(path):
        manifest = Manifest.begin(path, settings)
        if lengths is not None:
            columns = {"id": ids.cpu().numpy(), "length": lengths.int().numpy()}
            _write_other(manifest, SEQUENCES, lambda: shard_bytes(columns, {}))
        if head is not None:
            _write_other(manifest, HEAD, lambda: tensor_bytes(_named(head)))
        if settings.num_full:
            _write_other(manifest, FULL, lambda: _full_rows(settings, answers_of))
        for number, file in enumerate(settings.files()):
            if not _is_whole(manifest, file):
                rows = settings.rows_of(number)
                columns, entry = _shard(settings, ids.cpu(), rows, answers_of(rows), _cut(settings, rows, head))
                content = shard_bytes(columns, _about(settings))
                write_bytes(path / file, content)
                manifest.shards[file] = entry(content)
                manifest.write()
            if progress is not None:
                progress((number + 1) / len(settings.files()))


def _about(settings: StoreSettings) -> dict[str, Any]:
    """What a shard says of itself; over a vocabulary the names of all classes would be longer than many rows."""
    if settings.is_sparse or settings.num_positions or settings.hidden_width:
        return {"temperatures": settings.temperatures}
    return {"class_names": settings.class_names, "temperatures": settings.temperatures}


def _is_whole(manifest: Manifest, file: str) -> bool:
    try:
        return file in manifest.shards and bool(map_shard(manifest.path / file, manifest.shards[file]))
    except DataError:
        return False


def _write_other(manifest: Manifest, name: str, content_of: Callable[[], bytes]) -> None:
    try:
        if name in manifest.files and map_file(manifest.path / name, manifest.files[name]):
            return
    except DataError:
        pass
    content = content_of()
    write_bytes(manifest.path / name, content)
    manifest.files[name] = FileEntry(len(content), hashlib.sha256(content).hexdigest())
    manifest.write()


def _named(head: nn.Linear) -> dict[str, Tensor]:
    pairs = zip(("weight", "bias"), _weights(head), strict=True)
    return {name: value for name, value in pairs if value is not None}


def _weights(head: nn.Linear | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if head is None else (head.weight, head.bias)


def _full_rows(settings: StoreSettings, answers_of: Callable[[range], Iterable[Tensor]]) -> bytes:
    """All logits of the rows that are kept in full, float32: against them float16 is measured too."""
    (name,) = settings.teachers
    rows = settings.spread_rows(settings.num_full or 0)
    logits = _of_rows(rows, answers_of)
    _check_finite(name, logits, logits)
    return shard_bytes({"row": torch.tensor(rows).numpy(), name: logits.numpy()}, _about(settings))


def logits_of_rows(answers: Answers, rows: Sequence[int]) -> Tensor:
    """All logits of some rows, (rows, classes), of the one teacher of a store."""
    (network,) = answers.teachers.values()
    with evaluation_mode(network):
        return _of_rows(rows, partial(answers.pieces, batch_size=None, device="cpu"))


def _of_rows(rows: Sequence[int], answers_of: Callable[[range], Iterable[Tensor]]) -> Tensor:
    return torch.cat([torch.cat(list(answers_of(range(row, row + 1))), dim=1)[0] for row in rows])


def _cut(settings: StoreSettings, rows: range, head: nn.Linear | None) -> Cut:
    """How the answers of some rows are cut down to what is kept of them."""
    if settings.is_sparse:
        # A key of the rows: so a shard that is written again has the same draws.
        generator = torch.Generator().manual_seed(key_of("draws", rows.start) & 2**63 - 1)
        return lambda logits: cut_sparse(logits, settings, generator)

    weight, bias = (None if value is None else value.detach().float().cpu() for value in _weights(head))

    def cut_hidden(hidden: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        assert weight is not None
        kept = hidden.to(DTYPES[settings.dtype])
        exact, restored = (functional.linear(values, weight, bias) for values in (hidden, kept.float()))
        return {"": kept}, torch.stack([_distances(exact, restored, T) for T in settings.temperatures])

    def cut_all(logits: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        kept = cut_logits(logits, settings)
        found = [_distances(logits, restore_logits(kept, settings, T), T) for T in settings.temperatures]
        return kept, torch.stack(found)

    return cut_all if head is None else cut_hidden


def _distances(exact: Tensor, restored: Tensor, T: float) -> Tensor:
    """L1 distances (rows,) between the soft targets of the teacher's logits and of the stored ones."""
    return (soft_targets(exact, T).probs - soft_targets(restored, T).probs).abs().sum(-1)


def _shard(
    settings: StoreSettings, ids: Tensor, rows: range, pieces: Iterable[Tensor], cut: Cut
) -> tuple[Columns, Callable[[bytes], ShardEntry]]:
    """The columns of a shard, and a function from its bytes to its entry in the manifest.

    Of the logits one piece is there at a time, and what is kept of the others.
    """
    columns: Columns = {}
    if not settings.num_positions:
        places = torch.arange(rows.start, rows.stop)
        views = torch.div(places, len(ids), rounding_mode="floor").int()
        columns = {"id": ids[places % len(ids)].numpy(), "view": views.numpy()}
    # One tensor of each column: small ones between the pieces would keep the memory of these from being reused.
    parts: dict[str, Tensor] = {}
    filled = {name: torch.empty(len(rows), 1, dtype=torch.bool) for name in settings.teachers}
    distances = torch.empty(len(settings.temperatures), len(filled), len(rows))
    start = 0
    for piece in pieces:
        for member, (name, answers) in enumerate(zip(settings.teachers, piece, strict=True)):
            place = start
            for full in torch.split(answers, rows_at_once(len(settings.class_names))):
                here = slice(place, place + len(full))
                kept, distances[:, member, here] = cut(full)
                _check_finite(name, full, kept[""])
                filled[name][here] = full.any(-1, keepdim=True)
                for ending, values in kept.items():
                    column = f"{name}{ending}"
                    if column not in parts:
                        parts[column] = values.new_empty(len(rows), *values.shape[1:])
                    parts[column][here] = values
                place += len(full)
        start += piece.shape[1]
    for name, values in filled.items():
        warn_of_zeros(f"teacher {name!r}", values)
    columns |= {name: values.numpy() for name, values in parts.items()}
    by_temperature = distances.flatten(1)

    def entry(content: bytes) -> ShardEntry:
        return ShardEntry(
            rows=len(rows),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            max_l1=tuple(float(found.max()) for found in by_temperature),
            mean_l1=tuple(float(found.mean()) for found in by_temperature),
        )

    return columns, entry


def _check_finite(name: str, answers: Tensor, kept: Tensor) -> None:
    if not bool(answers.isfinite().all()):
        raise TrainingError(
            f"teacher {name!r} returns logits that are not finite: NaN or infinity; train it again"
        )
    if not bool(kept.isfinite().all()):
        raise UsageError(f"teacher {name!r} returns values up to {answers.abs().max():.3g}: too large for float16")
