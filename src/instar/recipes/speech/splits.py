"""How recordings are split: held-out speakers for a recogniser, folds by speaker for the study.

No recording is in two parts. No speaker is either, unless there are fewer than three, or a part has a folder of
its own with the same speaker.
"""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from instar.errors import DataError, UsageError
from instar.naming import unknown_name
from instar.recipes.speech.settings import KALDI, Ratio, RecogniserData, StudyData
from instar.speech.connected import connected_words, in_noise, quiet_id
from instar.speech.corpus import Corpus, Utterance, joined
from instar.speech.fsdd import load_fsdd, recording_index, speaker_folds
from instar.speech.kaldi_dirs import load_kaldi_dir

HELD_OUT_SHARE = 0.1  # of the speakers; of the recordings if there are fewer than three speakers
_SEEDED = ("train", "validation", "test")  # their order decides the seeds of a recogniser's parts
_TRAIN, _UNTRANSCRIBED, _TEST = 1, 2, 3  # seeds of the study's strings
_NUM_UNTRANSCRIBED_RECORDINGS = 15  # of the 50 of each digit and speaker


@dataclass(frozen=True, eq=False)
class Part:
    """Utterances of some speakers.

    Attributes:
        corpus: the recordings that networks see, perhaps in noise.
        quiet: the same without noise, from which the states are aligned.
        speakers: of this part; the corpora may have others.
    """

    corpus: Corpus
    quiet: Corpus
    speakers: tuple[str, ...]

    @property
    def utterances(self) -> list[Utterance]:
        """The utterances of the speakers."""
        return [utterance for utterance in self.corpus.utterances if utterance.speaker in self.speakers]

    @property
    def quiet_utterances(self) -> list[Utterance]:
        """Those of the quiet corpus."""
        return [utterance for utterance in self.quiet.utterances if utterance.speaker in self.speakers]


def recogniser_parts(settings: RecogniserData) -> dict[str, Part]:
    """The recordings for training, validation and test of a recogniser.

    Raises:
        DataError: recordings are damaged or missing, or have no words.
        UsageError: an unknown name, folder or speaker, or a recording in two parts.
    """
    corpus = _load(settings.name)
    parts: dict[str, Corpus] = {}
    for part, name in (("test", settings.test), ("validation", settings.validation)):
        if name is not None:
            parts[part] = _load(name, sample_rate=corpus.sample_rate)
    own_folders = set(parts)
    for part, speakers in (("test", settings.test_speakers), ("validation", settings.validation_speakers)):
        if speakers is not None and part in parts:
            raise UsageError(f"{part} and {part}_speakers are both given; choose one")
        if speakers is not None:
            parts[part] = corpus.of_speakers(speakers)
            corpus = _without(corpus, parts[part], f"{part}_speakers holds out every speaker")
    for part in ("test", "validation"):
        if part not in parts:
            parts[part] = _held_out(corpus, settings.seed, part)
            corpus = _without(corpus, parts[part], "there is one utterance; training needs more")
    parts["train"] = corpus
    _check_apart(parts, own_folders)
    if settings.fraction < 1:
        parts = {part: whole.share(settings.fraction, seed=settings.seed) for part, whole in parts.items()}
    if settings.name == "fsdd" and settings.strings:
        parts = {part: _with_strings(single, settings, part) for part, single in parts.items()}
    for part, whole in parts.items():
        if not any(utterance.words for utterance in whole.utterances):
            raise DataError(f"the {part} recordings of {settings.name} have no words; they need transcripts")
    return {part: Part(parts[part], parts[part], parts[part].speakers) for part in _SEEDED}


def _load(name: str, *, sample_rate: int | None = None) -> Corpus:
    if name == "fsdd":
        return load_fsdd()
    if name.startswith(KALDI):
        return load_kaldi_dir(name.removeprefix(KALDI), sample_rate=sample_rate)
    raise unknown_name("corpus", name, ["fsdd", f"{KALDI}FOLDER"])


def _check_apart(parts: dict[str, Corpus], own_folders: set[str]) -> None:
    """Check that parts with folders of their own share no recording with another; compares shared speakers.

    Raises:
        UsageError: names the first recording in two parts.
    """
    for one, other in itertools.combinations(_SEEDED, 2):
        if own_folders & {one, other}:
            shared = set(parts[one].speakers) & set(parts[other].speakers)
            known = dict(_digests(parts[one], shared))
            for digest, name in _digests(parts[other], shared):
                if digest in known:
                    raise UsageError(
                        f"{other} recording {name!r} is in {one} too, as {known[digest]!r}: "
                        "remove it from one of the two"
                    )


def _digests(corpus: Corpus, speakers: set[str]) -> Iterator[tuple[bytes, str]]:
    """A digest of each recording of some speakers, and its id."""
    for utterance in corpus.utterances:
        if utterance.speaker in speakers:
            yield hashlib.sha256(corpus.audio(utterance).tobytes()).digest(), utterance.id


def _held_out(corpus: Corpus, seed: int, part: str) -> Corpus:
    """A tenth of the speakers, at least one; a tenth of the recordings if there are fewer than three speakers.

    The seed moves the choice along the alphabetical list of speakers; seed 0 starts with the first.
    """
    speakers = corpus.speakers
    if len(speakers) < 3:
        return corpus.share(HELD_OUT_SHARE, seed=seed + _SEEDED.index(part))
    number = max(1, round(HELD_OUT_SHARE * len(speakers)))
    start = seed * number % len(speakers)
    return corpus.of_speakers([speakers[(start + k) % len(speakers)] for k in range(number)])


def _without(corpus: Corpus, other: Corpus, message: str) -> Corpus:
    removed = {utterance.id for utterance in other.utterances}
    if len(removed) == len(corpus):
        raise UsageError(f"corpus {corpus.name!r}: {message}")
    return corpus.where(lambda utterance: utterance.id not in removed)


def _with_strings(corpus: Corpus, settings: RecogniserData, part: str) -> Corpus:
    number = max(1, round(settings.strings * settings.fraction))
    strings = connected_words(corpus, number, seed=3 * settings.seed + _SEEDED.index(part))
    return joined(corpus.name, [corpus, strings])


def fold_parts(settings: StudyData, fold: int) -> dict[str, Part]:
    """The recordings of a fold of the study; its validation and test speakers are heard nowhere else in it.

    Raises:
        DataError: recordings are damaged or missing, or have fewer than three speakers.
        UsageError: an unknown name, or there is no such fold.
    """
    single, train, untranscribed, test = study_corpora(settings)
    folds = speaker_folds(single)
    if not 0 <= fold < len(folds):
        raise UsageError(f"fold {fold}: {settings.name} has {len(folds)} speakers, so folds 0 to {len(folds) - 1}")
    held_out = folds[fold]
    return {
        "train": Part(*train, held_out.train),
        "untranscribed": Part(*untranscribed, held_out.train),
        "validation": Part(*test, (held_out.validation,)),
        "test": Part(*test, (held_out.test,)),
    }


NoisyAndQuiet = tuple[Corpus, Corpus]


@functools.lru_cache(maxsize=2)
def study_corpora(settings: StudyData) -> tuple[Corpus, NoisyAndQuiet, NoisyAndQuiet, NoisyAndQuiet]:
    """All recordings, and those of all speakers for training, without transcripts, and for test."""
    single = _load(settings.name)
    if settings.name == "fsdd":
        other = single.where(lambda utterance: recording_index(utterance) < _NUM_UNTRANSCRIBED_RECORDINGS)
    else:
        other = single.share(_NUM_UNTRANSCRIBED_RECORDINGS / 50, seed=settings.seed)
    transcribed = _without(single, other, "there is one utterance; training needs more")

    def made(base: Corpus, num_strings: int, part: int) -> Callable[[Ratio], Corpus]:
        def in_this(ratio: Ratio) -> Corpus:
            snr_db = None if ratio == "clean" else float(ratio)
            if settings.name == "fsdd":
                return connected_words(base, num_strings, snr_db=snr_db, seed=10 * settings.seed + part)
            return base if snr_db is None else in_noise(base, snr_db, seed=settings.seed)

        return in_this

    return (
        single,
        _noises_in_turn(made(transcribed, settings.train_strings, _TRAIN), settings.train_noise),
        _noises_in_turn(made(other, settings.untranscribed_strings, _UNTRANSCRIBED), settings.train_noise),
        _all_noises(made(single, settings.test_strings, _TEST), settings.test_noise),
    )


def _all_noises(made: Callable[[Ratio], Corpus], noises: tuple[Ratio, ...]) -> NoisyAndQuiet:
    """Every utterance in all noises."""
    return joined("speech", [made(ratio) for ratio in noises]), made("clean")


def _noises_in_turn(made: Callable[[Ratio], Corpus], noises: tuple[Ratio, ...]) -> NoisyAndQuiet:
    """Each utterance in one noise; the noises take turns."""
    quiet = made("clean")
    turns = {utterance.id: row % len(noises) for row, utterance in enumerate(quiet.utterances)}
    noisy = [
        made(ratio).where(lambda utterance, turn=turn: turns[quiet_id(utterance)] == turn)  # type: ignore[misc]
        for turn, ratio in enumerate(noises)
    ]
    return joined("speech", noisy), quiet
