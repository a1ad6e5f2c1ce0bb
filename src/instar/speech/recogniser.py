"""A trained recogniser: from recordings to words; saved in a folder with everything that it needs."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from instar.data.readers.audio import Recording, resample
from instar.errors import RunError
from instar.evaluation import predict_logits
from instar.files import load_tensors, write_bytes
from instar.networks import build_network, load_state_
from instar.speech.corpus import Corpus, Utterance
from instar.speech.decoding import Decoder
from instar.speech.features import Features, FeatureSettings, Statistics, features_of, log_mel
from instar.speech.frames import LEFT, RIGHT, FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.viterbi import Path as StatePath

ABOUT, MODELS, NETWORK = "recogniser.json", "hmm.json", "network.safetensors"
FORMAT = 1
PRIOR_FRAMES = 50.0  # weight of the average speaker in a new speaker's statistics, in frames


class Recognition(NamedTuple):
    """The recognised words of a recording, and how long recognition took."""

    path: StatePath
    audio_seconds: float
    seconds: float

    @property
    def words(self) -> tuple[str, ...]:
        """The recognised words."""
        return self.path.words

    @property
    def real_time_factor(self) -> float:
        """Computing time over the duration of the recording; below 1 is faster than real time."""
        return self.seconds / self.audio_seconds


@dataclass(frozen=True, eq=False)
class Recogniser:
    """Feature settings, acoustic network and decoder (HMM, lexicon, grammar).

    Attributes:
        network: from (batch, window * num_mels) to (batch, states).
        network_name: its architecture, such as `mlp:256x3`.
        decoder: with the HMM, its lexicon and the grammar.
        features: how features are computed.
        statistics: of the filters, over all training frames (`global`) or of an average training speaker.
        sample_rate: Hz; recordings at other rates are resampled.
        left: frames of context before the predicted frame.
        right: frames of context after it.
    """

    network: nn.Module
    network_name: str
    decoder: Decoder
    features: FeatureSettings
    statistics: Statistics
    sample_rate: int
    left: int = LEFT
    right: int = RIGHT

    @property
    def hmm(self) -> HMM:
        """The models and their lexicon."""
        return self.decoder.hmm

    def recognise(self, recordings: Sequence[Recording]) -> list[Recognition]:
        """Recognise recordings of one speaker in one recording condition.

        With normalisation by speaker, the mean and deviation of these recordings are smoothed with `PRIOR_FRAMES`
        frames of an average speaker, since a single short word gives poor estimates.

        Raises:
            DataError: a recording is shorter than a frame.
        """
        started = time.perf_counter()
        features = self.normalised(recordings)
        seconds_per_frame = (time.perf_counter() - started) / max(1, sum(map(len, features)))
        found = []
        for recording, frames in zip(recordings, features, strict=True):
            started = time.perf_counter()
            path = self.decoder(self.scores(frames))
            seconds = time.perf_counter() - started + seconds_per_frame * len(frames)
            found.append(Recognition(path, len(recording.samples) / recording.sample_rate, seconds))
        return found

    def normalised(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Normalised features, (frames, num_mels), of each of several recordings of one speaker.

        Raises:
            DataError: a recording is shorter than a frame.
        """
        resampled = (resample(one.samples, one.sample_rate, self.sample_rate) for one in recordings)
        raw = [log_mel(samples, self.sample_rate, self.features) for samples in resampled]
        statistics = self._statistics(raw)
        return raw if statistics is None else [statistics.normalise(frames) for frames in raw]

    def scores(self, frames: Tensor) -> Tensor:
        """Acoustic scores from the normalised features of a recording: (frames, num_mels) to (frames, states)."""
        utterance = Utterance("recording", "speaker")
        features = Features(frames, (utterance,), (len(frames),), self.sample_rate, self.features)
        data = FrameDataset(features, class_names=self.hmm.state_names, left=self.left, right=self.right)
        return acoustic_scores(predict_logits(self.network, data), self.hmm.log_priors)

    def _statistics(self, raw: Sequence[Tensor]) -> Statistics | None:
        if self.features.normalisation == "none" or not raw:
            return None
        if self.features.normalisation == "global":
            return self.statistics
        frames = torch.cat(list(raw))
        own, share = Statistics.of(frames), len(frames) / (len(frames) + PRIOR_FRAMES)
        return Statistics(
            torch.lerp(self.statistics.mean, own.mean, share), torch.lerp(self.statistics.std, own.std, share)
        )

    def save(self, folder: Path) -> None:
        """Write JSON and safetensors files; `recogniser.json` comes last, so a folder that has it is complete."""
        self.hmm.save(folder / MODELS)
        state = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        state |= {"statistics.mean": self.statistics.mean, "statistics.std": self.statistics.std}
        write_bytes(folder / NETWORK, save(state))
        about = {
            "format": FORMAT,
            "network": self.network_name,
            "features": asdict(self.features),
            "sample_rate": self.sample_rate,
            "context": [self.left, self.right],
            "decoder": self.decoder.settings,
            "grammar": self.decoder.grammar.to_json(),
        }
        write_bytes(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path, *, search: str = "auto") -> "Recogniser":
        """Read a recogniser written by `save`.

        Args:
            folder: RUN/recogniser of a training run.
            search: see `Decoder`.

        Raises:
            RunError: the folder has no recogniser, is damaged, or was written by a newer instar.
        """
        if not (folder / ABOUT).is_file():
            raise RunError(f"{folder} holds no recogniser: its training is not finished, or it is another run")
        try:
            about = json.loads((folder / ABOUT).read_text())
            if about["format"] > FORMAT:
                raise RunError(
                    f"{folder / ABOUT} has format {about['format']}, this instar reads {FORMAT}: update instar"
                )
            hmm = HMM.load(folder / MODELS)
            settings, grammar = FeatureSettings(**about["features"]), Grammar.from_json(about["grammar"])
            left, right = about["context"]
            decoder = Decoder(hmm, grammar, **about["decoder"], search=search)
            name, sample_rate = str(about["network"]), int(about["sample_rate"])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise RunError(f"{folder / ABOUT} is damaged ({error}): train the recogniser again") from error
        tensors, _ = load_tensors(folder / NETWORK)
        try:
            statistics = Statistics(tensors.pop("statistics.mean"), tensors.pop("statistics.std"))
        except KeyError as error:
            raise RunError(f"{folder / NETWORK} lacks {error}: train the recogniser again") from error
        network = state_network(name, settings, hmm, left=left, right=right)
        load_state_(network, tensors, name, str(folder / NETWORK))
        return cls(network.eval(), name, decoder, settings, statistics, sample_rate, left, right)


def state_network(
    name: str,
    features: FeatureSettings,
    hmm: HMM,
    *,
    left: int = LEFT,
    right: int = RIGHT,
) -> nn.Module:
    """A network from windows of features to the states of an HMM.

    Args:
        name: its architecture; the paper's is `mlp:2560x8`, with 26 frames of 40 filters and 14,000 states.
        features: how features are computed.
        hmm: its states are the classes.
        left: frames of context before the predicted frame.
        right: frames of context after it.

    Example:
        >>> from instar.speech.lexicon import digits_lexicon
        >>> network = state_network("mlp:64x2", FeatureSettings(), HMM.new(digits_lexicon()))
        >>> network(torch.zeros(1, 26 * 40)).shape
        torch.Size([1, 60])
    """
    shape = ((left + 1 + right) * features.num_mels,)
    return build_network(name, input_shape=shape, num_classes=len(hmm.state_names), seed=0)


def average_speaker(corpus: Corpus, settings: FeatureSettings) -> Statistics:
    """The mean over the speakers of their filters' means and deviations; over all frames if `global`."""
    raw = features_of(corpus, replace(settings, normalisation="none"))
    if settings.normalisation == "global":
        return Statistics.of(raw.values)
    speakers = [
        Statistics.of(torch.cat([raw.of(utterance) for utterance in corpus.of_speakers([speaker]).utterances]))
        for speaker in corpus.speakers
    ]
    return Statistics(
        torch.stack([speaker.mean for speaker in speakers]).mean(0),
        torch.stack([speaker.std for speaker in speakers]).mean(0),
    )
