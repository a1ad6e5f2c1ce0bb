"""Sounds as the feature extractor of a network of transformers makes them, for that network to be trained on."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from instar.data.columns import Varying
from instar.data.kinds import KindOptions
from instar.data.progress import tracked
from instar.data.records.roles import Roles
from instar.data.sounds import Clip, clips_of
from instar.errors import DataError, UsageError
from instar.listening import Listening, read_listening
from instar.structures import Inputs

_COVERED = 0.95  # of the training clips are not cut


@dataclass(frozen=True, eq=False)
class HeardPreparation:
    """Clips as {"input_values": what a feature extractor makes of them}, or under the name that its network has.

    A clip is cut at its end. What is made of a shorter one gets zeros behind its end, or varies in length with a
    mask, where the network is told so; most feature extractors of spectrograms give one length to all.

    Args:
        listening: the feature extractor.
        num_samples: at which clips are cut.
        origin: where the feature extractor is from.
        seen: how many of the training clips were resampled, mixed down, cut, silent.
    """

    listening: Listening
    num_samples: int
    origin: str
    seen: Mapping[str, int] = field(default_factory=dict)

    kind = "sound"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, length, ...) float32.

        Raises:
            DataError: a clip that cannot be read; names file and row.
        """
        column, pad = str(roles.audio), float(self.listening.extractor.padding_value)
        found = [self._features(clip) for clip in clips_of(table, column)]
        longest, shortest = (self.listening.features(np.zeros(n, np.float32)) for n in (self.num_samples, 1))
        if self.listening.is_masked and len(shortest) < len(longest):
            lengths = torch.tensor([len(one) for one in found])
            return {self.listening.input_name: Varying(torch.cat(found), lengths, pad)}
        whole = torch.full((len(found), *longest.shape), pad)
        for row, values in enumerate(found):
            whole[row, : len(values)] = values
        return {self.listening.input_name: whole}

    def _features(self, clip: Clip) -> Tensor:
        try:
            return self.listening.features(clip.samples(self.listening.sample_rate)[: self.num_samples])
        except DataError as error:
            raise error if str(clip) in str(error) else DataError(f"{clip}: {error}") from error

    def record(self) -> dict[str, Any]:
        """Itself as JSON, with its `kind`."""
        about = {"num_samples": self.num_samples, "origin": self.origin, "seen": dict(self.seen)}
        return {"kind": self.kind, "feature_extractor": self.listening.record, **about}

    def in_words(self) -> str:
        """What it does, in one line."""
        rate, kind = self.listening.sample_rate, self.listening.record["feature_extractor_type"]
        about = f"clips through {kind} of {self.origin}, {rate:,} Hz, cut at {self.num_samples / rate:.3g} s"
        seen = ", ".join(f"{count} {what}" for what, count in self.seen.items())
        return f"{about} (training clips: {seen})" if seen else about


def fit_heard(train: pa.Table, column: str, options: KindOptions, *, most: int) -> HeardPreparation:
    """The preparation by the feature extractor of a folder; clips are cut where 95 % of the training clips end.

    Args:
        train: the training part.
        column: of the clips.
        options: `feature_extractor` names the folder, `clip_seconds` another length.
        most: clips whose length is looked at, evenly spaced.

    Raises:
        DataError: a clip that cannot be read.
        UsageError: there is no feature extractor, or a sample rate that is not its own.
    """
    folder = Path(str(options.feature_extractor)).expanduser()
    listening = read_listening(folder)
    rate = listening.sample_rate
    if options.sample_rate not in (None, rate):
        raise UsageError(
            f"sample_rate {options.sample_rate}: the feature extractor of {folder} takes {rate} Hz, to which "
            "clips are resampled; leave it out"
        )
    rows = np.unique(np.linspace(0, len(train) - 1, most).round().astype(np.int64))
    clips = clips_of(train.take(pa.array(rows)), column)
    seen, seconds = Counter[str](), []
    for clip in tracked(clips, total=len(rows), description="listening", show=options.progress):
        recording = clip.recording()
        seconds.append(len(recording.samples) / recording.sample_rate)
        seen["resampled"] += recording.sample_rate != rate
        seen["of several channels, averaged"] += recording.num_channels > 1
        seen["silent"] += not recording.samples.any()
    longest = options.clip_seconds or float(np.quantile(seconds, _COVERED))
    num_samples = max(1, int(np.ceil(longest * rate)))
    seen["cut"] = sum(one * rate > num_samples for one in seconds)
    kept = {what: count for what, count in sorted(seen.items()) if count}
    return HeardPreparation(listening, num_samples, folder.name, kept)


def read_heard(record: Mapping[str, Any]) -> HeardPreparation:
    """What `record` wrote."""
    listening = Listening(json.dumps(record["feature_extractor"], sort_keys=True))
    return HeardPreparation(listening, record["num_samples"], record["origin"], record["seen"])
