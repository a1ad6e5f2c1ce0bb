"""Pronunciation lexicons: each word as a sequence of units (phones, or the whole word)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from instar.errors import DataError, UsageError
from instar.naming import unknown_name

SILENCE = "sil"


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
        """Read a Kaldi `lexicon.txt` (WORD PHONE PHONE ...) or `lexiconp.txt` (WORD PROBABILITY PHONE ...).

        A word on several lines has several pronunciations. A line such as `!SIL SIL` names the silence unit and is
        not a word.

        Raises:
            DataError: the file cannot be read, or a line has another format.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"lexicon {path} cannot be read: {error}") from error
        has_probs = path.name.startswith("lexiconp")
        words: dict[str, list[Pronunciation]] = {}
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if not parts:
                continue
            way = _pronunciation(parts[1:], has_probs)
            if way is None:
                form = "WORD PROBABILITY PHONE ..." if has_probs else "WORD PHONE ..."
                raise DataError(f"lexicon {path}, line {number}: expected {form}, found {line!r}")
            if way not in words.setdefault(parts[0], []):
                words[parts[0]].append(way)
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


def _pronunciation(parts: list[str], has_prob: bool) -> Pronunciation | None:
    if not has_prob:
        return Pronunciation(tuple(parts)) if parts else None
    try:
        prob = float(parts[0]) if len(parts) > 1 else 0.0
    except ValueError:
        return None
    return Pronunciation(tuple(parts[1:]), math.log(prob)) if 0 < prob <= 1 else None


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
    """The lexicon for `digits` (phones), `words` (whole-word units of `words`) or the path of a Kaldi lexicon.

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
