"""Readers of speech beside second readers of the same files: recordings, lexicons, Kaldi directories."""

import io
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz_data import Read, Reader, only_file
from benchmarks.mutations import Files

RATE = 8000


def _sound(number: int = 200, seed: int = 0) -> np.ndarray:
    return (0.3 * np.sin(np.arange(number) / (5 + seed))).astype(np.float32)


def _recordings() -> list[Files]:
    import soundfile

    def content(samples: np.ndarray, form: str, subtype: str) -> bytes:
        stream = io.BytesIO()
        soundfile.write(stream, samples, RATE, format=form, subtype=subtype)
        return stream.getvalue()

    mono, stereo = _sound(), np.stack([_sound(), _sound(seed=1)], axis=1)
    plain = content(mono, "WAV", "PCM_16")
    at = plain.index(b"data")
    listed = plain[:at] + struct.pack("<4sI", b"LIST", 14) + b"INFOISFT\x02\0\0\0ab" + plain[at:]
    piped = plain[:4] + b"\xff" * 4 + plain[8 : at + 4] + b"\xff" * 4 + plain[at + 8 :]
    subtypes = ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")
    contents = [plain, listed, piped, content(stereo, "WAV", "PCM_16"), content(mono, "WAVEX", "PCM_24")]
    contents += [content(mono, "WAV", subtype) for subtype in subtypes]
    return [{"sound.wav": one} for one in [*contents, content(mono, "FLAC", "PCM_16")]]


def _read_sound(folder: Path) -> Any:
    from instar.data.readers.audio import read_audio

    found = read_audio(folder / "sound.wav")
    return found.samples, found.sample_rate, found.num_channels


def _sound_by_soundfile(path: Path) -> Any:
    import soundfile

    # libsndfile refuses a chunk PEAK that is odd, though no sample depends on it.
    with soundfile.SoundFile(io.BytesIO(path.read_bytes().replace(b"PEAK", b"JUNK"))) as file:
        samples = file.read(file.frames, dtype="float32", always_2d=True)
        return samples.mean(axis=1, dtype=np.float64), file.samplerate, file.channels


def _sound_by_scipy(path: Path) -> Any:
    from scipy.io import wavfile

    rate, samples = wavfile.read(path)
    samples = samples.reshape(len(samples), -1)
    if samples.dtype.kind in "iu":
        zero = 128 if samples.dtype == np.uint8 else 0
        samples = (samples.astype(np.float64) - zero) / 2 ** (8 * samples.dtype.itemsize - 1)
    return samples.mean(axis=1, dtype=np.float64), rate, samples.shape[1]


def _sound_by_struct(path: Path) -> Any:
    """The first form and all samples after it, whatever sizes and chunks stand around them."""
    content = path.read_bytes()
    form, data = content.index(b"fmt ") + 8, content.index(b"data") + 8
    code, channels, rate, _, block_bytes, bits = struct.unpack_from("<HHIIHH", content, form)
    size = int.from_bytes(content[data - 4 : data], "little")
    raw = content[data:] if size in (0, 2**32 - 1) else content[data : data + size]
    raw = raw[: len(raw) - len(raw) % block_bytes]
    if code == 0xFFFE:
        code = int.from_bytes(content[form + 24 : form + 26], "little")
    if code == 3:
        samples = np.frombuffer(raw, f"<f{bits // 8}").astype(np.float64)
    elif code == 7:  # mu-law
        bits_of = ~np.frombuffer(raw, np.uint8)
        size_of = ((((bits_of & 15).astype(np.int64) << 3) + 132) << (bits_of >> 4 & 7)) - 132
        samples = np.where(bits_of & 128, -size_of, size_of) / 2**15
    elif bits == 8:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    else:
        whole = np.frombuffer(raw, np.uint8).reshape(-1, bits // 8)
        padded = np.concatenate([np.zeros((len(whole), 4 - bits // 8), np.uint8), whole], axis=1)
        samples = padded.copy().view("<i4")[:, 0] / 2**31
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float64), rate, channels


def _of_the_file(read: Read) -> Read:
    return lambda folder: read(folder / "sound.wav")


_SOUNDS = tuple(map(_of_the_file, (_sound_by_soundfile, _sound_by_scipy, _sound_by_struct)))


def _samples(path: Path) -> tuple[np.ndarray, int]:
    """The samples and their rate, by libsndfile or, where it refuses the chunks around them, without it."""
    try:
        samples, rate, _ = _sound_by_soundfile(path)
    except RuntimeError:
        samples, rate, _ = _sound_by_struct(path)
    return samples.astype(np.float32), rate


# --- lexicons ---


def _lexicons() -> list[Files]:
    texts = {
        "lexicon.txt": "!SIL SIL\nno n ow\nyes y eh s\nno n aa\n",
        "lexiconp.txt": "no 0.5 n ow\nyes 1.0 y eh s\nno 0.25 n aa\n",
        "lexiconp_silprob.txt": "no 0.5 0.16 0.08 1.0 n ow\nyes 1.0 0.2 1.1 0.9 y eh s\n",
        "mfa.dict": "no\t0.5\t0.16\t0.08\t1.0\tn ow\nyes\t1.0\t0.2\t1.1\t0.9\ty eh s\nmaybe\tm ey b iy\n",
        "cmudict.txt": ";;; words\n# more\nno  n ow\nno(2)  n aa # rare\nyes  y eh s\n",
    }
    return [{name: text.encode()} for name, text in texts.items()]


def _read_lexicon(folder: Path) -> Any:
    from instar.speech import Lexicon

    lexicon = Lexicon.read(only_file(folder))
    return lexicon.silence, {
        word: [(list(way.units), way.log_prob) for way in ways] for word, ways in lexicon.words.items()
    }


_NUMBER = r"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_ENTRY = re.compile(rf"([^ \t]+?)(?:\(\d+\))?[ \t]+((?:{_NUMBER}[ \t]+){{4}}|{_NUMBER}[ \t]+)?([^ \t#].*)")


def _lexicon_by_pattern(folder: Path) -> Any:
    words: dict[str, list[tuple[list[str], float]]] = {}
    for line in only_file(folder).read_bytes().decode("utf-8-sig").split("\n"):
        line = re.split(r"[ \t]#|^#|^;;;", line.strip(" \t\r"))[0].strip(" \t")
        if not line:
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ValueError(line)
        word, numbers, phones = match.groups()
        way = (phones.split(), math.log(float(numbers.split()[0])) if numbers else 0.0)
        if way not in words.setdefault(word, []):
            words[word].append(way)
    silences = [
        word
        for word, ways in words.items()
        if all([unit.lower() for unit in units] == ["sil"] for units, _ in ways)
    ]
    silence = words[silences[0]][0][0][0] if silences else "sil"
    return silence, {word: ways for word, ways in words.items() if word not in silences}


# --- Kaldi directories ---


def _kaldi_dirs() -> list[Files]:
    import soundfile

    def wav(seed: int, rate: int = RATE) -> bytes:
        stream = io.BytesIO()
        soundfile.write(stream, _sound(160, seed), rate, format="WAV")
        return stream.getvalue()

    whole = {
        "wav.scp": b"a-1 one.wav\nb-1 two.wav\n",
        "text": b"a-1 no yes\nb-1 yes\n",
        "utt2spk": b"a-1 a\nb-1 b\n",
        "one.wav": wav(0),
        "two.wav": wav(1),
    }
    parts = {
        "wav.scp": b"r1 one.wav\nr2 two.wav\n",
        "segments": b"a-1 r1 0 0.01\na-2 r1 0.005 0.015\nb-1 r2 0.0025 -1\n",
        "text": b"a-1 no\na-2 yes\nb-1 yes no\n",
        "utt2spk": b"a-1 a\na-2 a\nb-1 b\n",
        "one.wav": wav(0),
        "two.wav": wav(1),
    }
    return [whole, parts]


def _read_kaldi(folder: Path) -> Any:
    from instar.speech.kaldi_dirs import load_kaldi_dir

    corpus = load_kaldi_dir(folder)
    return corpus.sample_rate, [
        (one.id, one.speaker, list(one.words), corpus.audio(one)) for one in corpus.utterances
    ]


def _kaldi_by_hand(folder: Path) -> Any:
    def table(name: str) -> dict[str, str]:
        lines = (folder / name).read_bytes().decode("utf-8-sig").split("\n")
        rows = [line.strip(" \t\r").split(None, 1) for line in lines if line.strip(" \t\r")]
        if len({row[0] for row in rows}) < len(rows):
            raise ValueError("twice")
        return {row[0]: row[1] if len(row) > 1 else "" for row in rows}

    from scipy.signal import resample_poly

    paths, text, speakers = (table(name) for name in ("wav.scp", "text", "utt2spk"))
    parts = {name: (name, "0", "-1") for name in paths}
    if (folder / "segments").exists():
        parts = {name: tuple(rest.split()) for name, rest in table("segments").items()}  # type: ignore[misc]
    recordings: dict[str, np.ndarray] = {}
    rate = 0
    for name in dict.fromkeys(recording for recording, _, _ in parts.values()):
        mono, own = _samples(folder / paths[name])
        rate = rate or own
        common = math.gcd(rate, own)
        recordings[name] = mono if own == rate else resample_poly(mono, rate // common, own // common)
    found = []
    for name, (recording, start, end) in parts.items():
        samples = recordings[recording]
        last = len(samples) if float(end) == -1 else min(round(float(end) * rate), len(samples))
        found.append((name, speakers[name], text[name].split(), samples[round(float(start) * rate) : last]))
    return rate, found


SPEECH_READERS = {
    "wav": Reader(_recordings, _read_sound, _SOUNDS),
    "lexicon": Reader(_lexicons, _read_lexicon, (_lexicon_by_pattern,)),
    "kaldi directory": Reader(_kaldi_dirs, _read_kaldi, (_kaldi_by_hand,)),
}
