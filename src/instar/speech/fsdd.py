"""The Free Spoken Digit Dataset: six speakers, each digit fifty times, 8 kHz."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from instar.data.fetch import fetch
from instar.data.sources import FSDD, cache_folder, find
from instar.errors import DataError
from instar.speech.audio import decode_audio
from instar.speech.corpus import Corpus, Utterance

SAMPLE_RATE = 8000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_OFFICIAL_TEST = 5  # the publisher's test set: recordings 0 to 4 of each digit and speaker
_MEMBER = re.compile(r"(?:^|/)recordings/(\d)_([a-z]+)_(\d+)\.wav$")
_ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e8.zip"
# Of the recordings alone: GitHub packs an archive anew when it is asked for, and its bytes may change.
_CONTENT_SHA256 = "d522bc382eaed50b85a844cfc46296c842881e6b1e4cd9c6406571c814417cb7"


class Fold(NamedTuple):
    """A way to hold speakers out: nobody who trains is heard in validation or test."""

    train: tuple[str, ...]
    validation: str
    test: str


def load_fsdd(*, base_url: str | None = None, progress: bool = True) -> Corpus:
    """The 3,000 recordings, found under `INSTAR_DATA` or in the cache, or fetched once.

    Args:
        base_url: another address of the archive.
        progress: draw a bar on stderr while it is fetched.

    Returns: utterances `DIGIT_SPEAKER_INDEX` of one word each, in the order of their names.

    Raises:
        DataError: the archive is damaged, or is neither here nor can be fetched.
        UsageError: `INSTAR_DATA` is no folder, or soundfile is not installed.

    References:
        Jackson, Souza, Flaks et al. 2018, doi 10.5281/zenodo.1342401; licence CC BY-SA 4.0.
    """
    found = find(FSDD)
    if found is not None:
        path = found[0] / found[1][0]
    else:
        path = cache_folder() / FSDD.name / next(iter(FSDD.files))
        fetch(base_url or _ADDRESS, path, check=_check_content, progress=progress)
    return read_fsdd(path)


def read_fsdd(path: Path) -> Corpus:
    """The recordings of an archive with `recordings/DIGIT_SPEAKER_INDEX.wav`, or of a part of it.

    Raises:
        DataError: the archive is damaged, or has no such file.
        UsageError: soundfile is not installed.
    """
    samples, utterances = {}, []
    for digit, speaker, index, content in sorted(_members(path)):
        name = f"{digit}_{speaker}_{index}"
        recording = decode_audio(content, f"{path}: {name}.wav")
        if recording.sample_rate != SAMPLE_RATE:
            raise DataError(f"{path}: {name}.wav has {recording.sample_rate} Hz, expected {SAMPLE_RATE}")
        samples[name] = recording.samples
        utterances.append(Utterance(name, speaker, (DIGITS[digit],)))
    if not utterances:
        raise DataError(f"{path}: there is no recordings/DIGIT_SPEAKER_INDEX.wav in it")
    return Corpus("fsdd", SAMPLE_RATE, utterances, lambda one: samples[one.id])


def official_split(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """Training and test recordings as the publisher cuts them: of each digit and speaker 0 to 4 are the test.

    Raises:
        DataError: a part is empty.
    """
    return (
        corpus.where(lambda one: recording_index(one) >= NUM_OFFICIAL_TEST),
        corpus.where(lambda one: recording_index(one) < NUM_OFFICIAL_TEST),
    )


def recording_index(utterance: Utterance) -> int:
    """The number of a recording among those of its digit and speaker.

    Example:
        >>> recording_index(Utterance("7_theo_12", "theo", ("seven",)))
        12
    """
    return int(utterance.id.rpartition("_")[2])


def speaker_folds(corpus: Corpus) -> list[Fold]:
    """Each speaker once as the test, the next one for validation, the others to train on.

    Raises:
        DataError: there are fewer than three speakers.

    Example:
        >>> import numpy as np
        >>> said = [Utterance(name, name) for name in ("ann", "bob", "cy", "di")]
        >>> speaker_folds(Corpus("all", 8000, said, lambda _: np.zeros(1)))[3]
        Fold(train=('bob', 'cy'), validation='ann', test='di')
    """
    speakers = corpus.speakers
    if len(speakers) < 3:
        raise DataError(
            f"corpus {corpus.name!r} has {len(speakers)} speakers; to hold two out takes at least three"
        )
    folds = []
    for number, test in enumerate(speakers):
        validation = speakers[(number + 1) % len(speakers)]
        train = tuple(one for one in speakers if one not in (test, validation))
        folds.append(Fold(train, validation, test))
    return folds


def _members(path: Path) -> Iterator[tuple[int, str, int, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if found := _MEMBER.search(name):
                    yield int(found[1]), found[2], int(found[3]), archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged archive ({error}); remove it and get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_content(path: Path) -> None:
    digest = hashlib.sha256()
    for *name, content in sorted(_members(path)):
        digest.update(repr(name).encode() + hashlib.sha256(content).digest())
    if digest.hexdigest() != _CONTENT_SHA256:
        raise DataError(f"the recordings in it have checksum {digest.hexdigest()} instead of {_CONTENT_SHA256}")
