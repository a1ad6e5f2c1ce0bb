"""Log-mel filterbanks of a corpus: computed once, normalised, cached in a memory-mapped file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from instar.data.filterbanks import filterbank
from instar.data.kept import was_used
from instar.data.readers.audio import Samples
from instar.data.sources import cache_folder
from instar.errors import DataError, UsageError
from instar.files import write_tensors, written_whole
from instar.speech.corpus import Corpus, Utterance

_FORMAT = 1  # of the cached files; a new number invalidates all of them
_SMALLEST_DEVIATION = 1e-3

Normalisation = Literal["speaker", "global", "none"]


@dataclass(frozen=True)
class FeatureSettings:
    """How features are computed.

    Args:
        num_mels: number of filters.
        shift_ms: from one frame to the next.
        length_ms: length of a frame.
        normalisation: `speaker` gives each filter mean 0 and variance 1 for each speaker and condition (a
            recording session), `global` over all frames; `none` leaves the features as they are.
    """

    num_mels: int = 40
    shift_ms: float = 10.0
    length_ms: float = 25.0
    normalisation: Normalisation = "speaker"

    def __post_init__(self) -> None:
        if self.num_mels < 1 or not 0 < self.shift_ms <= self.length_ms:
            raise UsageError(
                f"features: {self.num_mels} filters, frames of {self.length_ms} ms every {self.shift_ms} ms; "
                "expected num_mels >= 1 and length_ms >= shift_ms > 0"
            )
        if self.normalisation not in ("speaker", "global", "none"):
            raise UsageError(f"unknown normalisation {self.normalisation!r}; expected speaker, global or none")


def log_mel(samples: Samples, sample_rate: int, settings: FeatureSettings | None = None) -> Tensor:
    """The log-mel filterbank features of a recording: `instar.data.filterbanks.filterbank` with these settings.

    Args:
        samples: (n,) float32 from -1 to 1.
        sample_rate: Hz.
        settings: by default 40 filters, frames of 25 ms every 10 ms; its normalisation is not applied.

    Returns: (frames, num_mels) float32, frame t centred at (t + 1/2) shift_ms; at least one frame.

    Raises:
        DataError: the recording is shorter than half a shift.
        UsageError: kaldi-native-fbank is not installed.

    Example:
        >>> log_mel(np.zeros(8000, np.float32), 8000).shape
        torch.Size([100, 40])
    """
    one = settings or FeatureSettings()
    return filterbank(samples, sample_rate, num_mels=one.num_mels, shift_ms=one.shift_ms, length_ms=one.length_ms)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each filter: (num_mels,) float32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, frames: Tensor) -> "Statistics":
        """The statistics of (frames, num_mels); deviations are at least 0.001."""
        values = frames.double()
        std = values.std(dim=0, correction=0).clamp_(min=_SMALLEST_DEVIATION)
        return cls(values.mean(dim=0).float(), std.float())

    def normalise(self, frames: Tensor) -> Tensor:
        """(frames - mean) / std."""
        return (frames - self.mean) / self.std

    @property
    def digest(self) -> str:
        """A hash of the values."""
        return hashlib.sha256(self.mean.numpy().tobytes() + self.std.numpy().tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a corpus, the frames of all utterances in one tensor.

    Args:
        values: (frames, num_mels) float32, memory-mapped if they come from the cache.
        utterances: in the order of their frames.
        lengths: number of frames of each utterance.
        sample_rate: of the recordings, Hz.
        settings: how they were computed.
    """

    values: Tensor
    utterances: tuple[Utterance, ...]
    lengths: tuple[int, ...]
    sample_rate: int
    settings: FeatureSettings

    def __post_init__(self) -> None:
        offsets = np.concatenate(([0], np.cumsum(self.lengths))).tolist()
        places = {one.id: (offsets[row], offsets[row + 1]) for row, one in enumerate(self.utterances)}
        object.__setattr__(self, "places", places)

    places: Mapping[str, tuple[int, int]] = None  # type: ignore[assignment]
    """The first row of an utterance and the row after its last one, by id."""

    def of(self, utterance: Utterance | str) -> Tensor:
        """The frames of an utterance, a view of (frames, num_mels).

        Raises:
            UsageError: the utterance is not in the corpus.
        """
        name = utterance if isinstance(utterance, str) else utterance.id
        if name not in self.places:
            raise UsageError(f"no features for utterance {name!r}: it is not in the corpus")
        start, end = self.places[name]
        return self.values[start:end]


def features_of(
    corpus: Corpus,
    settings: FeatureSettings | None = None,
    *,
    statistics: Statistics | None = None,
    keep: bool = True,
) -> Features:
    """The normalised features of a corpus, read from the user's cache if they were computed before.

    Args:
        corpus: the recordings.
        settings: how to compute features.
        statistics: those of the training data, for `global` normalisation; by default those of the corpus.
        keep: write the features to the cache and map the file into memory.

    Raises:
        DataError: a recording cannot be read or is too short for a frame.
        UsageError: `statistics` is given for another normalisation than `global`.

    Example:
        >>> corpus = Corpus("noise", 8000, [Utterance("a", "ann")], lambda _: np.random.rand(800).astype("f4"))
        >>> features = features_of(corpus, keep=False)
        >>> features.of("a").shape, bool(features.values.mean().abs() < 1e-3)
        (torch.Size([10, 40]), True)
    """
    settings = settings or FeatureSettings()
    if statistics is not None and settings.normalisation != "global":
        raise UsageError(f"statistics are for normalisation 'global', found {settings.normalisation!r}")
    file = _cached_file(corpus, settings, statistics) if keep else None
    found = _read(file) if file is not None else None
    if found is None:
        found = _computed(corpus, settings, statistics)
        if file is not None and _write(file, *found):
            found = _read(file) or found
    values, lengths = found
    return Features(values, tuple(corpus.utterances), tuple(lengths), corpus.sample_rate, settings)


def _computed(
    corpus: Corpus, settings: FeatureSettings, statistics: Statistics | None
) -> tuple[Tensor, Sequence[int]]:
    parts = []
    for utterance in corpus.utterances:
        try:
            parts.append(log_mel(corpus.audio(utterance), corpus.sample_rate, settings))
        except DataError as error:
            raise DataError(f"utterance {utterance.id!r}: {error}") from error
    lengths = [len(part) for part in parts]
    if settings.normalisation == "global":
        statistics = statistics or Statistics.of(torch.cat(parts))
        parts = [statistics.normalise(part) for part in parts]
    elif settings.normalisation == "speaker":
        sessions: dict[tuple[str, str], list[int]] = {}
        for row, utterance in enumerate(corpus.utterances):
            sessions.setdefault((utterance.speaker, utterance.condition), []).append(row)
        for rows in sessions.values():
            own = Statistics.of(torch.cat([parts[row] for row in rows]))
            for row in rows:
                parts[row] = own.normalise(parts[row])
    return torch.cat(parts), lengths


def _cached_file(corpus: Corpus, settings: FeatureSettings, statistics: Statistics | None) -> Path | None:
    order = hashlib.sha256("\n".join(one.id for one in corpus.utterances).encode()).hexdigest()
    about = [_FORMAT, corpus.fingerprint, order, asdict(settings), statistics.digest if statistics else None]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    try:
        return cache_folder() / "features" / f"{key[:32]}.safetensors"
    except UsageError:
        return None


def _read(file: Path) -> tuple[Tensor, Sequence[int]] | None:
    """The content of a cached file, mapped into memory by safetensors: pages are loaded when they are read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            values, lengths = opened.get_tensor("values"), opened.get_tensor("lengths").tolist()
    except (OSError, SafetensorError):
        return None
    was_used(file)
    return (values, lengths) if sum(lengths) == len(values) else None


def _write(file: Path, values: Tensor, lengths: Sequence[int]) -> bool:
    tensors = {"values": values, "lengths": torch.tensor(lengths)}
    try:
        with written_whole(file) as part:
            write_tensors(part, tensors)
    except OSError:
        return False  # the cache only saves time
    return True
