"""Reading wav, flac, ogg and mp3 files as one channel; files that are damaged or hold NaN are refused."""

import math
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.errors import DataError
from instar.naming import import_extra

Samples = NDArray[np.float32]
"""(samples,), from -1 to 1."""

SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
"""The endings of the files that are taken for sounds in a folder."""

_STREAMED_BYTES = 0x7FFFF000  # a size of so many bytes or more stands for an unknown one: SoX, FFmpeg, arecord
_RIFF_HEADER_BYTES = 12
_FORM, _FACT, _DATA = b"fmt ", b"fact", b"data"
_FORM_OF_AIFF, _OGG_PAGE = b"FORM", b"OggS"
_OGG_HEADER_BYTES, _OGG_FLAGS, _OGG_LAST = 27, 5, 4
_MOST_SAMPLES = 2**40
_SAMPLE_RATES_HZ = (1_000, 400_000)
_SAMPLES_AT_ONCE = 2**20  # a header can promise more than there is memory for


class Recording(NamedTuple):
    """The samples of a file, its channels averaged."""

    samples: Samples
    sample_rate: int
    num_channels: int


def read_audio(path: str | Path) -> Recording:
    """Read a wav or flac file of 8 to 32 bits or floating point, or of another format that soundfile reads.

    Several channels are averaged, since an acoustic network takes one. The sizes in the header of a wav file may
    be those of a program that wrote to a pipe (0, or more than 2 GiB): then all that follows is sound.

    Args:
        path: of the file.

    Returns: samples (n,) float32 from -1 to 1, sample rate in Hz, number of channels in the file.

    Raises:
        DataError: the file does not exist, is no audio, is truncated, or holds NaN or infinite samples.
        UsageError: soundfile is not installed.

    Example:
        >>> import soundfile, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "one.wav"
        >>> soundfile.write(path, np.zeros((80, 2)), 8000)
        >>> read_audio(path).samples.shape, read_audio(path).num_channels
        ((80,), 2)
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_audio(content, str(path))


def decode_audio(content: bytes, name: object) -> Recording:
    """Like `read_audio`, from the content of a file; `name` is used in error messages.

    Raises:
        DataError: as `read_audio`.
        UsageError: soundfile is not installed.
    """
    soundfile = import_extra("soundfile", "speech")
    if not content:
        raise DataError(f"{name}: the file is empty")
    _check_end(content, name)
    wav = _plain_wav(content, name)
    try:
        with soundfile.SoundFile(BytesIO(wav)) as file:
            expected, sample_rate = file.frames, file.samplerate
            if expected > _MOST_SAMPLES:
                raise DataError(
                    f"{name}: its header does not say how many samples it has; write it to a file, not a pipe"
                )
            samples, code = _all_samples(file), file.subtype
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise DataError(f"{name}: cannot be read as wav, flac, ogg or mp3 ({_reason(error)})") from error
    if len(samples) < expected:
        raise DataError(f"{name}: truncated, only {len(samples):,} of {expected:,} samples are there")
    if code == "GSM610":
        samples = samples[: _stated_samples(wav)]
    if len(samples) == 0:
        raise DataError(f"{name}: contains no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{name}: contains NaN or infinite samples")
    if not _SAMPLE_RATES_HZ[0] <= sample_rate <= _SAMPLE_RATES_HZ[1]:
        raise DataError(f"{name}: its sample rate is {sample_rate:,} Hz, expected 1,000 to 400,000")
    num_channels = samples.shape[1]
    mono = samples[:, 0] if num_channels == 1 else samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    return Recording(np.ascontiguousarray(mono), int(sample_rate), num_channels)


def audio_form(path: Path) -> tuple[int, int]:
    """The sample rate in Hz and number of channels of a file; reads only its header.

    Raises:
        DataError: the file does not exist or is no audio.
        UsageError: soundfile is not installed.
    """
    soundfile = import_extra("soundfile", "speech")
    try:
        about = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError):  # a header for `read_audio` alone, or a file that it refuses
        recording = read_audio(path)
        return recording.sample_rate, recording.num_channels
    return int(about.samplerate), int(about.channels)


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Resample with a polyphase low-pass filter.

    Args:
        samples: (n,) float32.
        rate: sample rate of `samples`, Hz.
        new_rate: wanted sample rate, Hz.

    Returns: (ceil(n new_rate / rate),) float32.

    Example:
        >>> resample(np.zeros(160, np.float32), 16000, 8000).shape
        (80,)
    """
    if rate == new_rate:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, new_rate)
    changed: Samples = resample_poly(samples, new_rate // common, rate // common).astype(np.float32)
    return changed


def wav_bytes(samples: Samples | Sequence[float], sample_rate: int) -> bytes:
    """The content of a wav file with 16 bits and one channel; samples beyond ±1 are clipped.

    Example:
        >>> decode_audio(wav_bytes([0.0, 0.5, -0.5, 9.0], 8000), "four").samples.round(3).tolist()
        [0.0, 0.5, -0.5, 1.0]
    """
    scaled = np.clip(np.round(np.asarray(samples, np.float64) * 2**15), -(2**15), 2**15 - 1).astype("<i2")
    content = scaled.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    data = struct.pack("<4sI", b"data", len(content)) + content
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def _all_samples(file: Any) -> Samples:
    """All samples of an open file, (n, channels); fewer than its header says where they are not there."""
    at_once = max(1, _SAMPLES_AT_ONCE // file.channels)
    blocks = [np.zeros((0, file.channels), np.float32)]
    num_left = file.frames
    while num_left > 0:
        block = file.read(min(at_once, num_left), dtype="float32", always_2d=True)
        num_left = num_left - len(block) if len(block) else 0
        blocks.append(block)
    return np.concatenate(blocks)


def _stated_samples(wav: bytes) -> int | None:
    """The number of samples in the fact chunk; libsndfile makes 320 more of the padding after an odd GSM chunk."""
    for chunk, start, size in _chunks(wav, _RIFF_HEADER_BYTES):
        if chunk == _FACT and size >= 4:
            return int.from_bytes(wav[start : start + 4], "little") or None
    return None


def _check_end(content: bytes, name: object) -> None:
    """Refuse an ogg or AIFF file that is cut off, of which libsndfile reads what is there without a word."""
    if content[:4] == _FORM_OF_AIFF and int.from_bytes(content[4:8], "big") + 8 > len(content):
        raise DataError(f"{name}: truncated, its header announces more bytes than are there")
    if content[:4] != _OGG_PAGE:
        return
    page = content[content.rfind(_OGG_PAGE) :]
    num_segments = page[_OGG_HEADER_BYTES - 1] if len(page) >= _OGG_HEADER_BYTES else 0
    segments = page[_OGG_HEADER_BYTES:][:num_segments]
    is_whole = num_segments and len(page) >= _OGG_HEADER_BYTES + num_segments + sum(segments)
    if not (is_whole and page[_OGG_FLAGS] & _OGG_LAST):
        raise DataError(f"{name}: truncated, or never closed by what wrote it: its last page is not there")


def _plain_wav(content: bytes, name: object) -> bytes:
    """The form and the samples of a wav file with their true sizes, without other chunks; other files as they are.

    Raises:
        DataError: the file ends before the samples that its header announces.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return content
    kept: dict[bytes, bytes] = {}
    for chunk, start, size in _chunks(content, _RIFF_HEADER_BYTES):
        if chunk == _DATA:
            kept[chunk] = content[start : start + _size_of_data(content, start, size, name)]
            break
        if chunk == _FORM and chunk in kept:
            raise DataError(f"{name}: damaged, its header has two forms")
        if chunk in (_FORM, _FACT):
            kept[chunk] = content[start : start + size]
    else:
        raise DataError(f"{name}: truncated or damaged, no samples follow its header")
    body = b"".join(
        struct.pack("<4sI", chunk, len(part)) + part + bytes(len(part) % 2) for chunk, part in kept.items()
    )
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body


def _size_of_data(content: bytes, start: int, size: int, name: object) -> int:
    num_there = len(content) - start
    file_end = int.from_bytes(content[4:8], "little") + 8
    is_unwritten = size == 0 and not start < file_end < _STREAMED_BYTES  # the size of the file is not there either
    if size >= _STREAMED_BYTES or is_unwritten:
        return min(size or num_there, num_there)
    if size > num_there:
        raise DataError(
            f"{name}: truncated, the last {size - num_there:,} bytes announced by its header are missing"
        )
    return size


def _chunks(content: bytes, place: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and size of each chunk; the pad byte after an odd size may be missing."""
    while place + 8 <= len(content):
        chunk, size = struct.unpack_from("<4sI", content, place)
        if not (chunk.isascii() and chunk.decode().isprintable()):
            return
        yield chunk, place + 8, size
        place += 8 + size
        if size % 2 and content[place : place + 1] == b"\0":
            place += 1


def _reason(error: Exception) -> str:
    """What libsndfile says, without the address of our buffer."""
    return str(getattr(error, "error_string", error))
