"""The recordings of a recogniser or of a fold of the study, and their frames as data sets."""

import functools
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from instar.errors import DataError
from instar.files import load_tensors
from instar.recipes.speech.settings import KALDI, RecogniserData, Source
from instar.recipes.speech.splits import Part, fold_parts, recogniser_parts, study_corpora
from instar.speech.connected import quiet_id
from instar.speech.corpus import Corpus
from instar.speech.features import Features, FeatureSettings, Statistics, features_of
from instar.speech.frames import FrameDataset
from instar.speech.hmm import HMM
from instar.speech.lexicon import Lexicon, lexicon_named
from instar.speech.recogniser import average_speaker

ALIGNED = ("train", "validation", "test")
"""The parts whose utterances are aligned with their words."""
UNTRANSCRIBED = "untranscribed"
STATES, MODELS = "{part}.safetensors", "hmm.json"
"""Files of an alignment: the states of a part's utterances, and the HMM."""


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings by part: `train`, `validation`, `test` and, in the study, `untranscribed`."""

    parts: dict[str, Part]

    def __getitem__(self, part: str) -> Part:
        return self.parts[part]

    @property
    def fingerprint(self) -> str:
        """A hash of all parts."""
        return " ".join(dict.fromkeys(part.corpus.fingerprint[:16] for part in self.parts.values()))

    @property
    def sample_rate(self) -> int:
        """Of all recordings, Hz."""
        return self.parts["train"].corpus.sample_rate

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the training transcripts, of all speakers."""
        return tuple(
            sorted({word for utterance in self.parts["train"].quiet.utterances for word in utterance.words})
        )


@functools.lru_cache(maxsize=16)
def load_recordings(source: Source) -> Recordings:
    """The recordings of a configuration; loaded once in a process.

    Raises:
        DataError: recordings are damaged or missing, have no words, or too few speakers.
        UsageError: an unknown name, folder, speaker or fold, or a recording in two parts.
    """
    if isinstance(source.data, RecogniserData):
        return Recordings(recogniser_parts(source.data))
    return Recordings(fold_parts(source.data, source.fold or 0))


@functools.lru_cache(maxsize=2)
def _statistics(train: Corpus, settings: FeatureSettings) -> Statistics:
    return average_speaker(train, settings)


def load_statistics(source: Source) -> Statistics:
    """The statistics of an average training speaker, or of all training frames (`global`)."""
    return _statistics(load_recordings(source)["train"].corpus, source.features.features)


@functools.lru_cache(maxsize=12)
def _features(corpus: Corpus, settings: FeatureSettings, statistics: Statistics | None) -> Features:
    return features_of(corpus, settings, statistics=statistics)


def load_features(source: Source, part: str, *, quiet: bool = False) -> Features:
    """The normalised features of the corpus of a part; in the study it has the other speakers too."""
    chosen = load_recordings(source)[part]
    statistics = load_statistics(source) if source.features.normalisation == "global" else None
    return _features(chosen.quiet if quiet else chosen.corpus, source.features.features, statistics)


@functools.lru_cache(maxsize=8)
def load_frames(
    source: Source, part: str, alignment: Path, *, quiet: bool = False, all_utterances: bool = False
) -> FrameDataset:
    """The frames of a part, labelled with the states of an alignment.

    Args:
        source: of the frames.
        part: `untranscribed` has no labels.
        alignment: run directory of an alignment job.
        quiet: the recordings without noise.
        all_utterances: keep the utterances that were not aligned, without labels.

    Raises:
        DataError: no utterance of the part was aligned.
    """
    features, chosen = load_features(source, part, quiet=quiet), load_recordings(source)[part]
    utterances = chosen.quiet_utterances if quiet else chosen.utterances
    labels = {}
    if part != UNTRANSCRIBED:
        states = read_states(alignment, part)
        labels = {
            utterance.id: states[quiet_id(utterance)] for utterance in utterances if quiet_id(utterance) in states
        }
        if not labels:
            raise DataError(f"{alignment}: no utterance of the {part} part is aligned")
    window = source.features
    names = HMM.load(alignment / MODELS).state_names
    frames = FrameDataset(features, labels, class_names=names, left=window.left, right=window.right)
    is_whole = all_utterances or part == UNTRANSCRIBED
    return frames.of_utterances([utterance.id for utterance in utterances] if is_whole else list(labels))


def read_states(alignment: Path, part: str) -> dict[str, Tensor]:
    """The states of a part's utterances, from the run directory of an alignment job."""
    return load_tensors(alignment / STATES.format(part=part))[0]


def num_frames(source: Source, part: str) -> int:
    """The number of frames of a part."""
    features = load_features(source, part)
    return sum(len(features.of(utterance)) for utterance in load_recordings(source)[part].utterances)


def default_lexicon(data: str) -> str:
    """The lexicon of recordings by default: the digits in phones, a data directory's lexicon.txt, or its words."""
    if data == "fsdd":
        return "digits"
    path = Path(data.removeprefix(KALDI)) / "lexicon.txt"
    return str(path) if path.is_file() else "words"


def choose_lexicon(name: str, recordings: Recordings) -> Lexicon:
    """The vocabulary of a recogniser: the training words, and all others with phones that training has.

    Raises:
        DataError: a word of the training transcripts is not in the lexicon.
        UsageError: there is no such lexicon.
    """
    whole = lexicon_named(name, recordings.words)
    phones = set(whole.of(recordings.words).units)
    return whole.of(word for word, ways in whole.words.items() if all(set(way.units) <= phones for way in ways))


def forget_recordings() -> None:
    """Empty all caches of recordings, so that changed files are read again."""
    for cached in (study_corpora, load_recordings, _statistics, _features, load_frames):
        cached.cache_clear()
