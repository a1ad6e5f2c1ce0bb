"""Kaldi data directories: `wav.scp`, `text` and `utt2spk`."""

import warnings
from pathlib import Path

from instar.errors import DataError, DataWarning
from instar.speech.audio import Samples, audio_form, read_audio, resample
from instar.speech.corpus import Corpus, Utterance

WAV, TEXT, SPEAKERS, SEGMENTS = "wav.scp", "text", "utt2spk", "segments"


def load_kaldi_dir(folder: str | Path, *, sample_rate: int | None = None, need_text: bool = True) -> Corpus:
    """The corpus of a Kaldi data directory.

    `wav.scp` has lines `UTTERANCE PATH` (relative to the directory or to the current one), `text` has
    `UTTERANCE WORD WORD ...` and `utt2spk` has `UTTERANCE SPEAKER`. Several channels are averaged and other sample
    rates are resampled, each with one warning for the whole directory. Commands in `wav.scp` are refused.

    Args:
        folder: the directory.
        sample_rate: of the corpus, Hz; by default that of its first file.
        need_text: require a transcript for each recording; otherwise those without one have no words.

    Returns: utterances in the order of `wav.scp`.

    Raises:
        DataError: a file is missing, empty or no audio; `wav.scp` has a command; an id occurs twice; `text` or
            `utt2spk` has an utterance without audio; a recording has no speaker, or no transcript if it needs one.
        UsageError: soundfile is not installed.
    """
    folder = Path(folder)
    if (folder / SEGMENTS).exists():
        raise DataError(
            f"{folder / SEGMENTS}: segments are not supported; cut the recordings into one file per utterance"
        )
    paths = {name: _audio_path(folder, name, rest) for name, rest in _table(folder / WAV).items()}
    speakers = _table(folder / SPEAKERS)
    has_text = need_text or (folder / TEXT).exists()
    text = _table(folder / TEXT, may_be_empty=True) if has_text else {}
    for file, table in ((TEXT, text), (SPEAKERS, speakers)):
        _check_known(folder / file, table, paths)
    for file, table, needed in ((SPEAKERS, speakers, True), (TEXT, text, need_text)):
        missing = [name for name in paths if name not in table]
        if needed and missing:
            raise DataError(f"{folder / file}: no line for {_few(missing)}, which {WAV} has")
    sample_rate = _checked_rate(paths, sample_rate)
    utterances = [Utterance(name, speakers[name], tuple(text.get(name, "").split())) for name in paths]

    def read(utterance: Utterance) -> Samples:
        recording = read_audio(paths[utterance.id])
        return resample(recording.samples, recording.sample_rate, sample_rate)

    return Corpus(folder.name, sample_rate, utterances, read)


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


def _table(path: Path, *, may_be_empty: bool = False) -> dict[str, str]:
    """The lines of a file, each split into a name and the rest."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, rest = [*line.split(maxsplit=1), "", ""][:2]
        if not name:
            continue
        if name in table:
            raise DataError(f"{path}, line {number}: {name!r} occurs twice; each utterance should have one line")
        if not rest.strip() and not may_be_empty:
            raise DataError(f"{path}, line {number}: nothing follows {name!r}")
        table[name] = rest.strip()
    if not table:
        raise DataError(f"{path}: the file has no lines")
    return table


def _audio_path(folder: Path, name: str, rest: str) -> Path:
    if rest.endswith("|") or rest.startswith("|"):
        raise DataError(
            f"{folder / WAV}: {name!r} is a command ({rest[:60]}); commands are never run: write its output to a "
            "wav or flac file and put the path of that file here"
        )
    paths = [folder / rest, Path(rest)]
    for path in paths:
        if path.is_file():
            return path
    raise DataError(f"{folder / WAV}: the file of {name!r}, {rest}, does not exist")


def _check_known(path: Path, table: dict[str, str], known: dict[str, Path]) -> None:
    unknown = [name for name in table if name not in known]
    if unknown:
        raise DataError(f"{path}: no audio for {_few(unknown)}; {WAV} has no line for it")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"
