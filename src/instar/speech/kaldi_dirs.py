"""Kaldi data directories: `wav.scp`, `text`, `utt2spk` and `segments`."""

import functools
import math
import warnings
from pathlib import Path
from typing import NamedTuple

from instar.data.readers.audio import Samples, audio_form, read_audio, resample
from instar.errors import DataError, DataWarning
from instar.speech.corpus import Corpus, Utterance
from instar.speech.text_files import numbered_lines, shortened

WAV, TEXT, SPEAKERS, SEGMENTS = "wav.scp", "text", "utt2spk", "segments"
_OVERSHOOT_SECONDS = 0.5  # a segment may end so long after its recording, as Kaldi's extract-segments allows


class _Line(NamedTuple):
    """What follows the name on a line."""

    number: int
    rest: str


class _Segment(NamedTuple):
    """A part of a recording; `end_seconds` is infinite at the end of the recording."""

    recording: str
    start_seconds: float = 0.0
    end_seconds: float = math.inf


def load_kaldi_dir(folder: str | Path, *, sample_rate: int | None = None, need_text: bool = True) -> Corpus:
    """The corpus of a Kaldi data directory.

    `wav.scp` has lines `RECORDING PATH` (relative to the directory or to the current one), `text` has
    `UTTERANCE WORD WORD ...` and `utt2spk` has `UTTERANCE SPEAKER`. Each recording is an utterance, unless there
    is a `segments` with lines `UTTERANCE RECORDING START END` in seconds, where an END of -1 is that of the
    recording. Several channels are averaged and other sample rates are resampled, each with one warning for the
    whole directory. Commands in `wav.scp` are refused.

    Args:
        folder: the directory.
        sample_rate: of the corpus, Hz; by default that of its first file.
        need_text: require a transcript for each utterance; otherwise those without one have no words.

    Returns: utterances in the order of `segments`, or of `wav.scp`. A segment that ends up to half a second after
        its recording ends with it; one that ends later is refused when it is read.

    Raises:
        DataError: a file is missing, empty or no audio; `wav.scp` has a command; an id occurs twice; `text` or
            `utt2spk` has an utterance without audio; a segment is of no recording or has other times; an utterance
            has no speaker, or no transcript if it needs one.
        UsageError: soundfile is not installed.
    """
    folder = Path(folder)
    paths = {name: _audio_path(folder, name, line) for name, line in _table(folder / WAV).items()}
    segments = {name: _Segment(name) for name in paths}
    if (folder / SEGMENTS).exists():
        segments = _segments(folder / SEGMENTS, paths)
        paths = {segment.recording: paths[segment.recording] for segment in segments.values()}
    speakers = _table(folder / SPEAKERS)
    has_text = need_text or (folder / TEXT).exists()
    text = _table(folder / TEXT, may_be_empty=True) if has_text else {}
    for file, table in ((TEXT, text), (SPEAKERS, speakers)):
        unknown = [name for name in table if name not in segments]
        if unknown:
            raise DataError(
                f"{folder / file}: no audio for {_few(unknown)}; {WAV} or {SEGMENTS} has no line for it"
            )
    for file, table, needed in ((SPEAKERS, speakers, True), (TEXT, text, need_text)):
        missing = [name for name in segments if name not in table]
        if needed and missing:
            raise DataError(f"{folder / file}: no line for {_few(missing)}, which {WAV} or {SEGMENTS} has")
    rate = _checked_rate(paths, sample_rate)
    utterances = [
        Utterance(name, speakers[name].rest, tuple(text[name].rest.split()) if name in text else ())
        for name in segments
    ]

    @functools.lru_cache(maxsize=1)  # the segments of a recording follow one another
    def samples_of(path: Path) -> Samples:
        recording = read_audio(path)
        return resample(recording.samples, recording.sample_rate, rate)

    def read(utterance: Utterance) -> Samples:
        segment = segments[utterance.id]
        path = paths[segment.recording]
        return _cut(samples_of(path), segment, rate, f"{folder / SEGMENTS}: {utterance.id!r} of {path}")

    return Corpus(folder.name, rate, utterances, read)


def _segments(path: Path, recordings: dict[str, Path]) -> dict[str, _Segment]:
    """The segments by utterance; warns once of recordings without any."""
    segments = {}
    for name, line in _table(path).items():
        try:
            recording, start, end = line.rest.split()
            first, last = float(start), float(end)
        except ValueError:
            raise DataError(
                f"{path}, line {line.number}: expected UTTERANCE RECORDING START END, found "
                f"{shortened(line.rest)} after {name!r}"
            ) from None
        if not 0 <= first < (last if last != -1 else math.inf) or last == math.inf:
            raise DataError(
                f"{path}, line {line.number}: expected 0 <= START < END in seconds, found {start} and {end} for "
                f"{name!r}"
            )
        if recording not in recordings:
            raise DataError(f"{path}, line {line.number}: no line for the recording {recording!r} in {WAV}")
        segments[name] = _Segment(recording, first, math.inf if last == -1 else last)
    unused = [*recordings.keys() - {segment.recording for segment in segments.values()}]
    if unused:
        warnings.warn(
            f"{path}: no segment of {_few(sorted(unused))} of {len(recordings)} recordings; they are not used",
            DataWarning,
            stacklevel=3,
        )
    return segments


def _cut(samples: Samples, segment: _Segment, rate: int, name: str) -> Samples:
    seconds = len(samples) / rate
    if segment.start_seconds >= seconds or seconds + _OVERSHOOT_SECONDS < segment.end_seconds < math.inf:
        raise DataError(
            f"{name} is from {segment.start_seconds:g} to {segment.end_seconds:g} s, but the recording ends at "
            f"{seconds:.2f} s"
        )
    last = min(segment.end_seconds, seconds)
    return samples[round(segment.start_seconds * rate) : round(last * rate)].copy()


def _checked_rate(paths: dict[str, Path], sample_rate: int | None) -> int:
    """The sample rate of the corpus; warns once of files with other rates and once of several channels."""
    forms = {path: audio_form(path) for path in dict.fromkeys(paths.values())}
    rate = sample_rate or next(iter(forms.values()))[0]
    others = [path for path, (own, _) in forms.items() if own != rate]
    if others:
        warnings.warn(
            f"{len(others)} of {len(forms)} files are not at {rate} Hz and are resampled, the first is "
            f"{others[0]} at {forms[others[0]][0]} Hz",
            DataWarning,
            stacklevel=3,
        )
    several = [path for path, (_, channels) in forms.items() if channels > 1]
    if several:
        warnings.warn(
            f"{len(several)} of {len(forms)} files have several channels, which are averaged, the first is "
            f"{several[0]} with {forms[several[0]][1]}",
            DataWarning,
            stacklevel=3,
        )
    return rate


def _table(path: Path, *, may_be_empty: bool = False) -> dict[str, _Line]:
    """The lines of a file by the names that they begin with."""
    table: dict[str, _Line] = {}
    for number, line in numbered_lines(path):
        name, rest = [*line.split(maxsplit=1), ""][:2]
        if name in table:
            raise DataError(f"{path}, line {number}: {name!r} occurs twice; each utterance should have one line")
        if not rest and not may_be_empty:
            raise DataError(f"{path}, line {number}: nothing follows {name!r}")
        table[name] = _Line(number, rest)
    if not table:
        raise DataError(f"{path}: the file has no lines")
    return table


def _audio_path(folder: Path, name: str, line: _Line) -> Path:
    if line.rest.endswith("|") or line.rest.startswith("|"):
        raise DataError(
            f"{folder / WAV}, line {line.number}: {name!r} is a command ({shortened(line.rest)}); commands are "
            "never run: write its output to a wav or flac file and put the path of that file here"
        )
    for path in (folder / line.rest, Path(line.rest)):
        if path.is_file():
            return path
    raise DataError(f"{folder / WAV}, line {line.number}: the file of {name!r}, {line.rest}, does not exist")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"
