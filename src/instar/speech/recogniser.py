"""A trained recogniser: from recordings to words, and a folder that holds all that it needs."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from instar.errors import RunError
from instar.evaluation import predict_logits
from instar.files import load_tensors, write_bytes
from instar.networks import build_network, load_state_
from instar.speech.audio import Recording, resample
from instar.speech.corpus import Corpus, Utterance
from instar.speech.decoding import Decoder
from instar.speech.features import Features, FeatureSettings, Statistics, features_of, log_mel
from instar.speech.frames import LEFT, RIGHT, FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.viterbi import Path as StatePath

ABOUT, MODELS, NETWORK = "recogniser.json", "hmm.json", "network.safetensors"
FORMAT = 1
PRIOR_FRAMES = 50.0  # how many of an average speaker's frames a new speaker's statistics begin with


class Recognition(NamedTuple):
    """What was heard in a recording, and how long that took."""

    path: StatePath
    audio_seconds: float
    seconds: float

    @property
    def words(self) -> tuple[str, ...]:
        """What was said."""
        return self.path.words

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for each second of sound; below 1 it keeps up with a speaker."""
        return self.seconds / self.audio_seconds


@dataclass(frozen=True, eq=False)
class Recogniser:
    """Features, acoustic network, HMM, lexicon and grammar of one kind of recordings.

    Attributes:
        network: (batch, window * num_mels) to (batch, states).
        network_name: what it is built from, `mlp:256x3`.
        decoder: with the HMM, its lexicon and the grammar.
        features: how they are computed.
        statistics: of the filters: of all training frames (`global`), or of an average training speaker.
        sample_rate: in Hz; recordings of another rate are resampled.
        left: frames of context before the one that is told.
        right: frames after it.
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
        """The words of recordings that one speaker made in one place.

        Where the training normalised each speaker, mean and deviation of these recordings are taken together with
        `PRIOR_FRAMES` frames of an average speaker, so that one short word does not decide its own.

        Raises:
            DataError: a recording is shorter than a frame.
        """
        started = time.perf_counter()
        features = self.normalised(recordings)
        shared = (time.perf_counter() - started) / max(1, sum(map(len, features)))  # for each frame
        found = []
        for one, frames in zip(recordings, features, strict=True):
            started = time.perf_counter()
            path = self.decoder(self.scores(frames))
            seconds = time.perf_counter() - started + shared * len(frames)
            found.append(Recognition(path, len(one.samples) / one.sample_rate, seconds))
        return found

    def normalised(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Normalised features of recordings of one speaker: (frames, num_mels) of each.

        Raises:
            DataError: a recording is shorter than a frame.
        """
        raw = [
            log_mel(resample(one.samples, one.sample_rate, self.sample_rate), self.sample_rate, self.features)
            for one in recordings
        ]
        statistics = self._statistics(raw)
        return raw if statistics is None else [statistics.normalise(frames) for frames in raw]

    def scores(self, frames: Tensor) -> Tensor:
        """Acoustic scores of the normalised features of one recording: (frames, num_mels) to (frames, states)."""
        only = Utterance("recording", "speaker")
        features = Features(frames, (only,), (len(frames),), self.sample_rate, self.features)
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
        """Write it as JSON and safetensors; `recogniser.json` last, so that a folder that has it is whole."""
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
        """The recogniser in a folder that `save` wrote.

        Args:
            folder: RUN/recogniser of a training run.
            search: see `Decoder`.

        Raises:
            RunError: there is none, it is damaged, or a newer instar wrote it.
        """
        if not (folder / ABOUT).is_file():
            raise RunError(f"{folder} holds no recogniser: its training has not ended, or it is another run")
        try:
            about = json.loads((folder / ABOUT).read_text())
            if about["format"] > FORMAT:
                raise RunError(
                    f"{folder / ABOUT} has format {about['format']}, this instar reads {FORMAT}: update it"
                )
            hmm = HMM.load(folder / MODELS)
            settings, grammar = FeatureSettings(**about["features"]), Grammar.from_json(about["grammar"])
            left, right = about["context"]
            decoder = Decoder(hmm, grammar, **about["decoder"], search=search)
            name, sample_rate = str(about["network"]), int(about["sample_rate"])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise RunError(f"{folder / ABOUT} is damaged ({error}): train again") from error
        tensors, _ = load_tensors(folder / NETWORK)
        try:
            statistics = Statistics(tensors.pop("statistics.mean"), tensors.pop("statistics.std"))
        except KeyError as error:
            raise RunError(f"{folder / NETWORK} lacks {error}: train again") from error
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
        name: `mlp:2560x8` is the paper's, with 26 frames of 40 filters and 14,000 states.
        features: how they are computed.
        hmm: its states are the classes.
        left: frames of context before the one that is told.
        right: frames after it.

    Example:
        >>> from instar.speech.lexicon import digits_lexicon
        >>> network = state_network("mlp:64x2", FeatureSettings(), HMM.new(digits_lexicon()))
        >>> network(torch.zeros(1, 26 * 40)).shape
        torch.Size([1, 60])
    """
    shape = ((left + 1 + right) * features.num_mels,)
    return build_network(name, input_shape=shape, num_classes=len(hmm.state_names), seed=0)


def average_speaker(corpus: Corpus, settings: FeatureSettings) -> Statistics:
    """Mean over the speakers of their filters' means and deviations; with `global` normalisation of all frames."""
    raw = features_of(corpus, FeatureSettings(**{**asdict(settings), "normalisation": "none"}))
    if settings.normalisation == "global":
        return Statistics.of(raw.values)
    each = [
        Statistics.of(torch.cat([raw.of(one) for one in corpus.utterances if one.speaker == speaker]))
        for speaker in corpus.speakers
    ]
    return Statistics(
        torch.stack([one.mean for one in each]).mean(0), torch.stack([one.std for one in each]).mean(0)
    )
