"""Grammars: which word may follow which, with probabilities. A loop, an n-gram, a single word, one sequence."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from instar.errors import UsageError

_EDGE = None  # stands before the first and after the last word
_History = tuple[str | None, ...]


class Transition(NamedTuple):
    """A word after a history, and the history that follows; `log_prob` in nats."""

    history: int
    word: str
    log_prob: float
    next_history: int


@dataclass(frozen=True)
class Grammar:
    """A weighted automaton: its states are word histories, it begins in history 0.

    Attributes:
        transitions: the allowed words.
        finals: log probability of the end, by history; an utterance cannot end in the others.

    Example:
        >>> Grammar.sequence(("one", "two")).transitions[1]
        Transition(history=1, word='two', log_prob=0.0, next_history=2)
        >>> Grammar.loop(["no", "yes"]).log_prob(("yes", "no", "yes"))
        -4.394449154672439
    """

    transitions: tuple[Transition, ...]
    finals: Mapping[int, float]

    @classmethod
    def sequence(cls, words: Sequence[str]) -> "Grammar":
        """Exactly these words, as in forced alignment."""
        return cls(tuple(Transition(i, word, 0.0, i + 1) for i, word in enumerate(words)), {len(words): 0.0})

    @classmethod
    def one_of(cls, words: Iterable[str]) -> "Grammar":
        """Exactly one word; all are equally probable."""
        vocabulary = _vocabulary(words)
        log_prob = -math.log(len(vocabulary))
        return cls(tuple(Transition(0, word, log_prob, 1) for word in vocabulary), {1: 0.0})

    @classmethod
    def loop(cls, words: Iterable[str]) -> "Grammar":
        """Any number of words in any order; each word and the end have probability 1 / (words + 1)."""
        vocabulary = _vocabulary(words)
        log_prob = -math.log(len(vocabulary) + 1)
        return cls(tuple(Transition(0, word, log_prob, 0) for word in vocabulary), {0: log_prob})

    @classmethod
    def ngram(cls, transcripts: Iterable[Sequence[str]], *, order: int = 2) -> "Grammar":
        """An n-gram with Witten-Bell smoothing, from counts of transcripts.

        P(w | h) = (c(h w) + t(h) P(w | h')) / (c(h) + t(h)),  t(h) = how many different words follow h,
        h' = h without its first word; the unigram is smoothed with the uniform distribution. The end counts as a
        word.

        Args:
            transcripts: the words of each utterance.
            order: n; 1 ignores the preceding words, 2 uses one of them.

        Raises:
            UsageError: the order is below 1, or the transcripts have no words.

        References:
            Witten, Bell 1991, method C.
        """
        if order < 1:
            raise UsageError(f"the order of the n-gram is {order}, expected at least 1")
        sentences = [tuple(words) for words in transcripts]
        vocabulary = _vocabulary(word for words in sentences for word in words)
        follow: dict[_History, Counter[str | None]] = defaultdict(Counter)
        for words in sentences:
            whole = (_EDGE, *words, _EDGE)
            for place in range(1, len(whole)):
                before = whole[max(0, place - order + 1) : place]
                for start in range(len(before) + 1):
                    follow[before[start:]][whole[place]] += 1

        def prob(word: str | None, history: _History | None) -> float:
            if history is None:
                return 1 / (len(vocabulary) + 1)
            counts = follow.get(history, Counter())
            shorter = prob(word, history[1:] if history else None)
            return (counts[word] + len(counts) * shorter) / (counts.total() + len(counts)) if counts else shorter

        first: _History = (_EDGE,) if order > 1 else ()
        numbers = {first: 0}
        transitions: list[Transition] = []
        finals: dict[int, float] = {}
        pending = [first]
        for history in pending:  # grows when a new history is found
            for word in vocabulary:
                after = (*history, word)[-(order - 1) :] if order > 1 else ()
                if after not in numbers:
                    numbers[after] = len(numbers)
                    pending.append(after)
                log_prob = math.log(prob(word, history))
                transitions.append(Transition(numbers[history], word, log_prob, numbers[after]))
            finals[numbers[history]] = math.log(prob(_EDGE, history))
        return cls(tuple(transitions), finals)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Grammar":
        """The grammar that `to_json` wrote."""
        finals = {int(history): float(log_prob) for history, log_prob in content["finals"].items()}
        return cls(tuple(Transition(*transition) for transition in content["transitions"]), finals)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        finals = {str(history): log_prob for history, log_prob in self.finals.items()}
        return {"transitions": [list(transition) for transition in self.transitions], "finals": finals}

    @property
    def words(self) -> tuple[str, ...]:
        """All words in alphabetical order."""
        return tuple(sorted({transition.word for transition in self.transitions}))

    def log_prob(self, words: Sequence[str]) -> float:
        """Log probability of a sequence including its end, nats; -inf if it is not allowed."""
        steps = {(step.history, step.word): step for step in self.transitions}
        history, total = 0, 0.0
        for word in words:
            step = steps.get((history, word))
            if step is None:
                return -math.inf
            history, total = step.next_history, total + step.log_prob
        return total + self.finals.get(history, -math.inf)


def _vocabulary(words: Iterable[str]) -> list[str]:
    vocabulary = sorted(set(words))
    if not vocabulary:
        raise UsageError("a grammar needs at least one word")
    return vocabulary
