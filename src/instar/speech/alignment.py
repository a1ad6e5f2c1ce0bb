"""Forced alignment: the HMM state of each frame when the words are known; training from a flat start."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instar.errors import DataError, UsageError
from instar.speech.gaussians import DiagonalGaussians
from instar.speech.grammar import Grammar
from instar.speech.graph import Graph, compile_graph
from instar.speech.hmm import HMM
from instar.speech.viterbi import Segment, viterbi

BATCH_SIZE = 64  # utterances of similar length, aligned together
ITERATIONS = 12  # of Viterbi training; on digits the likelihood hardly rises after ten

Transcripts = Mapping[str, Sequence[str]]
"""The words of each utterance, by its id."""

Scores = Callable[[str], Tensor]
"""From an utterance's id to its (frames, states) log likelihoods: of Gaussians, or scaled ones of a network."""


@dataclass(frozen=True)
class Alignment:
    """The states of all frames of some utterances.

    Attributes:
        states: (frames,) int64 by utterance id.
        segments: the words with their first and last frames, by utterance id.
        skipped: the reason why an utterance could not be aligned, by its id.
        log_likelihood: mean over the frames of the best paths' log likelihood, nats.
    """

    states: Mapping[str, Tensor]
    segments: Mapping[str, tuple[Segment, ...]]
    skipped: Mapping[str, str]
    log_likelihood: float

    @property
    def summary(self) -> str:
        """The number of aligned utterances, and the first three skipped ones with their reasons."""
        if not self.skipped:
            return f"{len(self.states)} utterances aligned"
        named = [f"{name} ({reason})" for name, reason in list(self.skipped.items())[:3]]
        more = ", ..." if len(self.skipped) > len(named) else ""
        return f"{len(self.states)} utterances aligned, {len(self.skipped)} skipped: {', '.join(named)}{more}"


def align(hmm: HMM, transcripts: Transcripts, scores: Scores, *, silence_probability: float = 0.5) -> Alignment:
    """Align each utterance with its words: the best path through the states of these words.

    Args:
        hmm: models and lexicon.
        transcripts: words by utterance; an empty transcript is aligned with silence.
        scores: gives the (frames, states) log likelihoods of an utterance.
        silence_probability: probability of silence before, between and after the words.

    Returns:
        The alignment; an utterance that is too short for its words is in `skipped`.

    Raises:
        DataError: a word is not in the lexicon, or no utterance can be aligned.

    Example:
        >>> from instar.speech.lexicon import Lexicon
        >>> hmm = HMM.new(Lexicon.of_words(["a"]), states_of_word=2, states_of_silence=1)
        >>> frames = torch.eye(3)[[1, 1, 1, 2, 2]].log().clamp(min=-9)
        >>> align(hmm, {"u1": ("a",)}, {"u1": frames}.__getitem__).states["u1"].tolist()
        [1, 1, 1, 2, 2]

    References:
        Rabiner 1989, section III.B.
    """
    check_words(hmm, transcripts)
    graphs: dict[tuple[str, ...], Graph] = {}
    states: dict[str, Tensor] = {}
    segments: dict[str, tuple[Segment, ...]] = {}
    skipped: dict[str, str] = {}
    total, num_frames = 0.0, 0
    for names in _batches(transcripts):
        batch: list[tuple[str, Tensor, Graph]] = []
        for name in names:
            words, frames = tuple(transcripts[name]), scores(name)
            reason = too_short(hmm, words, len(frames))
            if reason:
                skipped[name] = reason
                continue
            if words not in graphs:
                grammar = Grammar.sequence(words)
                graphs[words] = compile_graph(hmm, grammar, silence_probability=silence_probability)
            batch.append((name, frames, graphs[words]))
        if not batch:
            continue
        lengths = [len(frames) for _, frames, _ in batch]
        padded = torch.nn.utils.rnn.pad_sequence([frames for _, frames, _ in batch], batch_first=True)
        paths = viterbi(padded, [graph for *_, graph in batch], lengths)
        for (name, frames, _), path in zip(batch, paths, strict=True):
            if path is None:
                skipped[name] = "no path through its words"
                continue
            states[name], segments[name] = path.states, path.segments
            total, num_frames = total + path.score, num_frames + len(frames)
    if not states:
        name, reason = next(iter(skipped.items()), ("none", "there is no utterance"))
        raise DataError(f"no utterance can be aligned: {name}: {reason}")
    return Alignment(states, segments, skipped, total / num_frames)


def check_words(hmm: HMM, transcripts: Transcripts) -> None:
    """Check that the lexicon has every word.

    Raises:
        DataError: a word is missing; names the first one and its utterance.
    """
    known = set(hmm.lexicon.words)
    for name, words in transcripts.items():
        for word in words:
            if word not in known:
                try:
                    hmm.lexicon.pronunciations(word)
                except DataError as error:
                    raise DataError(f"utterance {name}: {error}") from None


def too_short(hmm: HMM, words: Sequence[str], num_frames: int) -> str:
    """The reason why an utterance is too short for its words; empty if it is long enough."""
    needed = hmm.num_frames(words) if words else hmm.num_states[hmm.lexicon.silence]
    return f"{num_frames} frames, its words need {needed}" if num_frames < needed else ""


def flat_start(
    hmm: HMM,
    features: Mapping[str, Tensor],
    transcripts: Transcripts,
    *,
    num_iterations: int = ITERATIONS,
    silence_probability: float = 0.5,
    progress: Callable[[int, Alignment], None] | None = None,
) -> tuple[HMM, DiagonalGaussians, Alignment]:
    """Train Gaussian models from transcripts without times, by Viterbi training (segmental k-means).

    At first all states of an utterance get equal shares of its frames. Each iteration then fits Gaussians and
    transition probabilities to the alignment and aligns again with them.

    Args:
        hmm: untrained models (`HMM.new`).
        features: (frames, features) by utterance; diagonal Gaussians fit `cepstra` better than log-mels.
        transcripts: words by utterance.
        num_iterations: number of iterations.
        silence_probability: probability of silence before, between and after the words.
        progress: called with the number of an iteration and its alignment.

    Returns:
        The models with transition probabilities and priors, the Gaussians, and the last alignment.

    Raises:
        DataError: as for `align`.
        UsageError: num_iterations is below 1.

    References:
        Rabiner, Juang, Levinson 1986: segmental k-means.
    """
    if num_iterations < 1:
        raise UsageError(f"num_iterations is {num_iterations}, expected at least 1")
    check_words(hmm, transcripts)
    usable = {name: words for name, words in transcripts.items() if not too_short(hmm, words, len(features[name]))}
    states = {name: equal_shares(hmm, words, len(features[name])) for name, words in usable.items()}
    if not states:
        raise DataError("no utterance is long enough for its words")
    num_states = len(hmm.state_names)
    for number in range(num_iterations + 1):
        gaussians = DiagonalGaussians.fit((features[name] for name in states), states.values(), num_states)
        hmm = hmm.estimated(states.values())
        if number == num_iterations:
            break
        scores = functools.partial(_likelihoods, gaussians, features)
        alignment = align(hmm, transcripts, scores, silence_probability=silence_probability)
        states = dict(alignment.states)
        if progress is not None:
            progress(number + 1, alignment)
    return hmm, gaussians, alignment


def _likelihoods(gaussians: DiagonalGaussians, features: Mapping[str, Tensor], name: str) -> Tensor:
    return gaussians.log_likelihoods(features[name])


def equal_shares(hmm: HMM, words: Sequence[str], num_frames: int) -> Tensor:
    """The states of an utterance if all last equally long: silence, words, silence.

    The silence is left out if the utterance is too short for it.

    Returns: (frames,) int64.

    Example:
        >>> from instar.speech.lexicon import Lexicon
        >>> hmm = HMM.new(Lexicon.of_words(["a"]), states_of_word=2, states_of_silence=1)
        >>> equal_shares(hmm, ("a",), 8).tolist()
        [0, 0, 1, 1, 2, 2, 0, 0]
    """

    def fewest(word: str) -> list[int]:
        return min((hmm.states_of(way.units) for way in hmm.lexicon.pronunciations(word)), key=len)

    spoken = [state for word in words for state in fewest(word)]
    silence = hmm.states_of([hmm.lexicon.silence])
    around = [*silence, *spoken, *silence]
    passed = torch.tensor(around if len(around) <= num_frames or not spoken else spoken)
    places = torch.arange(num_frames) * len(passed) // num_frames
    return passed[places]


def _batches(transcripts: Transcripts) -> Iterable[list[str]]:
    """Batches of utterances with similar numbers of words, whose graphs and lengths are similar."""
    names = sorted(transcripts, key=lambda name: (len(transcripts[name]), name))
    return (names[start : start + BATCH_SIZE] for start in range(0, len(names), BATCH_SIZE))
