"""The Free Spoken Digit Dataset: six speakers, each digit fifty times, 8 kHz."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from instar.data.fetch import fetch
from instar.data.readers.audio import decode_audio
from instar.data.sources import FSDD, cache_folder, find
from instar.errors import DataError
from instar.speech.corpus import Corpus, Utterance

SAMPLE_RATE = 8000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_OFFICIAL_TEST = 5  # the publisher's test set: recordings 0 to 4 of each digit and speaker
_MEMBER = re.compile(r"(?:^|/)recordings/(\d)_([a-z]+)_(\d+)\.wav$")
_ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e8.zip"
# Of the recordings, not of the archive: GitHub packs archives on request, and their bytes may change.
_CONTENT_SHA256 = "d522bc382eaed50b85a844cfc46296c842881e6b1e4cd9c6406571c814417cb7"


class Fold(NamedTuple):
    """A split by speaker: one for validation, one for test, the others for training."""

    train: tuple[str, ...]
    validation: str
    test: str


def load_fsdd(*, base_url: str | None = None, progress: bool = True) -> Corpus:
    """The 3,000 recordings, from `INSTAR_DATA` or the cache; downloaded if they are in neither.

    Args:
        base_url: another address of the archive.
        progress: show a progress bar on stderr during the download.

    Returns: utterances `DIGIT_SPEAKER_INDEX` of one word each, sorted by name.

    Raises:
        DataError: the archive is damaged, or is missing and cannot be downloaded.
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
    """Read the recordings `recordings/DIGIT_SPEAKER_INDEX.wav` in an archive; not all of them need be there.

    Raises:
        DataError: the archive is damaged or has no such file.
        UsageError: soundfile is not installed.
    """
    samples, utterances = {}, []
    for digit, speaker, index, content in sorted(_members(path)):
        name = f"{digit}_{speaker}_{index}"
        recording = decode_audio(content, f"{path}: {name}.wav")
        if recording.sample_rate != SAMPLE_RATE:
            raise DataError(f"{path}: {name}.wav has a rate of {recording.sample_rate} Hz, expected {SAMPLE_RATE}")
        samples[name] = recording.samples
        utterances.append(Utterance(name, speaker, (DIGITS[digit],)))
    if not utterances:
        raise DataError(f"{path}: contains no recordings/DIGIT_SPEAKER_INDEX.wav")
    return Corpus("fsdd", SAMPLE_RATE, utterances, lambda utterance: samples[utterance.id])


def official_split(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The publisher's training and test sets: recordings 0 to 4 of each digit and speaker are the test set.

    Raises:
        DataError: a part is empty.
    """
    return (
        corpus.where(lambda utterance: recording_index(utterance) >= NUM_OFFICIAL_TEST),
        corpus.where(lambda utterance: recording_index(utterance) < NUM_OFFICIAL_TEST),
    )


def recording_index(utterance: Utterance) -> int:
    """The number of a recording among those of the same digit and speaker.

    Example:
        >>> recording_index(Utterance("7_theo_12", "theo", ("seven",)))
        12
    """
    return int(utterance.id.rpartition("_")[2])


def speaker_folds(corpus: Corpus) -> list[Fold]:
    """One fold for each speaker: this one for test, the next one for validation, the others for training.

    Raises:
        DataError: there are fewer than three speakers.

    Example:
        >>> import numpy as np
        >>> utterances = [Utterance(name, name) for name in ("ann", "bob", "cy", "di")]
        >>> speaker_folds(Corpus("all", 8000, utterances, lambda _: np.zeros(1)))[3]
        Fold(train=('bob', 'cy'), validation='ann', test='di')
    """
    speakers = corpus.speakers
    if len(speakers) < 3:
        raise DataError(
            f"corpus {corpus.name!r} has {len(speakers)} speakers; folds by speaker need at least three"
        )
    folds = []
    for number, test in enumerate(speakers):
        validation = speakers[(number + 1) % len(speakers)]
        train = tuple(speaker for speaker in speakers if speaker not in (test, validation))
        folds.append(Fold(train, validation, test))
    return folds


def _members(path: Path) -> Iterator[tuple[int, str, int, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if found := _MEMBER.search(name):
                    yield int(found[1]), found[2], int(found[3]), archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged archive ({error}); delete it to download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_content(path: Path) -> None:
    digest = hashlib.sha256()
    for *name, content in sorted(_members(path)):
        digest.update(repr(name).encode() + hashlib.sha256(content).digest())
    if digest.hexdigest() != _CONTENT_SHA256:
        raise DataError(f"its recordings have checksum {digest.hexdigest()}, expected {_CONTENT_SHA256}")
