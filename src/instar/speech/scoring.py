"""Word error rates with their confusions and bootstrap intervals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from instar.errors import UsageError
from instar.intervals import BootstrapInterval

NOTHING = ""
"""In the confusion of words: stands for the reference of an insertion and the recognised word of a deletion."""

Words = Mapping[str, Sequence[str]]
"""The words of each recording, by id."""


class Counts(NamedTuple):
    """Error counts of one or several recordings."""

    substitutions: int
    insertions: int
    deletions: int
    num_words: int
    """in the reference"""

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions."""
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True)
class WordErrors:
    """Recognised words compared with the reference.

    WER = (substitutions + insertions + deletions) / reference words;  above 1 with many insertions.

    Attributes:
        of: counts by recording.
        confusion: how often a reference word (first) was recognised as a word (second), correct ones included;
            `NOTHING` on one side for insertions and deletions.
    """

    of: Mapping[str, Counts]
    confusion: Mapping[tuple[str, str], int]

    @property
    def total(self) -> Counts:
        """The sum over all recordings."""
        return Counts(*(sum(column) for column in zip(*self.of.values(), strict=True)))

    @property
    def errors(self) -> int:
        """The number of substitutions, insertions and deletions."""
        return self.total.errors

    @property
    def wer(self) -> float:
        """The word error rate as a fraction, not in percent."""
        total = self.total
        return total.errors / total.num_words

    def interval(self, *, num_resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> BootstrapInterval:
        """The word error rate with its bootstrap interval over recordings (errors and words drawn together).

        References:
            Bisani, Ney 2004.
        """
        errors, words = _columns(self)
        return _interval(errors, words, num_resamples, level, seed)


def word_errors(reference: Words, hypothesis: Words) -> WordErrors:
    """Compare recognised words with the reference, by the alignment with the fewest edits.

    Args:
        reference: the words by recording; at least one word overall.
        hypothesis: the recognised words by recording; a missing recording counts as no words.

    Raises:
        UsageError: jiwer is not installed, the reference has no words, or it lacks a recognised recording.

    Example:
        >>> found = word_errors({"a": ("one", "two"), "b": ("six",)}, {"a": ("one",), "b": ("six", "six")})
        >>> found.total, round(found.wer, 3)
        (Counts(substitutions=0, insertions=1, deletions=1, num_words=3), 0.667)

    References:
        Levenshtein 1966.
    """
    unknown = set(hypothesis) - set(reference)
    if unknown:
        raise UsageError(f"recording {sorted(unknown)[0]!r} has recognised words but no reference")
    if not any(reference.values()):
        raise UsageError("the reference has no words: a word error rate needs at least one")
    of: dict[str, Counts] = {}
    confusion: Counter[tuple[str, str]] = Counter()
    for name, words in reference.items():
        pairs = _aligned(tuple(words), tuple(hypothesis.get(name, ())))
        kinds = Counter(_kind(one, other) for one, other in pairs)
        of[name] = Counts(kinds["substitution"], kinds["insertion"], kinds["deletion"], len(words))
        confusion.update(pairs)
    return WordErrors(of, confusion)


def wer_difference(
    a: WordErrors, b: WordErrors, *, num_resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> BootstrapInterval:
    """WER of a minus WER of b, with its bootstrap interval over the recordings.

    Raises:
        UsageError: the two are for different recordings.
    """
    if set(a.of) != set(b.of) or any(a.of[name].num_words != b.of[name].num_words for name in a.of):
        raise UsageError("wer_difference: a and b are for different recordings; test both on the same ones")
    errors_a, words = _columns(a)
    errors_b = np.array([b.of[name].errors for name in a.of])
    return _interval(errors_a - errors_b, words, num_resamples, level, seed)


def _columns(errors: WordErrors) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]":
    counts = errors.of.values()
    return np.array([one.errors for one in counts]), np.array([one.num_words for one in counts])


def _interval(
    errors: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    words: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    num_resamples: int,
    level: float,
    seed: int,
) -> BootstrapInterval:
    if num_resamples < 1 or not 0 < level < 1:
        raise UsageError(
            f"num_resamples is {num_resamples} and level {level}: expected at least 1, and a level in (0, 1)"
        )
    # Recordings with equal counts are interchangeable: draw how often each kind occurs from a multinomial.
    kinds, occurrences = np.unique(np.stack((errors, words), 1), axis=0, return_counts=True)
    n = len(errors)
    draws = np.random.default_rng(seed).multinomial(n, occurrences / n, size=num_resamples)
    sums = draws @ kinds
    spoken = sums[:, 1] > 0
    low, high = np.quantile(sums[spoken, 0] / sums[spoken, 1], [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(float(errors.sum() / words.sum()), float(low), float(high), n)


def _aligned(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Pairs of a reference word and a recognised word."""
    if not reference or not hypothesis:
        return [(word, NOTHING) for word in reference] + [(NOTHING, word) for word in hypothesis]
    try:
        import jiwer
    except ImportError:
        raise UsageError("jiwer is not installed: pip install 'instar[speech]'") from None
    pairs: list[tuple[str, str]] = []
    for chunk in jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]:
        ours = reference[chunk.ref_start_idx : chunk.ref_end_idx] or (NOTHING,) * (
            chunk.hyp_end_idx - chunk.hyp_start_idx
        )
        theirs = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx] or (NOTHING,) * len(ours)
        pairs.extend(zip(ours, theirs, strict=True))
    return pairs


def _kind(reference: str, hypothesis: str) -> str:
    if reference == hypothesis:
        return "right"
    if reference == NOTHING:
        return "insertion"
    return "deletion" if hypothesis == NOTHING else "substitution"
