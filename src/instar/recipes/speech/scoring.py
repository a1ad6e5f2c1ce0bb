"""Networks scored on recordings: word errors and frame accuracy."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from instar import metrics
from instar.evaluation import predict_logits
from instar.speech.corpus import transcripts_of
from instar.speech.decoding import Decoder, decode
from instar.speech.frames import FrameDataset
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.scoring import WordErrors, word_errors


class Score(NamedTuple):
    """The errors of a network, or of an ensemble's mean probabilities."""

    words: WordErrors
    num_right: list[int]
    """correct frames of each utterance"""
    frame_accuracy: float
    """of the labelled frames, percent"""


def score(networks: Sequence[nn.Module], frames: FrameDataset, decoder: Decoder) -> Score:
    """Decode utterances, and compare words and states with their transcripts and labels."""
    logits, labels = mean_log_probs(networks, frames), frames.labels(frames.ids)
    found = decode(decoder, scores_by_utterance(frames, logits, decoder.hmm))
    return Score(
        word_errors(transcripts_of(frames.utterances), found),
        [int(part.sum()) for part in _split(frames, logits.argmax(-1) == labels)],
        100 * metrics.accuracy(logits, labels),
    )


def mean_log_probs(networks: Sequence[nn.Module], frames: FrameDataset) -> Tensor:
    """The logarithm of the mean of the networks' probabilities, up to a constant: (frames, states)."""
    return torch.stack([predict_logits(one, frames).log_softmax(-1) for one in networks]).logsumexp(0)


def scores_by_utterance(frames: FrameDataset, logits: Tensor, hmm: HMM) -> dict[str, Tensor]:
    """The acoustic scores of each utterance, (frames, states), from the logits of all its frames."""
    parts = _split(frames, acoustic_scores(logits, hmm.log_priors))
    return {utterance.id: part for utterance, part in zip(frames.utterances, parts, strict=True)}


def _split(frames: FrameDataset, values: Tensor) -> tuple[Tensor, ...]:
    """Values of all frames, split into those of each utterance."""
    return torch.split(values, [len(frames.features.of(utterance)) for utterance in frames.utterances])
