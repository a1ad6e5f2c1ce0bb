"""The recordings that a recogniser learns from, is judged by and is tested on: none is in two of these parts.

No speaker is either, but where there are fewer than three, or where a part's own folder has one of another's.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from instar.errors import DataError, UsageError
from instar.naming import unknown_name
from instar.recipes.settings import Settings
from instar.speech.connected import connected_words
from instar.speech.corpus import Corpus, joined
from instar.speech.features import Features, FeatureSettings, Normalisation, Statistics, features_of
from instar.speech.fsdd import load_fsdd
from instar.speech.kaldi_dirs import load_kaldi_dir
from instar.speech.lexicon import Lexicon, lexicon_named
from instar.speech.recogniser import average_speaker

HELD_OUT_SHARE = 0.1  # of the speakers, or of the recordings where there are fewer than three speakers
PARTS = ("train", "validation", "test")
KALDI = "kaldi:"

_Count = Annotated[int, Field(ge=0)]


class RecogniserData(Settings):
    """Which recordings, and who is held out."""

    name: str = "fsdd"
    """fsdd, or kaldi:FOLDER (wav.scp, text, utt2spk)"""
    validation: str | None = None
    """kaldi:FOLDER of its own; otherwise speakers are held out"""
    test: str | None = None
    """the same"""
    validation_speakers: list[str] | None = None
    test_speakers: list[str] | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """of each part's recordings"""
    strings: _Count = 40
    """of fsdd: connected digits of each speaker, besides the single ones"""
    seed: int = 0
    """of what is held out, and of the strings"""


class FeatureChoice(Settings):
    """How features are computed; see `FeatureSettings`."""

    num_mels: Annotated[int, Field(ge=1)] = 40
    normalisation: Normalisation = "speaker"
    left: _Count = 20
    """frames of context before the one that is told; the paper's window has 26"""
    right: _Count = 5

    @property
    def settings(self) -> FeatureSettings:
        """Without the context."""
        return FeatureSettings(num_mels=self.num_mels, normalisation=self.normalisation)


@dataclass(frozen=True, eq=False)
class Recordings:
    """Three parts of what there is; their recordings are of one sample rate."""

    train: Corpus
    validation: Corpus
    test: Corpus

    @property
    def fingerprint(self) -> str:
        """Of all three."""
        return " ".join(getattr(self, part).fingerprint[:16] for part in PARTS)

    @property
    def words(self) -> tuple[str, ...]:
        """Those of the training transcripts."""
        return tuple(sorted({word for one in self.train.utterances for word in one.words}))


@functools.lru_cache(maxsize=4)
def _loaded(settings: str) -> Recordings:
    return _recordings(RecogniserData.model_validate_json(settings))


def load_recordings(settings: RecogniserData) -> Recordings:
    """The recordings of a configuration; a process that does several jobs loads them once.

    Raises:
        DataError: they are damaged, are not there, or have no words.
        UsageError: an unknown name, folder or speaker, or a recording in two parts.
    """
    return _loaded(settings.model_dump_json())


def _recordings(settings: RecogniserData) -> Recordings:
    corpus = _corpus(settings.name)
    parts: dict[str, Corpus] = {}
    for part, name in (("test", settings.test), ("validation", settings.validation)):
        if name is not None:
            parts[part] = _corpus(name, sample_rate=corpus.sample_rate)
    folders = set(parts)
    for part, speakers in (("test", settings.test_speakers), ("validation", settings.validation_speakers)):
        if speakers is not None and part in parts:
            raise UsageError(f"{part} and {part}_speakers are both given; choose one")
        if speakers is not None:
            parts[part] = corpus.of_speakers(speakers)
            corpus = _without(corpus, parts[part], f"{part}_speakers holds out every speaker")
    for part in ("test", "validation"):
        if part not in parts:
            parts[part] = _held_out(corpus, settings.seed, part)
            corpus = _without(corpus, parts[part], "there is one utterance; training takes more")
    parts["train"] = corpus
    _check_apart(parts, folders)
    if settings.fraction < 1:
        parts = {part: one.share(settings.fraction, seed=settings.seed) for part, one in parts.items()}
    if settings.name == "fsdd" and settings.strings:
        parts = {part: _with_strings(one, settings, part) for part, one in parts.items()}
    for part, one in parts.items():
        if not any(utterance.words for utterance in one.utterances):
            raise DataError(f"the {part} recordings of {settings.name} have no words; they need transcripts")
    return Recordings(**parts)


def _corpus(name: str, *, sample_rate: int | None = None) -> Corpus:
    if name == "fsdd":
        return load_fsdd()
    if name.startswith(KALDI):
        return load_kaldi_dir(name.removeprefix(KALDI), sample_rate=sample_rate)
    raise unknown_name("corpus", name, ["fsdd", f"{KALDI}FOLDER"])


def _check_apart(parts: dict[str, Corpus], of_their_own: set[str]) -> None:
    """Whether parts that are folders of their own share a recording with another; only shared speakers are heard.

    Raises:
        UsageError: names the first recording in two parts.
    """
    for one, other in itertools.combinations(PARTS, 2):
        if of_their_own & {one, other}:
            shared = set(parts[one].speakers) & set(parts[other].speakers)
            heard = dict(_heard(parts[one], shared))
            for digest, name in _heard(parts[other], shared):
                if digest in heard:
                    raise UsageError(
                        f"{other} recording {name!r} is in {one} too, as {heard[digest]!r}: "
                        "take it out of one of the two"
                    )


def _heard(corpus: Corpus, speakers: set[str]) -> Iterator[tuple[bytes, str]]:
    """A digest of each recording of some speakers, and its id."""
    for one in corpus.utterances:
        if one.speaker in speakers:
            yield hashlib.sha256(corpus.audio(one).tobytes()).digest(), one.id


def _held_out(corpus: Corpus, seed: int, part: str) -> Corpus:
    """A tenth of the speakers, at least one; of fewer than three speakers a tenth of their recordings.

    Each of a corpus's first speakers may be the one; of six it is the first that is tested.
    """
    speakers = corpus.speakers
    if len(speakers) < 3:
        return corpus.share(HELD_OUT_SHARE, seed=seed + PARTS.index(part))
    number = max(1, round(HELD_OUT_SHARE * len(speakers)))
    start = seed * number % len(speakers)
    return corpus.of_speakers([speakers[(start + k) % len(speakers)] for k in range(number)])


def _without(corpus: Corpus, other: Corpus, message: str) -> Corpus:
    apart = {one.id for one in other.utterances}
    if len(apart) == len(corpus):
        raise UsageError(f"corpus {corpus.name!r}: {message}")
    return corpus.where(lambda one: one.id not in apart)


def _with_strings(corpus: Corpus, settings: RecogniserData, part: str) -> Corpus:
    number = max(1, round(settings.strings * settings.fraction))
    strings = connected_words(corpus, number, seed=3 * settings.seed + PARTS.index(part))
    return joined(corpus.name, [corpus, strings])


@functools.lru_cache(maxsize=2)
def load_statistics(data: str, features: FeatureSettings) -> Statistics:
    """Of an average training speaker, or of all training frames; `data` is the JSON of its settings."""
    return average_speaker(_loaded(data).train, features)


@functools.lru_cache(maxsize=6)
def _features(data: str, features: FeatureSettings, part: str) -> Features:
    statistics = load_statistics(data, features) if features.normalisation == "global" else None
    return features_of(getattr(_loaded(data), part), features, statistics=statistics)


def load_features(data: RecogniserData, features: FeatureSettings, part: str) -> Features:
    """The normalised features of a part."""
    return _features(data.model_dump_json(), features, part)


def choose_lexicon(name: str, recordings: Recordings) -> Lexicon:
    """The words that a recogniser will know: those of the training transcripts, and of a lexicon of phones all
    others that these phones can say.

    Raises:
        DataError: a word of the training transcripts is not in the lexicon.
        UsageError: there is no such lexicon.
    """
    whole = lexicon_named(name, recordings.words)
    phones = set(whole.of(recordings.words).units)
    return whole.of(word for word, ways in whole.words.items() if all(set(way.units) <= phones for way in ways))
