"""From acoustic scores to words: one face for Kaldi's decoder and the built-in search."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.naming import unknown_name
from instar.speech import wfst
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM
from instar.speech.viterbi import Path, viterbi

SEARCHES = ("auto", "kaldi", "viterbi")
_AT_ONCE = 64  # recordings that the built-in search takes together: 4.5 ms each, one by one 55 ms


class Decoder:
    """The words of a recording, by the best path through what a grammar can say.

    best path = argmax of  acoustic_scale * sum_t score_t(state) + log P(path) - word_penalty * (number of words)

    Args:
        hmm: models and lexicon.
        grammar: which words may follow which.
        acoustic_scale: frames depend on each other, so their scores count less than the sum says.
        word_penalty: nats for each word; higher makes fewer words.
        silence_probability: of silence before, between and after the words.
        search: `kaldi` (kaldifst and kaldi-decoder), `viterbi` (the built-in one), `auto` (the first where it is
            installed).
        beam: of Kaldi's search, nats.

    Raises:
        UsageError: an unknown search, one that is not installed, or a scale that is not above 0.
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
        """What decides its paths beside models and grammar; arguments of another one like it."""
        names = ("acoustic_scale", "word_penalty", "silence_probability", "beam")
        return {name: getattr(self, name) for name in names}

    def __call__(self, scores: Tensor) -> Path:
        """The best path of one recording.

        Args:
            scores: (frames, states), nats; `acoustic_scores` of a network, or log likelihoods.

        Returns:
            The path; one without words and frames, of score -inf, where the recording is too short for any.

        Raises:
            UsageError: scores of another number of states, or NaN.
        """
        if self.search == "viterbi":
            return self.together([scores])[0]
        self._check(scores)
        return (self._kaldi(scores * self.acoustic_scale) if len(scores) else None) or _no_path()

    def together(self, scores: Sequence[Tensor]) -> list[Path]:
        """The best paths of several recordings, by the built-in search for all at once.

        Args:
            scores: (frames, states) each; the same as for one.

        Raises:
            UsageError: as for one, or this decoder's search is Kaldi's.
        """
        if self.search != "viterbi":
            raise UsageError(f"search {self.search!r} takes one recording at a time; take 'viterbi'")
        for one in scores:
            self._check(one)
        told = [one * self.acoustic_scale for one in scores if len(one)]
        if not told:
            return [_no_path() for _ in scores]
        padded = torch.nn.utils.rnn.pad_sequence(told, batch_first=True)
        paths = iter(viterbi(padded, self._graph, [len(one) for one in told]))
        return [(next(paths) if len(one) else None) or _no_path() for one in scores]

    def _check(self, scores: Tensor) -> None:
        if scores.dim() != 2 or scores.shape[1] != len(self.hmm.state_names):
            raise UsageError(
                f"scores should be (frames, {len(self.hmm.state_names)} states), found {tuple(scores.shape)}"
            )
        if bool(scores.isnan().any()):
            raise UsageError("acoustic scores hold NaN: the network or its input is damaged")


def _no_path() -> Path:
    return Path(torch.zeros(0, dtype=torch.int64), (), -math.inf)


def decode(decoder: Decoder, scores: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """The words of many recordings, by id; the built-in search takes those of similar length together."""
    if decoder.search == "kaldi":
        return {name: decoder(frames).words for name, frames in scores.items()}
    names = sorted(scores, key=lambda name: len(scores[name]))
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(names), _AT_ONCE):
        several = names[start : start + _AT_ONCE]
        paths = decoder.together([scores[name] for name in several])
        found |= {name: path.words for name, path in zip(several, paths, strict=True)}
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
    """The decoder whose scale and penalty make the fewest word errors on validation recordings.

    Of several that make as few, the one of the least deviation from scale 1 and penalty 0.

    Args:
        hmm: models and lexicon.
        grammar: which words may follow which.
        scores: of validation recordings, by id; never of test recordings.
        transcripts: their words.
        acoustic_scales: to try.
        word_penalties: to try.
        search: see `Decoder`.
    """
    from instar.speech.scoring import word_errors

    tried: list[tuple[float, float, float, Decoder]] = []
    for scale in acoustic_scales:
        for penalty in word_penalties:
            decoder = Decoder(hmm, grammar, acoustic_scale=scale, word_penalty=penalty, search=search)
            errors = word_errors({name: transcripts[name] for name in scores}, decode(decoder, scores)).errors
            tried.append((errors, abs(math.log(scale)), abs(penalty), decoder))
    return min(tried, key=lambda one: one[:3])[3]
