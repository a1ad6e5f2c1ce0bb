"""The decoding graph as a weighted transducer H o min(det(L o G)), searched by Kaldi's decoder.

Input labels are state + 1 (0 is epsilon), output labels word + 1. Words with a common prefix share its nodes,
unlike in the table of `graph.compile_graph`: this is the search for large lexicons.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.errors import UsageError
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM, log_or_minus_inf
from instar.speech.viterbi import Path, Segment, viterbi

EPSILON = 0


def is_available() -> bool:
    """Whether kaldifst and kaldi-decoder are installed."""
    from importlib.util import find_spec

    return find_spec("kaldifst") is not None and find_spec("kaldi_decoder") is not None


def _kaldi() -> tuple[Any, Any]:
    try:
        import kaldi_decoder
        import kaldifst
    except ImportError:
        raise UsageError("Kaldi's decoder is not installed: pip install 'instar[speech]'") from None
    return kaldifst, kaldi_decoder


class WfstDecoder:
    """Kaldi's beam search over the transducer of a grammar; it allows the same paths as `graph.compile_graph`.

    Args:
        hmm: models and lexicon.
        grammar: which words may follow which.
        silence_probability: probability of silence before, between and after the words.
        word_penalty: subtracted from the log probability of each word, nats.
        beam: paths this many nats below the best one are pruned.

    Raises:
        UsageError: kaldifst or kaldi-decoder is not installed.
        DataError: a word of the grammar is not in the lexicon.

    References:
        Mohri, Pereira, Riley 2002; Povey et al. 2011.
    """

    def __init__(
        self,
        hmm: HMM,
        grammar: Grammar,
        *,
        silence_probability: float = 0.5,
        word_penalty: float = 0.0,
        beam: float = 40.0,
    ) -> None:
        kaldifst, kaldi_decoder = _kaldi()
        self._vocabulary = grammar.words
        self._fst = _search_graph(kaldifst, hmm, grammar, silence_probability, word_penalty)
        self._options = kaldi_decoder.FasterDecoderOptions(beam=beam)
        self._kaldifst, self._kaldi_decoder, self._hmm = kaldifst, kaldi_decoder, hmm

    def __call__(self, scores: Tensor) -> Path | None:
        """The best path for (frames, states) log likelihoods; None if no path reaches a final state."""
        decoder = self._kaldi_decoder.FasterDecoder(self._fst, self._options)
        values = np.ascontiguousarray(scores.float().numpy())
        decoder.decode(self._kaldi_decoder.DecodableCtc(values))
        if not decoder.reached_final():
            return None
        found, lattice = decoder.get_best_path(use_final_probs=True)
        if not found:
            return None
        _, inputs, outputs, cost = self._kaldifst.get_linear_symbol_sequence(lattice)
        states = torch.tensor(inputs) - 1
        words = [self._vocabulary[label - 1] for label in outputs]
        return Path(states, self._segments(words, states), -(cost.value1 + cost.value2))

    def _segments(self, words: list[str], states: Tensor) -> tuple[Segment, ...]:
        """The times of the words: the transducer emits a word only once no other word shares its prefix."""
        graph = compile_graph(self._hmm, Grammar.sequence(words))
        scores = torch.full((len(states), len(self._hmm.state_names)), -math.inf)
        scores[torch.arange(len(states)), states] = 0.0
        path = viterbi(scores, graph)[0]
        return path.segments if path is not None else ()


class _Symbols:
    """Labels of the units and of the disambiguation symbols (Kaldi's #1, #2, ...) after each pronunciation."""

    def __init__(self, hmm: HMM, num_marks: int) -> None:
        self.units = {unit: number for number, unit in enumerate(hmm.num_states, 1)}
        first = len(self.units) + 1
        self.marks = list(range(first, first + num_marks))


def _search_graph(kaldifst: Any, hmm: HMM, grammar: Grammar, silence_probability: float, penalty: float) -> Any:
    numbers = {word: number for number, word in enumerate(grammar.words, 1)}
    marks = _marks(hmm, grammar.words)
    symbols = _Symbols(hmm, 1 + max(marks.values(), default=0))
    lexicon = _lexicon_fst(kaldifst, hmm, numbers, symbols, marks, silence_probability)
    spoken = kaldifst.compose(lexicon, _grammar_fst(kaldifst, grammar, numbers, penalty))
    kaldifst.determinize_star(spoken)
    kaldifst.minimize_encoded(spoken)
    kaldifst.arcsort(spoken, sort_type="ilabel")
    return kaldifst.compose(_hmm_fst(kaldifst, hmm, symbols), spoken)


def _marks(hmm: HMM, words: tuple[str, ...]) -> dict[tuple[str, int], int]:
    """Numbers that distinguish equal pronunciations of several words, so that L o G can be determinised."""
    used: Counter[tuple[str, ...]] = Counter()
    marks: dict[tuple[str, int], int] = {}
    for word in words:
        for number, way in enumerate(hmm.lexicon.pronunciations(word)):
            marks[word, number] = used[way.units]
            used[way.units] += 1
    return marks


def _grammar_fst(kaldifst: Any, grammar: Grammar, numbers: dict[str, int], penalty: float) -> Any:
    fst = kaldifst.StdVectorFst()
    histories = {0, *grammar.finals}
    for transition in grammar.transitions:
        histories |= {transition.history, transition.next_history}
    for _ in range(max(histories) + 1):
        fst.add_state()
    fst.start = 0
    for history, word, log_prob, after in grammar.transitions:
        _arc(kaldifst, fst, history, after, numbers[word], numbers[word], penalty - log_prob)
    for history, log_prob in grammar.finals.items():
        if log_prob > -math.inf:
            fst.set_final(history, -log_prob)
    kaldifst.arcsort(fst, sort_type="ilabel")
    return fst


def _lexicon_fst(
    kaldifst: Any,
    hmm: HMM,
    numbers: dict[str, int],
    symbols: _Symbols,
    marks: dict[tuple[str, int], int],
    silence_probability: float,
) -> Any:
    """From units to words. State 0 is before the optional silence, 1 after it; each word ends in state 0."""
    fst = kaldifst.StdVectorFst()
    before, after = fst.add_state(), fst.add_state()
    fst.start = before
    fst.set_final(after, 0.0)
    for label, probability in (
        (symbols.units[hmm.lexicon.silence], silence_probability),
        (EPSILON, 1 - silence_probability),
    ):
        if probability > 0:
            _arc(kaldifst, fst, before, after, label, EPSILON, -log_or_minus_inf(probability))
    for (word, number), mark in marks.items():
        way = hmm.lexicon.pronunciations(word)[number]
        labels = [*(symbols.units[unit] for unit in way.units), symbols.marks[mark]]
        place, output, cost = after, numbers[word], -way.log_prob
        for label in labels[:-1]:
            following = fst.add_state()
            _arc(kaldifst, fst, place, following, label, output, cost)
            place, output, cost = following, EPSILON, 0.0
        _arc(kaldifst, fst, place, before, labels[-1], EPSILON, 0.0)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def _hmm_fst(kaldifst: Any, hmm: HMM, symbols: _Symbols) -> Any:
    """From states to units, with transition probabilities; disambiguation symbols consume no frame."""
    fst = kaldifst.StdVectorFst()
    hub = fst.add_state()
    fst.start = hub
    fst.set_final(hub, 0.0)
    stay, move = (-hmm.stay.log()).tolist(), (-torch.log1p(-hmm.stay)).tolist()
    for unit, label in symbols.units.items():
        place, output, cost = hub, label, 0.0
        for state in hmm.states_of([unit]):
            following = fst.add_state()
            _arc(kaldifst, fst, place, following, state + 1, output, cost)
            _arc(kaldifst, fst, following, following, state + 1, EPSILON, stay[state])
            place, output, cost = following, EPSILON, move[state]
        _arc(kaldifst, fst, place, hub, EPSILON, EPSILON, cost)
    for mark in symbols.marks:
        _arc(kaldifst, fst, hub, hub, EPSILON, mark, 0.0)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def _arc(kaldifst: Any, fst: Any, source: int, target: int, ilabel: int, olabel: int, cost: float) -> None:
    fst.add_arc(state=source, arc=kaldifst.StdArc(ilabel=ilabel, olabel=olabel, weight=cost, nextstate=target))
