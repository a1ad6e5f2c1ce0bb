"""From acoustic scores to words, with Kaldi's decoder or the built-in Viterbi search."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.speech import wfst
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM
from instar.speech.scoring import word_errors
from instar.speech.viterbi import Path, viterbi

SEARCHES = ("auto", "kaldi", "viterbi")
_BATCH_SIZE = 64  # recordings in one built-in search: 4.5 ms each, against 55 ms one by one


class Decoder:
    """Finds the most probable words of a recording among those that a grammar allows.

    best path = argmax of  acoustic_scale * sum_t score_t(state) + log P(path) - word_penalty * (number of words)

    Args:
        hmm: models and lexicon.
        grammar: which words may follow which.
        acoustic_scale: factor on the acoustic scores; below 1, since neighbouring frames are not independent.
        word_penalty: nats for each word; a higher penalty gives fewer words.
        silence_probability: probability of silence before, between and after the words.
        search: `kaldi` (kaldifst and kaldi-decoder), `viterbi` (built in), or `auto` (Kaldi's if it is installed).
        beam: beam of Kaldi's search, nats.

    Raises:
        UsageError: the search is unknown or not installed, or the scale is not above 0.
        DataError: a word of the grammar is not in the lexicon.

    Example:
        >>> from instar.speech.lexicon import Lexicon
        >>> hmm = HMM.new(Lexicon.of_words(["no", "yes"]), states_of_word=1, states_of_silence=1)
        >>> decoder = Decoder(hmm, Grammar.loop(["no", "yes"]), search="viterbi")
        >>> decoder(torch.eye(3)[[1, 1, 0, 2]].add(1e-3).log()).words
        ('no', 'yes')
    """

    def __init__(
        self,
        hmm: HMM,
        grammar: Grammar,
        *,
        acoustic_scale: float = 1.0,
        word_penalty: float = 0.0,
        silence_probability: float = 0.5,
        search: str = "auto",
        beam: float = 40.0,
    ) -> None:
        if search not in SEARCHES:
            raise unknown_name("search", search, SEARCHES)
        if not 0 < acoustic_scale < math.inf:
            raise UsageError(f"acoustic_scale is {acoustic_scale}, expected a number above 0")
        self.hmm, self.grammar = hmm, grammar
        self.acoustic_scale, self.word_penalty = acoustic_scale, word_penalty
        self.silence_probability, self.beam = silence_probability, beam
        self.search = ("kaldi" if wfst.is_available() else "viterbi") if search == "auto" else search
        options = {"silence_probability": silence_probability, "word_penalty": word_penalty}
        if self.search == "kaldi":
            self._kaldi = wfst.WfstDecoder(hmm, grammar, **options, beam=beam)
        else:
            self._graph = compile_graph(hmm, grammar, **options)

    @property
    def settings(self) -> dict[str, float]:
        """The keyword arguments, without `search`, that make an equal decoder."""
        names = ("acoustic_scale", "word_penalty", "silence_probability", "beam")
        return {name: getattr(self, name) for name in names}

    def __call__(self, scores: Tensor) -> Path:
        """The best path of one recording.

        Args:
            scores: (frames, states), nats; `acoustic_scores` of a network, or log likelihoods.

        Returns:
            The path; if the recording is too short for any, one with no words, no frames and score -inf.

        Raises:
            UsageError: the scores have the wrong number of states or are NaN.
        """
        if self.search == "viterbi":
            return self.decode_batch([scores])[0]
        self._check(scores)
        return (self._kaldi(scores * self.acoustic_scale) if len(scores) else None) or _no_path()

    def decode_batch(self, scores: Sequence[Tensor]) -> list[Path]:
        """The best paths of several recordings, searched in one batch (built-in search only).

        Args:
            scores: (frames, states) of each recording, nats.

        Raises:
            UsageError: scores are wrong as for a single recording, or this decoder's search is Kaldi's.
        """
        if self.search != "viterbi":
            raise UsageError(f"search {self.search!r} decodes one recording at a time; use 'viterbi' for batches")
        for frames in scores:
            self._check(frames)
        scaled = [frames * self.acoustic_scale for frames in scores if len(frames)]
        if not scaled:
            return [_no_path() for _ in scores]
        padded = torch.nn.utils.rnn.pad_sequence(scaled, batch_first=True)
        paths = iter(viterbi(padded, self._graph, [len(frames) for frames in scaled]))
        return [(next(paths) if len(frames) else None) or _no_path() for frames in scores]

    def _check(self, scores: Tensor) -> None:
        if scores.dim() != 2 or scores.shape[1] != len(self.hmm.state_names):
            raise UsageError(
                f"scores should be (frames, {len(self.hmm.state_names)} states), found {tuple(scores.shape)}"
            )
        if bool(scores.isnan().any()):
            raise UsageError("acoustic scores contain NaN: the network or its input is damaged")


def _no_path() -> Path:
    return Path(torch.zeros(0, dtype=torch.int64), (), -math.inf)


def decode(decoder: Decoder, scores: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """The words of recordings by id; the built-in search decodes batches of similar lengths."""
    if decoder.search == "kaldi":
        return {name: decoder(frames).words for name, frames in scores.items()}
    names = sorted(scores, key=lambda name: len(scores[name]))
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(names), _BATCH_SIZE):
        batch = names[start : start + _BATCH_SIZE]
        paths = decoder.decode_batch([scores[name] for name in batch])
        found |= {name: path.words for name, path in zip(batch, paths, strict=True)}
    return {name: found[name] for name in scores}


def tune_decoder(
    hmm: HMM,
    grammar: Grammar,
    scores: Mapping[str, Tensor],
    transcripts: Mapping[str, Sequence[str]],
    *,
    acoustic_scales: Sequence[float] = (0.1, 0.3, 1.0),
    word_penalties: Sequence[float] = (0.0, 5.0, 10.0, 20.0),
    search: str = "auto",
) -> Decoder:
    """The decoder whose scale and penalty give the fewest word errors on validation recordings.

    Takes the arguments of `try_decoders`.
    """
    candidates = {"acoustic_scales": acoustic_scales, "word_penalties": word_penalties}
    return try_decoders(hmm, grammar, scores, transcripts, search=search, **candidates)[0].decoder


class TriedDecoder(NamedTuple):
    """A decoder and its number of word errors on validation recordings."""

    decoder: Decoder
    errors: int


def try_decoders(
    hmm: HMM,
    grammar: Grammar,
    scores: Mapping[str, Tensor],
    transcripts: Mapping[str, Sequence[str]],
    *,
    acoustic_scales: Sequence[float] = (0.1, 0.3, 1.0),
    word_penalties: Sequence[float] = (0.0, 5.0, 10.0, 20.0),
    search: str = "auto",
) -> list[TriedDecoder]:
    """Decoders with all combinations of scale and penalty, the one with the fewest word errors first.

    Ties go to the scale closest to 1, then to the penalty closest to 0.

    Args:
        hmm: models and lexicon.
        grammar: which words may follow which.
        scores: acoustic scores of the validation recordings, by id.
        transcripts: their words.
        acoustic_scales: candidates.
        word_penalties: candidates.
        search: see `Decoder`.
    """
    reference = {name: transcripts[name] for name in scores}
    tried = []
    for scale in acoustic_scales:
        for penalty in word_penalties:
            decoder = Decoder(hmm, grammar, acoustic_scale=scale, word_penalty=penalty, search=search)
            tried.append(TriedDecoder(decoder, word_errors(reference, decode(decoder, scores)).errors))
    return sorted(tried, key=_preference)


def _preference(tried: TriedDecoder) -> tuple[int, float, float]:
    return tried.errors, abs(math.log(tried.decoder.acoustic_scale)), abs(tried.decoder.word_penalty)
