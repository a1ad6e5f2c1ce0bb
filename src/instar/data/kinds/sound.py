"""Sounds: clips as pictures of their log-mel filterbanks, all of one length: networks for pictures take them."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from instar.data.filterbanks import filterbank
from instar.data.kinds import KindOptions
from instar.data.kinds.heard_sound import HeardPreparation, fit_heard, read_heard
from instar.data.progress import tracked
from instar.data.readers.audio import resample
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.data.sounds import Clip, clips_of
from instar.data.sources import cache_folder
from instar.errors import DataError, RunError, UsageError
from instar.files import write_bytes
from instar.structures import Inputs

_FORMAT = 2  # of what is kept; another number invalidates it
_NUM_MELS, _SHIFT_MS = 40, 10.0
_COVERED = 0.95  # of the training clips are not cut
_FITTED_ON = 5_000  # clips, evenly spaced: more change neither a mean nor a quantile
_SMALLEST_DEVIATION = 1e-3
_LONGEST_SECONDS = 60.0


@dataclass(frozen=True)
class SoundPreparation:
    """Clips as (1, filters, frames), each filter with mean 0 and variance 1 over the training frames.

    The mean of each clip is subtracted before: how near a microphone was says little of what is heard. A shorter
    clip lies in the middle, zeros (the mean) around it; of a longer one the middle is kept.

    Args:
        sample_rate: Hz; clips of another rate are resampled.
        num_frames: of 10 ms.
        mean, std: of each filter.
        seen: how many of the training clips were resampled, mixed down, cut, silent.
    """

    sample_rate: int
    num_frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seen: Mapping[str, int] = field(default_factory=dict)

    kind = "sound"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, 1, filters, frames) float32.

        Raises:
            DataError: a clip that cannot be read; names file and row.
        """
        pictures = torch.zeros(len(table), 1, len(self.mean), self.num_frames)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        for row, clip in enumerate(clips_of(table, _column(roles))):
            frames = (_features(clip, self.sample_rate, Counter()) - mean) / std
            place_in_middle(frames.T, pictures[row, 0])
        return pictures

    def record(self) -> dict[str, Any]:
        """Itself as JSON, with its `kind`."""
        return {"kind": self.kind, **asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def in_words(self) -> str:
        """What it does, in one line."""
        seconds = self.num_frames * _SHIFT_MS / 1000
        about = f"{len(self.mean)} mel filters every {_SHIFT_MS:g} ms for {seconds:g} s, {self.sample_rate:,} Hz"
        seen = ", ".join(f"{count} {what}" for what, count in self.seen.items())
        return f"{about} (training clips: {seen})" if seen else about


def fit(records: Records, options: KindOptions) -> SoundPreparation | HeardPreparation:
    """The sample rate, length, means and deviations of the training clips; evenly spaced ones of more than 5,000.

    The rate is the commonest, the length covers 95 % of the clips, unless the options say otherwise. What
    a feature extractor makes takes the place of filterbanks where one is named.

    Raises:
        DataError: a clip that cannot be read.
        UsageError: an option out of range.
    """
    _check(options)
    if options.feature_extractor is not None:
        return fit_heard(records.parts["train"], _column(records.roles), options, most=_FITTED_ON)
    about = [_FORMAT, options.clip_seconds, options.sample_rate, records.roles.audio]
    file = None
    if records.roles.key is None:  # else the ids do not tell the content
        file = _kept_file(about, records)
    if file is not None and (kept := _read_kept(file)) is not None:
        return kept
    found = _fitted(records, options)
    if file is not None:
        with contextlib.suppress(RunError):  # it only saves time
            write_bytes(file, json.dumps(found.record()).encode())
    return found


def _fitted(records: Records, options: KindOptions) -> SoundPreparation:
    table, column = records.parts["train"], _column(records.roles)
    rows = np.unique(np.linspace(0, len(table) - 1, _FITTED_ON).round().astype(np.int64))
    sample = table.take(pa.array(rows))
    rate = options.sample_rate or _commonest_rate(clips_of(sample, column))
    seen: Counter[str] = Counter()
    bar = tracked(clips_of(sample, column), total=len(sample), description="listening", show=options.progress)
    sizes: list[int] = []
    sums = torch.zeros(2, _NUM_MELS, dtype=torch.float64)
    for clip in bar:
        frames = _features(clip, rate, seen).double()
        sizes.append(len(frames))
        sums += torch.stack((frames.sum(0), (frames**2).sum(0)))
    lengths = np.array(sizes)
    seconds = options.clip_seconds
    num_frames = round(seconds * 1000 / _SHIFT_MS) if seconds else int(np.ceil(np.quantile(lengths, _COVERED)))
    seen["cut to their middle"] = int((lengths > num_frames).sum())
    mean, square = sums / int(lengths.sum())
    std = (square - mean**2).clamp(min=0).sqrt().clamp_(min=_SMALLEST_DEVIATION)
    return SoundPreparation(
        rate,
        num_frames,
        tuple(mean.float().tolist()),
        tuple(std.float().tolist()),
        {what: count for what, count in sorted(seen.items()) if count},
    )


def read(record: Mapping[str, Any]) -> SoundPreparation | HeardPreparation:
    """What `record` wrote."""
    if "feature_extractor" in record:
        return read_heard(record)
    return _read(record)


def _read(record: Mapping[str, Any]) -> SoundPreparation:
    values = {name: value for name, value in record.items() if name != "kind"}
    return SoundPreparation(**values | {"mean": tuple(record["mean"]), "std": tuple(record["std"])})


def _kept_file(about: list[Any], records: Records) -> Path | None:
    """Where the preparation of these clips is kept."""
    digest = hashlib.sha256(json.dumps(about).encode() + records.ids["train"].numpy().tobytes()).hexdigest()
    try:
        return cache_folder() / "prepared" / f"{digest[:32]}.json"
    except UsageError:
        return None


def _read_kept(file: Path) -> SoundPreparation | None:
    try:
        return _read(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place_in_middle(values: Tensor, room: Tensor) -> None:
    """Put values (filters, frames) into the middle of a room, or the middle of them into all of it.

    Example:
        >>> room = torch.zeros(1, 4)
        >>> place_in_middle(torch.ones(1, 2), room); room.tolist()
        [[0.0, 1.0, 1.0, 0.0]]
    """
    spare = room.shape[1] - values.shape[1]
    if spare >= 0:
        room[:, spare // 2 : spare // 2 + values.shape[1]] = values
    else:
        room[:] = values[:, -spare // 2 : -spare // 2 + room.shape[1]]


def _features(clip: Clip, rate: int, seen: Counter[str]) -> Tensor:
    """The filterbank of one clip at a rate, less its mean: how loud it is; counts what was done to it."""
    recording = clip.recording()
    samples = resample(recording.samples, recording.sample_rate, rate)
    seen["resampled"] += recording.sample_rate != rate
    seen["of several channels, averaged"] += recording.num_channels > 1
    seen["silent"] += not recording.samples.any()
    try:
        frames = filterbank(samples, rate, num_mels=_NUM_MELS, shift_ms=_SHIFT_MS)
    except DataError as error:
        raise DataError(f"{clip}: {error}") from error
    return frames - frames.mean()


def _commonest_rate(clips: Iterator[Clip]) -> int:
    rates = Counter(clip.recording().sample_rate for clip in clips)
    return min(rates, key=lambda rate: (-rates[rate], rate))


def _column(roles: Roles) -> str:
    if roles.audio is None:
        raise UsageError("no column is a sound: name it with audio")
    return roles.audio


def _check(options: KindOptions) -> None:
    seconds, rate = options.clip_seconds, options.sample_rate
    if seconds is not None and not _SHIFT_MS / 1000 <= seconds <= _LONGEST_SECONDS:
        raise UsageError(f"clip_seconds {seconds:g} should be from 0.01 to {_LONGEST_SECONDS:g}")
    if rate is not None and not 1_000 <= rate <= 400_000:
        raise UsageError(f"sample_rate {rate} should be from 1000 to 400000 Hz")
