"""Viterbi searches against every path one by one; grammars, transition probabilities and word errors."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.speech.decoding import Decoder
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM
from instar.speech.lexicon import Lexicon, Pronunciation
from instar.speech.scoring import word_errors
from instar.speech.viterbi import viterbi
from speech_models import best_by_enumeration, random_hmm, random_scores

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**31 - 1)
UNITS = st.lists(st.sampled_from("abc"), min_size=1, max_size=2).map(tuple)
ROUNDING = 0.02  # Kaldi's determinisation rounds weights to 1/1024, and adds in float32


@st.composite
def lexicons(draw: st.DrawFn) -> Lexicon:
    """Up to three words that share phones, begin alike, sound alike, or are said in two ways."""
    words = {}
    for word in draw(st.sampled_from([("x",), ("x", "y"), ("x", "y", "z")])):
        ways = draw(st.lists(UNITS, min_size=1, max_size=2, unique=True))
        words[word] = tuple(Pronunciation(units, math.log(0.5) * number) for number, units in enumerate(ways))
    return Lexicon(words)


@st.composite
def grammars(draw: st.DrawFn, words: list[str]) -> Grammar:
    kind = draw(st.sampled_from(["loop", "one", "sequence", "bigram", "trigram"]))
    sentences = st.lists(st.sampled_from(words), min_size=1, max_size=3)
    if kind == "loop":
        return Grammar.loop(words)
    if kind == "one":
        return Grammar.one_of(words)
    if kind == "sequence":
        return Grammar.sequence(draw(sentences))
    return Grammar.ngram(draw(st.lists(sentences, min_size=1, max_size=4)), order=2 if kind == "bigram" else 3)


@quick
@given(st.data(), lexicons(), st.integers(1, 5), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 1.5]), seeds)
def test_both_searches_find_the_best_of_all_paths(
    data: st.DataObject, lexicon: Lexicon, frames: int, silence: float, penalty: float, seed: int
) -> None:
    grammar = data.draw(grammars(list(lexicon.words)))
    hmm = random_hmm(lexicon, seed=seed, states=data.draw(st.integers(1, 2)))
    scores = random_scores(frames, hmm, seed=seed)
    options = {"silence_probability": silence, "word_penalty": penalty}
    best, _, states = best_by_enumeration(scores, hmm, grammar, **options)
    built_in = Decoder(hmm, grammar, search="viterbi", **options)(scores)
    kaldi = Decoder(hmm, grammar, search="kaldi", beam=1e4, **options)(scores)
    assert built_in.score == pytest.approx(best, abs=1e-6)
    assert kaldi.score == pytest.approx(best, abs=ROUNDING)
    if best > -math.inf:
        assert built_in.states.tolist() == states or built_in.score == pytest.approx(best, abs=1e-9)
        assert _score(kaldi.states, kaldi.words, hmm, grammar, scores, **options) >= best - ROUNDING
        assert _score(built_in.states, built_in.words, hmm, grammar, scores, **options) >= best - 1e-6


def _score(
    states: torch.Tensor,
    words: tuple[str, ...],
    hmm: HMM,
    grammar: Grammar,
    scores: torch.Tensor,
    *,
    silence_probability: float,
    word_penalty: float,
) -> float:
    """What a path is worth: the best with its words when every frame is in its state."""
    only = torch.full_like(scores, -1e6)
    only[torch.arange(len(states)), states] = scores[torch.arange(len(states)), states]
    graph = compile_graph(hmm, Grammar.sequence(words), silence_probability=silence_probability)
    path = viterbi(only, graph)[0]
    assert path is not None
    return path.score + grammar.log_prob(words) - word_penalty * len(words)


@quick
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["x", "xy", "zz", ""])), min_size=1, max_size=5), seeds
)
def test_a_padded_batch_gives_what_each_gives_alone(batch: list[tuple[int, str]], seed: int) -> None:
    hmm = random_hmm(Lexicon.of_phones({"x": "a b", "y": "b", "z": "c a"}), seed=seed)
    graphs = [compile_graph(hmm, Grammar.sequence(words)) for _, words in batch]
    scores = [random_scores(frames, hmm, seed=seed + row) for row, (frames, _) in enumerate(batch)]
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True, padding_value=7.0)
    together = viterbi(padded, graphs, [len(one) for one in scores])
    for path, one, graph in zip(together, scores, graphs, strict=True):
        alone = viterbi(one, graph)[0]
        assert (path is None) == (alone is None)
        if path is not None and alone is not None:
            assert path.states.tolist() == alone.states.tolist()
            assert (path.segments, path.score) == (alone.segments, alone.score)


@quick
@given(lexicons(), st.integers(1, 30), seeds)
def test_segments_follow_each_other_and_begin_with_their_word(lexicon: Lexicon, frames: int, seed: int) -> None:
    hmm = random_hmm(lexicon, seed=seed)
    path = Decoder(hmm, Grammar.loop(lexicon.words), search="viterbi")(random_scores(frames, hmm, seed=seed))
    ends = [0]
    for word, begin, end in path.segments:
        assert ends[-1] <= begin < end <= frames
        firsts = {hmm.first_state[way.units[0]] for way in lexicon.pronunciations(word)}
        assert int(path.states[begin]) in firsts
        assert hmm.first_state["sil"] not in path.states[begin:end].tolist()
        assert set(path.states[ends[-1] : begin].tolist()) <= {hmm.first_state["sil"]}
        ends.append(end)
    assert set(path.states[ends[-1] :].tolist()) <= {hmm.first_state["sil"]}


@quick
@given(
    st.lists(st.lists(st.sampled_from("xyz"), max_size=4), min_size=1, max_size=6).filter(any), st.integers(1, 4)
)
def test_what_may_follow_a_history_has_probability_one(sentences: list[list[str]], order: int) -> None:
    grammar = Grammar.ngram(sentences, order=order)
    for history, end in grammar.finals.items():
        follow = [math.exp(one.log_prob) for one in grammar.transitions if one.history == history]
        assert math.fsum(follow) + math.exp(end) == pytest.approx(1, abs=1e-9)
    again = Grammar.from_json(grammar.to_json())
    assert all(again.log_prob(words) == grammar.log_prob(words) for words in sentences)


@quick
@given(st.lists(st.sampled_from("xyz"), max_size=6), st.lists(st.sampled_from("xyzw"), max_size=6))
def test_word_errors_are_the_fewest_edits(said: list[str], heard: list[str]) -> None:
    found = word_errors({"a": said, "b": ["x"]}, {"a": heard, "b": ["x"]})
    assert found.errors == _edits(tuple(said), tuple(heard))
    counts = found.of["a"]
    assert len(said) - counts.deletions + counts.insertions == len(heard)
    assert sum(times for (one, _), times in found.confusion.items() if one) == len(said) + 1
    assert sum(times for (_, other), times in found.confusion.items() if other) == len(heard) + 1


def _edits(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
    distance = {(i, 0): i for i in range(len(said) + 1)} | {(0, j): j for j in range(len(heard) + 1)}
    for i, j in itertools.product(range(1, len(said) + 1), range(1, len(heard) + 1)):
        change = distance[i - 1, j - 1] + (said[i - 1] != heard[j - 1])
        distance[i, j] = min(change, distance[i - 1, j] + 1, distance[i, j - 1] + 1)
    return distance[len(said), len(heard)]


@quick
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=4))
def test_transition_probabilities_and_priors_count_frames_and_visits(utterances: list[list[int]]) -> None:
    hmm = HMM.new(Lexicon.of_words(["a", "b"]), states_of_word=2, states_of_silence=1)
    found = hmm.estimated([torch.tensor(one) for one in utterances])
    frames = sum(map(len, utterances))
    for state in range(5):
        n = sum(one.count(state) for one in utterances)
        visits = sum(1 for one in utterances for key, _ in itertools.groupby(one) if key == state)
        assert float(found.stay[state]) == pytest.approx((n - visits + 1) / (n + 2))
        assert float(found.priors[state]) == pytest.approx((n + 1) / (frames + 5))
    assert float(found.priors.sum()) == pytest.approx(1)
