"""The data of the speech study: strings of words in noise, and the folds that hold speakers out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from instar.errors import DataError, UsageError
from instar.files import load_tensors
from instar.naming import unknown_name
from instar.recipes.settings import Settings
from instar.speech.connected import connected_words, in_noise, quiet_id
from instar.speech.corpus import Corpus, chosen_share, joined
from instar.speech.features import Features, features_of
from instar.speech.frames import FrameDataset
from instar.speech.fsdd import Fold, load_fsdd, recording_index, speaker_folds
from instar.speech.hmm import HMM
from instar.speech.kaldi_dirs import load_kaldi_dir
from instar.speech.lexicon import Lexicon, lexicon_named

STATES, MODELS = "alignment.safetensors", "hmm.json"
_TRAIN, _UNTRANSCRIBED, _TEST = 1, 2, 3  # seeds of the three parts' strings are apart
_NUM_UNTRANSCRIBED_RECORDINGS = 15  # of the 50 of each digit and speaker

_Count = Annotated[int, Field(ge=1)]
Ratio = float | Literal["clean"]
"""Signal-to-noise ratio in dB."""


class SpeechDataSettings(Settings):
    """Which recordings, and what is made of them."""

    name: str = "fsdd"
    """fsdd, or kaldi:FOLDER with at least three speakers"""
    lexicon: str = "words"
    """words (a model for each), digits (phones) or a Kaldi lexicon"""
    train_strings: _Count = 60
    """of each speaker, of fsdd: the noises take turns"""
    untranscribed_strings: _Count = 60
    """the same, of other recordings"""
    test_strings: _Count = 20
    """of each speaker, each in every noise"""
    train_noise: tuple[Ratio, ...] = ("clean", 15.0, 5.0)
    test_noise: tuple[Ratio, ...] = ("clean", 10.0, 5.0)
    seed: int = 0
    """of strings, pauses and noise"""


class Part(NamedTuple):
    """Utterances in noise, and the same without, from which their states are told."""

    noisy: Corpus
    quiet: Corpus


@dataclass(frozen=True, eq=False)
class Recordings:
    """What every fold takes its speakers from."""

    train: Part
    untranscribed: Part
    test: Part
    folds: list[Fold]
    lexicon: Lexicon

    @property
    def fingerprint(self) -> str:
        """Of all three parts."""
        return " ".join(part.noisy.fingerprint[:16] for part in (self.train, self.untranscribed, self.test))


@functools.lru_cache(maxsize=2)
def load_recordings(settings: SpeechDataSettings) -> Recordings:
    """The recordings of a configuration; a process that does several jobs loads them once.

    Raises:
        DataError: they are not there, are damaged or have too few speakers.
        UsageError: an unknown name.
    """
    if settings.name == "fsdd":
        single = load_fsdd()
        transcribed = single.where(lambda one: recording_index(one) >= _NUM_UNTRANSCRIBED_RECORDINGS)
        other = single.where(lambda one: recording_index(one) < _NUM_UNTRANSCRIBED_RECORDINGS)
        parts = (
            _connected(transcribed, settings.train_strings, settings, _TRAIN, settings.train_noise),
            _connected(other, settings.untranscribed_strings, settings, _UNTRANSCRIBED, settings.train_noise),
            _connected(single, settings.test_strings, settings, _TEST, settings.test_noise, is_each_in_all=True),
        )
        folds = speaker_folds(single)
    elif settings.name.startswith("kaldi:"):
        whole = load_kaldi_dir(settings.name.removeprefix("kaldi:"))
        other = whole.share(_NUM_UNTRANSCRIBED_RECORDINGS / 50, seed=settings.seed)
        apart = {one.id for one in other.utterances}
        transcribed = whole.where(lambda one: one.id not in apart)
        parts = (
            _in_noises(transcribed, settings, settings.train_noise),
            _in_noises(other, settings, settings.train_noise),
            _in_noises(whole, settings, settings.test_noise, is_each_in_all=True),
        )
        folds = speaker_folds(whole)
    else:
        raise unknown_name("corpus", settings.name, ["fsdd", "kaldi:FOLDER"])
    words = [word for one in parts[0].quiet.utterances for word in one.words]
    return Recordings(*parts, folds, lexicon_named(settings.lexicon, words))


def _connected(
    base: Corpus,
    number: int,
    settings: SpeechDataSettings,
    part: int,
    noises: tuple[Ratio, ...],
    *,
    is_each_in_all: bool = False,
) -> Part:
    def made(ratio: Ratio) -> Corpus:
        snr_db = None if ratio == "clean" else float(ratio)
        return connected_words(base, number, snr_db=snr_db, seed=10 * settings.seed + part)

    return _part(made, noises, is_each_in_all)


def _in_noises(
    base: Corpus, settings: SpeechDataSettings, noises: tuple[Ratio, ...], *, is_each_in_all: bool = False
) -> Part:
    def made(ratio: Ratio) -> Corpus:
        return base if ratio == "clean" else in_noise(base, float(ratio), seed=settings.seed)

    return _part(made, noises, is_each_in_all)


def _part(made: Callable[[Ratio], Corpus], noises: tuple[Ratio, ...], is_each_in_all: bool) -> Part:
    """Every utterance in all noises, or the noises in turns."""
    quiet = made("clean")
    if is_each_in_all:
        return Part(joined("speech", [made(ratio) for ratio in noises]), quiet)
    turns = {one.id: row % len(noises) for row, one in enumerate(quiet.utterances)}
    noisy = [
        made(ratio).where(lambda one, turn=turn: turns[quiet_id(one)] == turn)  # type: ignore[misc]
        for turn, ratio in enumerate(noises)
    ]
    return Part(joined("speech", noisy), quiet)


@functools.lru_cache(maxsize=12)
def part_features(settings: SpeechDataSettings, part: str, is_quiet: bool = False) -> Features:
    """The features of `train`, `untranscribed` or `test`, of all speakers, mapped from the cache."""
    recordings: Part = getattr(load_recordings(settings), part)
    return features_of(recordings.quiet if is_quiet else recordings.noisy)


def prepare_features(settings: SpeechDataSettings) -> None:
    """Compute all features once, before several processes ask for them at the same time."""
    for part in ("train", "untranscribed", "test"):
        part_features(settings, part)
    for part in ("train", "test"):
        part_features(settings, part, is_quiet=True)


def fold_of(settings: SpeechDataSettings, fold: int) -> Fold:
    """Who is heard when.

    Raises:
        UsageError: there is no such fold.
    """
    folds = load_recordings(settings).folds
    if not 0 <= fold < len(folds):
        raise UsageError(f"fold {fold}: {settings.name} has {len(folds)} speakers, so folds 0 to {len(folds) - 1}")
    return folds[fold]


@dataclass(frozen=True, eq=False)
class FoldData:
    """What one fold learns from and is judged by, its states told by one alignment."""

    fold: Fold
    hmm: HMM
    train: FrameDataset
    untranscribed: FrameDataset
    validation: FrameDataset
    test: FrameDataset

    def training_part(self, part: str, share: float, seed: int) -> FrameDataset:
        """`train` or `untranscribed`, or a share of the train utterances of each speaker."""
        if part == "untranscribed":
            return self.untranscribed
        if share == 1:
            return self.train
        return self.train.of_utterances([one.id for one in chosen_share(self.train.utterances, share, seed=seed)])


@functools.lru_cache(maxsize=2)
def load_fold(settings: SpeechDataSettings, fold: int, alignment: Path) -> FoldData:
    """The frames of a fold, with the states that an alignment's run directory has for them.

    Utterances that could not be aligned are left out of everything that needs their states.
    """
    states, _ = load_tensors(alignment / STATES)
    hmm, held = HMM.load(alignment / MODELS), fold_of(settings, fold)

    def frames(part: str, speakers: tuple[str, ...], *, are_labelled: bool = True) -> FrameDataset:
        features = part_features(settings, part)
        said = [one for one in features.utterances if one.speaker in speakers]
        labels: dict[str, Tensor] = {}
        if are_labelled:
            labels = {one.id: states[quiet_id(one)] for one in said if quiet_id(one) in states}
            said = [one for one in said if one.id in labels]
        if not said:
            raise DataError(f"fold {fold}: nothing that {', '.join(speakers)} says in {part} has states")
        data = FrameDataset(features, labels, class_names=hmm.state_names)
        return data.of_utterances([one.id for one in said])

    return FoldData(
        held,
        hmm,
        frames("train", held.train),
        frames("untranscribed", held.train, are_labelled=False),
        frames("test", (held.validation,)),
        frames("test", (held.test,)),
    )
