"""Frames with their context as a data set: each frame is an example, its window is gathered on demand."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from instar.data import Dataset
from instar.data.hashing import keyed_hash
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.speech.corpus import Utterance
from instar.speech.features import Features

LEFT, RIGHT = 20, 5  # the paper's window: 26 frames; the network predicts the state of the 21st


class FrameDataset(Dataset):
    """The frames of a corpus: the input is a window of features, the label the HMM state of the predicted frame.

    Only the features are kept in memory (or memory-mapped); the overlapping windows are gathered batch by batch.
    At the edges of an utterance its first or last frame is repeated.

    Args:
        features: of the corpus.
        alignment: (frames,) state numbers by utterance id; utterances that are not in it have no labels.
        class_names: names of the states.
        left: frames of context before the predicted frame.
        right: frames of context after it.

    Raises:
        DataError: an alignment differs in length from its utterance, or a state has no name.
        UsageError: an aligned utterance has no features, or the context is negative.

    Example:
        >>> from instar.speech.features import FeatureSettings
        >>> frames = torch.arange(4.0)[:, None]
        >>> features = Features(frames, (Utterance("a", "ann"),), (4,), 8000, FeatureSettings(num_mels=1))
        >>> states = {"a": torch.tensor([0, 0, 1, 1])}
        >>> data = FrameDataset(features, states, class_names=["x", "y"], left=2, right=1)
        >>> data.gather(data.ids, 0).int().tolist()
        [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3]]

    References:
        Hinton, Vinyals, Dean 2015, section 4: 26 frames of 40 filters, the 21st is predicted.
    """

    in_memory = True

    def __init__(
        self,
        features: Features,
        alignment: Mapping[str, Tensor] | None = None,
        *,
        class_names: Sequence[str],
        left: int = LEFT,
        right: int = RIGHT,
    ) -> None:
        if left < 0 or right < 0:
            raise UsageError(f"the context is {left} frames before and {right} after; expected at least 0")
        super().__init__(
            frame_ids(features),
            _labels(features, alignment or {}),
            class_names=class_names,
            example_shape=((left + 1 + right) * features.values.shape[1],),
        )
        self.features = features
        self._utterances = {utterance.id: utterance for utterance in features.utterances}
        self._all_ids = self.ids  # of all rows of the features, in any subset
        lengths = torch.tensor(features.lengths)
        ends = lengths.cumsum(0)
        self._values = features.values
        self._first = (ends - lengths).repeat_interleave(lengths)
        self._last = (ends - 1).repeat_interleave(lengths)
        self._offsets = torch.arange(-left, right + 1)

    def raw(self, rows: Tensor) -> Tensor:
        """The windows around the given frames: (batch, window * num_mels) float32."""
        # index_select and one clamp take a tenth less time than plain indexing (benchmarks/speech.py).
        first, last = (ends.index_select(0, rows)[:, None] for ends in (self._first, self._last))
        places = torch.clamp(rows[:, None] + self._offsets, first, last)
        return self._values.index_select(0, places.view(-1)).view(len(rows), -1)

    def to(self, device: torch.device | str) -> Self:
        """The same frames in the memory of another device."""
        device = torch.empty(0, device=device).device
        if device == self._values.device:
            return self
        moved = self._move(device, "_values", "_first", "_last", "_offsets", "_labels")
        moved._index(self.ids.to(device), self.rows(self.ids).to(device))
        return moved

    def of_utterances(self, utterances: Collection[str]) -> Self:
        """The frames of the utterances with the given ids; features are shared, not copied.

        Raises:
            UsageError: no utterance is given, or one is not in this data set.
        """
        for name in utterances:
            if name not in self._utterances:
                raise UsageError(f"utterance {name!r} is not in this data set")
        if not utterances:
            raise UsageError("of_utterances: no utterance is given; a data set has at least one")
        rows = torch.cat([torch.arange(*self.features.places[name]) for name in utterances])
        part = self.subset(self._all_ids[rows])
        part._utterances = {name: self._utterances[name] for name in utterances}
        return part

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """All utterances, or those chosen with `of_utterances`, in the order of the frames."""
        return tuple(self._utterances.values())


def frame_ids(features: Features) -> Tensor:
    """(frames,) int64, each hashed from its utterance's id and features and its position in the utterance.

    A frame has the same id in every subset and in every order of the corpus.
    """
    values = features.values.numpy()
    parts = []
    for utterance in features.utterances:
        start, end = features.places[utterance.id]
        digest = hashlib.blake2b(utterance.id.encode(), digest_size=8)
        digest.update(np.ascontiguousarray(values[start:end]).data)
        key = int.from_bytes(digest.digest(), "little", signed=True)
        parts.append(keyed_hash(0, torch.full((end - start,), key), torch.arange(end - start)))
    return torch.cat(parts)


def _labels(features: Features, alignment: Mapping[str, Tensor]) -> Tensor:
    labels = torch.full((len(features.values),), NO_LABEL)
    for name, states in alignment.items():
        if name not in features.places:
            raise UsageError(f"the alignment contains utterance {name!r}, which has no features")
        start, end = features.places[name]
        if states.shape != (end - start,):
            raise DataError(
                f"utterance {name!r} has {end - start} frames, its alignment has shape {tuple(states.shape)}"
            )
        labels[start:end] = states
    return labels
