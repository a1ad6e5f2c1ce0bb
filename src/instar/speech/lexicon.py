"""Pronunciation lexicons: each word as a sequence of units (phones, or the whole word)."""

import itertools
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from instar.errors import DataError, DataWarning, UsageError
from instar.naming import unknown_name
from instar.speech.text_files import numbered_lines, shortened

SILENCE = "sil"
_COMMENT = re.compile(r"^(;;;|#).*|\s+#.*")
_VARIANT = re.compile(r"(?<=.)\(\d+\)$")  # the CMU dictionary's second, third, ... pronunciation
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


class Pronunciation(NamedTuple):
    """One pronunciation of a word."""

    units: tuple[str, ...]
    log_prob: float = 0.0
    """log probability among the pronunciations of the word, nats; 0 without probabilities, as in Kaldi's L"""


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations.

    Attributes:
        words: pronunciations by word.
        silence: the unit of silence between words.
        is_whole_words: whether each word is its own unit.

    Raises:
        DataError: there is no word, a word has no pronunciation, or a pronunciation contains the silence.

    Example:
        >>> lexicon = Lexicon.of_phones({"one": "w ah n", "two": "t uw"})
        >>> lexicon.units
        ('sil', 'ah', 'n', 't', 'uw', 'w')
        >>> Lexicon.of_words(["one", "two"]).pronunciations("two")
        (Pronunciation(units=('two',), log_prob=0.0),)
    """

    words: Mapping[str, tuple[Pronunciation, ...]]
    silence: str = SILENCE
    is_whole_words: bool = False

    def __post_init__(self) -> None:
        if not self.words:
            raise DataError("the lexicon has no words")
        for word, ways in self.words.items():
            if not ways or not all(way.units for way in ways):
                raise DataError(f"word {word!r} has no pronunciation in the lexicon")
            if any(self.silence in way.units for way in ways):
                raise DataError(f"the pronunciation of {word!r} contains the silence unit {self.silence!r}")

    @classmethod
    def of_phones(cls, words: Mapping[str, str | Iterable[str]], *, silence: str = SILENCE) -> "Lexicon":
        """A lexicon from words to phones separated by spaces, or to several such pronunciations."""
        several = {word: [ways] if isinstance(ways, str) else ways for word, ways in words.items()}
        return cls(
            {word: tuple(Pronunciation(tuple(way.split())) for way in ways) for word, ways in several.items()},
            silence,
        )

    @classmethod
    def of_words(cls, words: Iterable[str], *, silence: str = SILENCE) -> "Lexicon":
        """A lexicon of whole-word units, for a small vocabulary without pronunciations."""
        return cls({word: (Pronunciation((word,)),) for word in sorted(set(words))}, silence, True)

    @classmethod
    def read(cls, path: str | Path) -> "Lexicon":
        """Read a lexicon of Kaldi, of the Montreal Forced Aligner (MFA), or of the form of the CMU dictionary.

        Each line has a word, no number, one or four, and phones: `WORD PHONE ...`, or `WORD PROBABILITY PHONE ...`
        as in `lexiconp.txt`, or with three numbers about silence after the probability, as in
        `lexiconp_silprob.txt` and MFA's dictionaries. Decoding and alignment use the probability of the
        pronunciation; the numbers about silence are not used, which is warned of. Comments (`;;;` or `#` at the
        start of a line, ` #` after its phones) are skipped.

        A word on several lines, also as `word(2)`, has several pronunciations. A line such as `!SIL SIL` names the
        silence unit and is not a word.

        Raises:
            DataError: the file cannot be read, or a line has another form: numbers are never phones.
        """
        path = Path(path)
        words = _read_pronunciations(path)
        silences = {ways[0].units[0] for ways in words.values() if _is_silence(ways)}
        if len(silences) > 1:
            raise DataError(f"lexicon {path} has several silence units: {', '.join(sorted(silences))}; keep one")
        spoken = {word: tuple(ways) for word, ways in words.items() if not _is_silence(ways)}
        return cls(spoken, next(iter(silences), SILENCE))

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "Lexicon":
        """The lexicon from the output of `to_json`."""
        words: Mapping[str, list[tuple[list[str], float]]] = content["words"]  # type: ignore[assignment]
        pronunciations = {
            word: tuple(Pronunciation(tuple(units), log_prob) for units, log_prob in ways)
            for word, ways in words.items()
        }
        return cls(pronunciations, str(content["silence"]), bool(content["is_whole_words"]))

    def to_json(self) -> dict[str, object]:
        """The lexicon as plain values for a JSON file."""
        words = {word: [[list(way.units), way.log_prob] for way in ways] for word, ways in self.words.items()}
        return {"silence": self.silence, "is_whole_words": self.is_whole_words, "words": words}

    @cached_property
    def units(self) -> tuple[str, ...]:
        """All units: the silence, then the others in alphabetical order."""
        spoken = {unit for ways in self.words.values() for way in ways for unit in way.units}
        return (self.silence, *sorted(spoken))

    def pronunciations(self, word: str) -> tuple[Pronunciation, ...]:
        """The pronunciations of a word.

        Raises:
            DataError: the word is not in the lexicon.
        """
        if word not in self.words:
            hint = (
                str(unknown_name("word", word, self.words)) if len(self.words) <= 50 else f"unknown word {word!r}"
            )
            raise DataError(f"{hint}; add it to the lexicon or remove its utterances")
        return self.words[word]

    def of(self, words: Iterable[str]) -> "Lexicon":
        """The lexicon of the given words.

        Raises:
            DataError: a word is not in the lexicon.
        """
        kept = {word: self.pronunciations(word) for word in sorted(set(words))}
        return Lexicon(kept, self.silence, self.is_whole_words)


def _read_pronunciations(path: Path) -> dict[str, list[Pronunciation]]:
    form = "WORD PROBABILITY PHONE ..." if path.name.startswith("lexiconp") else "WORD PHONE ..."
    words: dict[str, list[Pronunciation]] = {}
    num_with_silence = 0
    for number, line in numbered_lines(path):
        entry = _COMMENT.sub("", line)
        if not entry:
            continue
        word, numbers, phones = _fields(entry)
        if expected := _unmet(word, numbers, phones, form):
            raise DataError(f"lexicon {path}, line {number}: expected {expected}, found {shortened(line)}")
        num_with_silence += len(numbers) > 1
        way = Pronunciation(phones, math.log(float(numbers[0])) if numbers else 0.0)
        ways = words.setdefault(_VARIANT.sub("", word), [])
        if way not in ways:
            ways.append(way)
    if num_with_silence:
        warnings.warn(
            f"lexicon {path}: the probabilities of silence around words, on {num_with_silence:,} lines, are not "
            "used; those of pronunciations are",
            DataWarning,
            stacklevel=3,
        )
    return words


def _fields(entry: str) -> tuple[str, list[str], tuple[str, ...]]:
    """The word, the numbers after it, and the phones."""
    word, tab, rest = entry.partition("\t")
    if not tab:
        word, _, rest = entry.partition(" ")
    fields = rest.split()
    numbers = list(itertools.takewhile(_NUMBER.fullmatch, fields))
    return word.strip(), numbers, tuple(fields[len(numbers) :])


def _unmet(word: str, numbers: list[str], phones: tuple[str, ...], form: str) -> str:
    """What was expected of a line and is not so; empty where all is."""
    if not phones or ("PROBABILITY" in form and not numbers):
        return form
    if " " in word:
        return "a word without spaces before the tab"
    if any(map(_NUMBER.fullmatch, phones)):
        return "phones that are no numbers (rename such phones)"
    if len(numbers) not in (0, 1, 4):
        return "no number, one or four before the phones"
    if numbers and not 0 < float(numbers[0]) <= 1:
        return "a probability above 0 and at most 1"
    return ""


def _is_silence(ways: Iterable[Pronunciation]) -> bool:
    return all(len(way.units) == 1 and way.units[0].lower() == SILENCE for way in ways)


ENGLISH_DIGITS = {
    "zero": "z ih r ow",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f ay v",
    "six": "s ih k s",
    "seven": "s eh v ah n",
    "eight": "ey t",
    "nine": "n ay n",
}
"""Phones of the ten digits from the CMU dictionary, without stress marks."""


def digits_lexicon() -> Lexicon:
    """The ten English digits in phones.

    Example:
        >>> len(digits_lexicon().units)
        20
    """
    return Lexicon.of_phones(ENGLISH_DIGITS)


def lexicon_named(name: str, words: Iterable[str]) -> Lexicon:
    """The lexicon for `digits` (phones), `words` (whole-word units of `words`) or the path of a lexicon file.

    Raises:
        UsageError: `name` is none of these.
        DataError: the file has another format.
    """
    if name == "digits":
        return digits_lexicon()
    if name == "words":
        return Lexicon.of_words(words)
    if not Path(name).is_file():
        raise UsageError(f"lexicon {name!r} should be digits, words (whole-word models) or a lexicon.txt")
    return Lexicon.read(name)
