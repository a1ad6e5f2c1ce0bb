"""The search graph: HMM states, pronunciations and grammar compiled into nodes and arcs."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, log_or_minus_inf

MAX_ARCS = 20_000_000  # in the padded table, 300 MB
NO_WORD = -1


@dataclass(frozen=True)
class Graph:
    """A path is in one node at each frame; the arcs are a table of the predecessors of each node.

    Attributes:
        states: (nodes,) int64, the HMM state of each node.
        words: (nodes,) int64, the word that a node is part of, -1 for silence.
        predecessors: (nodes, arcs) int64, source of each arc; rows are padded with arcs of weight -inf.
        weights: (nodes, arcs) float64, log probabilities, nats.
        begins: (nodes, arcs) bool, whether an arc enters a word or silence from outside.
        initial: (nodes,) float64, log probability of starting in a node.
        final: (nodes,) float64, log probability of ending in a node.
        vocabulary: the words by number.
    """

    states: Tensor
    words: Tensor
    predecessors: Tensor
    weights: Tensor
    begins: Tensor
    initial: Tensor
    final: Tensor
    vocabulary: tuple[str, ...]

    @property
    def num_nodes(self) -> int:
        """The number of nodes."""
        return len(self.states)


_Exits = list[tuple[int | None, float]]
"""Last nodes of chains with the log probability of leaving them; None is the start before the first frame."""


@dataclass
class _Building:
    """A graph under construction: add chains of nodes, then join them with arcs."""

    hmm: HMM
    states: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    arcs: dict[int, list[tuple[int, float, bool]]] = field(default_factory=lambda: defaultdict(list))
    initial: dict[int, float] = field(default_factory=dict)

    def add_chain(self, units: Iterable[str], word: int = NO_WORD) -> tuple[int, tuple[int, float]]:
        """Add a node for each state of the units; returns the first node, and the last with its exit weight."""
        states = self.hmm.states_of(units)
        first = len(self.states)
        stay = self.hmm.stay.log().tolist()
        move = torch.log1p(-self.hmm.stay).tolist()
        for place, state in enumerate(states):
            node = first + place
            self.states.append(state)
            self.words.append(word)
            self.arcs[node].append((node, stay[state], False))
            if place:
                self.arcs[node].append((node - 1, move[states[place - 1]], False))
        return first, (len(self.states) - 1, move[states[-1]])

    def join(self, exits: _Exits, node: int, log_prob: float) -> None:
        """Add arcs from exits to the first node of a chain."""
        for source, weight in exits:
            total = weight + log_prob
            if total == -math.inf:
                continue
            if source is None:
                self.initial[node] = max(total, self.initial.get(node, -math.inf))
            else:
                self.arcs[node].append((source, total, True))

    def finished(self, final: dict[int, float], vocabulary: tuple[str, ...]) -> Graph:
        """Convert to tensors."""
        nodes = len(self.states)
        width = max((len(arcs) for arcs in self.arcs.values()), default=1)
        if nodes * width > MAX_ARCS:
            raise UsageError(
                f"the graph of {len(vocabulary)} words has {nodes} nodes with up to {width} arcs each, too large "
                "for the built-in search; install Kaldi's decoder (pip install 'instar[speech]')"
            )
        predecessors = torch.zeros(nodes, width, dtype=torch.int64)
        weights = torch.full((nodes, width), -math.inf, dtype=torch.float64)
        begins = torch.zeros(nodes, width, dtype=torch.bool)
        for node, arcs in self.arcs.items():
            sources, values, are_begins = zip(*arcs, strict=True)
            predecessors[node, : len(arcs)] = torch.tensor(sources)
            weights[node, : len(arcs)] = torch.tensor(values, dtype=torch.float64)
            begins[node, : len(arcs)] = torch.tensor(are_begins)
        return Graph(
            torch.tensor(self.states),
            torch.tensor(self.words),
            predecessors,
            weights,
            begins,
            _spread(self.initial, nodes),
            _spread(final, nodes),
            vocabulary,
        )


def compile_graph(
    hmm: HMM, grammar: Grammar, *, silence_probability: float = 0.5, word_penalty: float = 0.0
) -> Graph:
    """Compile a grammar into a graph, with optional silence before, between and after the words.

    Args:
        hmm: models, and the lexicon with the pronunciations.
        grammar: which words may follow which.
        silence_probability: probability of silence at each of these places.
        word_penalty: subtracted from the log probability of each word, nats.

    Raises:
        DataError: a word of the grammar is not in the lexicon.
        UsageError: the silence probability is out of range, or the graph is too large for a table.

    Example:
        >>> from instar.speech.lexicon import Lexicon
        >>> hmm = HMM.new(Lexicon.of_phones({"two": "t uw"}))
        >>> compile_graph(hmm, Grammar.sequence(("two",)), silence_probability=0).states.tolist()
        [3, 4, 5, 6, 7, 8]
    """
    if not 0 <= silence_probability < 1:
        raise UsageError(f"silence_probability is {silence_probability}, expected in [0, 1)")
    log_silence, log_none = log_or_minus_inf(silence_probability), log_or_minus_inf(1 - silence_probability)
    vocabulary = grammar.words
    numbers = {word: number for number, word in enumerate(vocabulary)}
    graph = _Building(hmm)
    chains: dict[tuple[str, int], list[tuple[int, float]]] = {}  # shared by arcs to the same history
    arrivals: dict[int, _Exits] = defaultdict(list, {0: [(None, 0.0)]})
    for _, word, _, after in grammar.transitions:
        if (word, after) in chains:
            continue
        chains[word, after] = []
        for way in hmm.lexicon.pronunciations(word):
            first, exit_ = graph.add_chain(way.units, numbers[word])
            chains[word, after].append((first, way.log_prob))
            arrivals[after].append(exit_)
    departures: dict[int, _Exits] = {}
    for history, exits in list(arrivals.items()):
        departures[history] = [(node, weight + log_none) for node, weight in exits]
        if silence_probability:
            first, exit_ = graph.add_chain([hmm.lexicon.silence])
            graph.join(exits, first, log_silence)
            departures[history].append(exit_)
    for history, word, log_prob, after in grammar.transitions:
        for first, pronunciation in chains[word, after]:
            graph.join(departures.get(history, []), first, log_prob + pronunciation - word_penalty)
    final: dict[int, float] = {}
    for history, log_prob in grammar.finals.items():
        for node, weight in departures.get(history, []):
            if node is not None:
                final[node] = max(final.get(node, -math.inf), weight + log_prob)
    return graph.finished(final, vocabulary)


def _spread(values: dict[int, float], nodes: int) -> Tensor:
    spread = torch.full((nodes,), -math.inf, dtype=torch.float64)
    for node, value in values.items():
        spread[node] = value
    return spread
