"""Small HMMs for tests, and every path through them, one by one."""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM
from instar.speech.lexicon import Lexicon


def random_hmm(lexicon: Lexicon, *, seed: int, states: int = 2, silence_states: int = 1) -> HMM:
    """Models with transition probabilities of their own."""
    hmm = HMM.new(lexicon, states_of_phone=states, states_of_word=states, states_of_silence=silence_states)
    generator = torch.Generator().manual_seed(seed)
    stay = 0.1 + 0.8 * torch.rand(len(hmm.state_names), generator=generator, dtype=torch.float64)
    return HMM(lexicon, hmm.num_states, stay, hmm.priors)


def random_scores(frames: int, hmm: HMM, *, seed: int, spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(frames, len(hmm.state_names), generator=generator)


def best_by_enumeration(
    scores: Tensor, hmm: HMM, grammar: Grammar, *, silence_probability: float, word_penalty: float = 0.0
) -> tuple[float, tuple[str, ...], list[int]]:
    """Score, words and states of the best of all paths; -inf where there is none."""
    values = scores.double().tolist()
    best: tuple[float, tuple[str, ...], list[int]] = (-math.inf, (), [])
    for words in _sentences(grammar, len(values)):
        around = grammar.log_prob(words) - word_penalty * len(words)
        if around == -math.inf:
            continue
        for states, prior in _state_sequences(hmm, words, silence_probability):
            for lasts in _durations(len(values), len(states)):
                path = [state for state, last in zip(states, lasts, strict=True) for _ in range(last)]
                score = around + prior + sum(values[frame][state] for frame, state in enumerate(path))
                for state, last in zip(states, lasts, strict=True):
                    a = float(hmm.stay[state])
                    score += (last - 1) * math.log(a) + math.log(1 - a)
                if score > best[0]:
                    best = (score, words, path)
    return best


def _sentences(grammar: Grammar, most: int) -> Iterator[tuple[str, ...]]:
    for length in range(most + 1):
        yield from itertools.product(grammar.words, repeat=length)


def _state_sequences(hmm: HMM, words: Sequence[str], silence: float) -> Iterator[tuple[list[int], float]]:
    """States passed, and the log probability of the pronunciations and of where silence is."""
    ways = [hmm.lexicon.pronunciations(word) for word in words]
    for said in itertools.product(*ways):
        for silent in itertools.product((False, True), repeat=len(words) + 1):
            prior = sum(one.log_prob for one in said)
            units: list[str] = []
            possible = True
            for place, is_silent in enumerate(silent):
                probability = silence if is_silent else 1 - silence
                possible = possible and probability > 0
                prior += math.log(probability) if probability > 0 else 0.0
                units += [hmm.lexicon.silence] * is_silent
                units += said[place].units if place < len(said) else ()
            states = [hmm.first_state[unit] + k for unit in units for k in range(hmm.num_states[unit])]
            if possible and states:
                yield states, prior


def _durations(frames: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share frames among parts, at least one each."""
    for cuts in itertools.combinations(range(1, frames), parts - 1):
        edges = (0, *cuts, frames)
        yield tuple(after - before for before, after in itertools.pairwise(edges))
