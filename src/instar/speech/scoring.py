"""Word error rates, with where the errors lie and how far another test set would move them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from instar.errors import UsageError
from instar.metrics import BootstrapInterval

NOTHING = ""
"""In the confusion of words: nothing was said, or nothing was heard."""

Words = Mapping[str, Sequence[str]]
"""The words of each recording, by id."""


class Counts(NamedTuple):
    """Of one recording or of many."""

    substitutions: int
    insertions: int
    deletions: int
    num_words: int
    """that were said"""

    @property
    def errors(self) -> int:
        """All three kinds."""
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True)
class WordErrors:
    """What was heard against what was said.

    WER = (substitutions + insertions + deletions) / words said;  with many insertions it is above 1.

    Attributes:
        of: counts of each recording, by id.
        confusion: how often a said word (first) was heard as another (second), `NOTHING` on one side for
            deletions and insertions; right ones are counted too.
    """

    of: Mapping[str, Counts]
    confusion: Mapping[tuple[str, str], int]

    @property
    def total(self) -> Counts:
        """Over all recordings."""
        return Counts(*(sum(column) for column in zip(*self.of.values(), strict=True)))

    @property
    def errors(self) -> int:
        """Words that are wrong, inserted or missing."""
        return self.total.errors

    @property
    def wer(self) -> float:
        """Word error rate, a share (not percent)."""
        total = self.total
        return total.errors / total.num_words

    def interval(self, *, num_resamples: int = 10_000, level: float = 0.95, seed: int = 0) -> BootstrapInterval:
        """The rate with its bootstrap interval over recordings: both sums are drawn together.

        References:
            Bisani, Ney 2004.
        """
        errors, words = _columns(self)
        return _interval(errors, words, num_resamples, level, seed)


def word_errors(said: Words, heard: Words) -> WordErrors:
    """Compare the words heard with those said, by the alignment that needs the fewest edits.

    Args:
        said: the transcripts; at least one word in all.
        heard: what was recognised, of the same recordings; one that is missing counts as nothing heard.

    Raises:
        UsageError: jiwer is not installed, nothing was said, or something was heard of an unknown recording.

    Example:
        >>> found = word_errors({"a": ("one", "two"), "b": ("six",)}, {"a": ("one",), "b": ("six", "six")})
        >>> found.total, round(found.wer, 3)
        (Counts(substitutions=0, insertions=1, deletions=1, num_words=3), 0.667)

    References:
        Levenshtein 1966.
    """
    unknown = set(heard) - set(said)
    if unknown:
        raise UsageError(f"words were heard of {sorted(unknown)[0]!r}, which has no transcript")
    if not any(said.values()):
        raise UsageError("no word was said in any of the recordings: there is no error rate")
    of: dict[str, Counts] = {}
    confusion: Counter[tuple[str, str]] = Counter()
    for name, words in said.items():
        pairs = _aligned(tuple(words), tuple(heard.get(name, ())))
        kinds = Counter(_kind(one, other) for one, other in pairs)
        of[name] = Counts(kinds["substitution"], kinds["insertion"], kinds["deletion"], len(words))
        confusion.update(pairs)
    return WordErrors(of, confusion)


def wer_difference(
    a: WordErrors, b: WordErrors, *, num_resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> BootstrapInterval:
    """WER of a minus WER of b, with its bootstrap interval over the recordings that both heard.

    Raises:
        UsageError: they heard other recordings.
    """
    if set(a.of) != set(b.of) or any(a.of[name].num_words != b.of[name].num_words for name in a.of):
        raise UsageError("wer_difference: the two were not tested on the same recordings")
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
            f"num_resamples is {num_resamples} and level {level}: expected 1 or more, and from 0 to 1"
        )
    # Recordings of the same counts are alike: a resample is a multinomial draw of how often each kind occurs.
    kinds, occurrences = np.unique(np.stack((errors, words), 1), axis=0, return_counts=True)
    n = len(errors)
    draws = np.random.default_rng(seed).multinomial(n, occurrences / n, size=num_resamples)
    sums = draws @ kinds
    spoken = sums[:, 1] > 0
    low, high = np.quantile(sums[spoken, 0] / sums[spoken, 1], [(1 - level) / 2, (1 + level) / 2])
    return BootstrapInterval(float(errors.sum() / words.sum()), float(low), float(high), n)


def _aligned(said: tuple[str, ...], heard: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    """Pairs of a said and a heard word."""
    if not said or not heard:
        return [(word, NOTHING) for word in said] + [(NOTHING, word) for word in heard]
    try:
        import jiwer
    except ImportError:
        raise UsageError("jiwer is not installed: pip install 'instar[speech]'") from None
    pairs: list[tuple[str, str]] = []
    for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]:
        ours = said[chunk.ref_start_idx : chunk.ref_end_idx] or (NOTHING,) * (
            chunk.hyp_end_idx - chunk.hyp_start_idx
        )
        theirs = heard[chunk.hyp_start_idx : chunk.hyp_end_idx] or (NOTHING,) * len(ours)
        pairs.extend(zip(ours, theirs, strict=True))
    return pairs


def _kind(said: str, heard: str) -> str:
    if said == heard:
        return "right"
    if said == NOTHING:
        return "insertion"
    return "deletion" if heard == NOTHING else "substitution"
