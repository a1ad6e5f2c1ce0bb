"""Networks of transformers that hear sounds themselves, with the feature extractor that they were trained with."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.listening import Listening, listening_of
from instar.networks.logits import as_logits
from instar.structures import form_in_words


class SoundReader(nn.Module):
    """A network together with its feature extractor: it takes sounds, in the place of what another one makes.

    Each clip is heard by itself, at its own length: nothing is appended to it.

    Args:
        network: takes what the feature extractor makes.
        listening: its feature extractor.
        name: for messages.
    """

    hears_sound = True

    def __init__(self, network: nn.Module, listening: Listening, name: str) -> None:
        super().__init__()
        self.network, self.listening, self.name = network, listening, name
        self.sample_rate = listening.sample_rate

    def forward(self, sound: Tensor, num_samples: Tensor) -> Tensor:
        """Logits of clips, (batch, samples) at `sample_rate` and how many each has; 0 stands for all."""
        lengths = [number or sound.shape[1] for number in num_samples.tolist()]
        clips = [row[:length].float().cpu().numpy() for row, length in zip(sound, lengths, strict=True)]
        features = [self.listening.features(clip).to(sound) for clip in clips]
        alike = [torch.stack([*some]) for _, some in groupby(features, lambda one: one.shape)]
        return torch.cat([as_logits(self.network(some), self.network) for some in alike])


def with_own_extractor(
    network: nn.Module, spec: str, files: Mapping[str, str], form: Mapping[str, Any] | None, *, is_used: bool
) -> nn.Module:
    """A network of sounds; where the data is not what its feature extractor makes, one that hears the sounds.

    Args:
        network: of a folder.
        spec: what errors call it.
        files: that describe it, by name.
        form: of the data, where it is what a feature extractor makes.
        is_used: whether it is used as it is, not trained.

    Raises:
        UsageError: it has no feature extractor, or is to be trained on something else than it makes.
    """
    listening = listening_of(files, where=spec)
    cure = f"--feature-extractor {spec.partition(':')[2].partition('@')[0]} (data.feature_extractor)"
    # Another feature extractor is known by the shape of what it makes; of one shape `recipes.loading` refuses it.
    made = listening.features(np.zeros(listening.sample_rate, np.float32)).shape
    there = None if form is None else form.get(listening.input_name)
    if there is None or (len(there), *there[1:]) != (len(made), *made[1:]):
        if is_used:
            return SoundReader(network, listening, spec)
        found = "filterbanks" if form is None else form_in_words(form)
        raise UsageError(
            f"{spec} is trained on what its own feature extractor makes of clips, and the examples are {found}: "
            f"name it, {cure}"
        )
    network.heard_with = listening.name  # type: ignore[assignment]
    return network
