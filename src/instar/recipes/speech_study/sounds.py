"""Recordings for the page: spectrogram, what was said and when, what was heard, and the sound itself."""

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instar.evaluation import predict_logits
from instar.recipes.fitting import load_run_network
from instar.recipes.speech_study.data import load_fold, load_recordings
from instar.reports import Audio, Section, Sound, Span, Track
from instar.runs import Run
from instar.speech.audio import wav_bytes
from instar.speech.connected import quiet_id
from instar.speech.corpus import Utterance
from instar.speech.decoding import Decoder
from instar.speech.features import log_mel
from instar.speech.grammar import Grammar
from instar.speech.hmm import acoustic_scores
from instar.speech.viterbi import Segment

if TYPE_CHECKING:
    from instar.recipes.speech_study.plan import Study


def sounds_of(study: "Study") -> list[Section]:
    """One string of the first fold's test speaker in every noise, as a distilled net hears it."""
    path = study.path / "jobs" / "fold-0"
    test = Run.read(path / "test")
    data = load_fold(study.config.data, 0, path / "alignment")
    network = load_run_network(path / test.config["same"]["distilled"] / "0")
    told = test.result()["metrics"]
    decoder = Decoder(
        data.hmm,
        Grammar.loop(data.hmm.lexicon.words),
        acoustic_scale=told["acoustic_scale"],
        word_penalty=told["word_penalty"],
    )
    corpus = load_recordings(study.config.data).test.noisy
    items = []
    for one in _shown(data.test.utterances):
        frames = data.test.of_utterances([one.id])
        states = frames.labels(frames.ids)
        heard = decoder(acoustic_scores(predict_logits(network, frames), data.hmm.log_priors))
        samples = corpus.audio(one)
        picture = spectrogram(log_mel(samples, corpus.sample_rate))
        caption = f"{one.speaker}, {one.condition}: “{' '.join(one.words)}”, heard as “{' '.join(heard.words)}”"
        tracks = [
            Track("states", state_spans(states, data.hmm.state_names)),
            Track("heard", word_spans(heard.segments, len(states))),
        ]
        items.append(Sound(wav_bytes(samples, corpus.sample_rate), caption, picture, tracks))
    return [
        Audio(
            "To be seen and heard",
            items,
            caption="40 mel filters over time, low ones at the bottom. Under them the units that the alignment "
            "tells, and the words of a distilled net that has never heard this speaker.",
        )
    ]


def _shown(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The first string of about five words, in up to three noises."""
    strings: dict[str, list[Utterance]] = {}
    for one in utterances:
        strings.setdefault(quiet_id(one), []).append(one)
    return min(strings.values(), key=lambda several: abs(len(several[0].words) - 5))[:3]


def spectrogram(features: Tensor) -> NDArray[np.uint8]:
    """Features as a picture: time from left to right, low filters at the bottom, much energy dark.

    Args:
        features: (frames, filters).

    Returns: (filters, frames) uint8.

    Example:
        >>> import torch
        >>> spectrogram(torch.tensor([[0.0, 1.0], [2.0, 4.0]])).tolist()
        [[191, 0], [255, 127]]
    """
    values = features.numpy().T[::-1]
    low, high = np.percentile(values, [1, 99.8]) if values.size > 100 else (values.min(), values.max())
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    pixels: NDArray[np.uint8] = (255 - 255 * scaled).astype(np.uint8)
    return pixels


def state_spans(states: Tensor, names: Sequence[str]) -> list[Span]:
    """Runs of the same unit as spans, without a word where it is silence."""
    units = [names[state].rpartition("-")[0] for state in states.tolist()]
    begins = [0, *(place for place in range(1, len(units)) if units[place] != units[place - 1]), len(units)]
    return [
        Span(units[begin], begin / len(units), end / len(units))
        for begin, end in itertools.pairwise(begins)
        if units[begin] != "sil"
    ]


def word_spans(segments: Iterable[Segment], num_frames: int) -> list[Span]:
    """Words heard, as spans."""
    return [Span(one.word, one.begin / num_frames, one.end / num_frames) for one in segments]
