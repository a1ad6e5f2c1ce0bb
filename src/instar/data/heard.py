"""The examples as a network that hears sounds itself sees them (`hears_sound`)."""

from typing import Self

import numpy as np
import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.sounds import Sounds, clips_of
from instar.structures import NUM_SAMPLES, SOUND, Inputs, up_to


class SoundsAlone(Dataset):
    """The samples of the sounds of a data set: {"sound": (batch, samples), "num_samples": (batch,)}.

    Args:
        data: with `sounds`.
        sample_rate: Hz, to which they are resampled.
    """

    in_memory = True

    def __init__(self, data: Dataset, sample_rate: int) -> None:
        assert data.sounds is not None
        self.sounds: Sounds = data.sounds.take(data.rows(data.ids))
        self.sample_rate = sample_rate
        super().__init__(
            data.ids,
            data.labels(data.ids),
            class_names=data.class_names,
            example_shape={SOUND: (up_to(sample_rate),), NUM_SAMPLES: ("int64",)},
        )

    def raw(self, rows: Tensor) -> Inputs:
        """The samples of some examples, with zeros behind the end of the shorter ones."""
        some = self.sounds.take(rows)
        found = [clip.samples(self.sample_rate) for clip in clips_of(some.table, some.column)]
        lengths = torch.tensor([len(one) for one in found])
        padded = np.zeros((len(found), int(lengths.max())), np.float32)
        for row, samples in enumerate(found):
            padded[row, : len(samples)] = samples
        device = self.ids.device
        return {SOUND: torch.from_numpy(padded).to(device), NUM_SAMPLES: lengths.to(device)}

    def to(self, device: torch.device | str) -> Self:
        """The data set with ids and labels on another device."""
        device = torch.empty(0, device=device).device
        moved = self._move(device, "_labels")
        moved._index(self.ids.to(device), self.rows(self.ids).to(device))
        return moved
