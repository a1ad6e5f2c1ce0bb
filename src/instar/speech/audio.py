"""Reading wav and flac files as one channel; files that are damaged or hold NaN are refused."""

import importlib
import math
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instar.errors import DataError, UsageError

Samples = NDArray[np.float32]
"""(samples,), from -1 to 1."""

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # written by programs that stream and cannot seek to the header
_RIFF_HEADER_BYTES = 12


class Recording(NamedTuple):
    """The samples of a file, its channels averaged."""

    samples: Samples
    sample_rate: int
    num_channels: int


def optional_module(name: str) -> Any:
    """Import a module of the extra `speech`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.replace("_", "-")
        raise UsageError(f"{package} is not installed ({error}): pip install 'instar[speech]'") from None


def read_audio(path: str | Path) -> Recording:
    """Read a wav or flac file of 8 to 32 bits or floating point.

    Several channels are averaged, since an acoustic network takes one.

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


def decode_audio(content: bytes, name: str) -> Recording:
    """Like `read_audio`, from the content of a file; `name` is used in error messages.

    Raises:
        DataError: as `read_audio`.
        UsageError: soundfile is not installed.
    """
    soundfile = optional_module("soundfile")
    if not content:
        raise DataError(f"{name}: the file is empty")
    if missing := _missing_bytes(content):
        raise DataError(f"{name}: truncated, the last {missing:,} bytes announced by its header are missing")
    try:
        with soundfile.SoundFile(BytesIO(content)) as file:
            expected, sample_rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise DataError(f"{name}: cannot be read as wav or flac ({error})") from error
    if len(samples) < expected:
        raise DataError(f"{name}: truncated, only {len(samples):,} of {expected:,} samples are there")
    if len(samples) == 0:
        raise DataError(f"{name}: contains no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{name}: contains NaN or infinite samples")
    num_channels = samples.shape[1]
    mono = samples[:, 0] if num_channels == 1 else samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    return Recording(np.ascontiguousarray(mono), int(sample_rate), num_channels)


def audio_form(path: Path) -> tuple[int, int]:
    """The sample rate in Hz and number of channels of a file; reads only its header.

    Raises:
        DataError: the file does not exist or is no audio.
        UsageError: soundfile is not installed.
    """
    soundfile = optional_module("soundfile")
    try:
        about = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        if not path.is_file():
            raise DataError(f"{path}: no such file") from error
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty") from error
        raise DataError(f"{path}: cannot be read as wav or flac ({error})") from error
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


def _missing_bytes(content: bytes) -> int:
    """How many of the bytes announced by a wav header are missing; 0 for other files."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return 0
    place = _RIFF_HEADER_BYTES
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        if name == b"data":
            return 0 if size in _UNKNOWN_SIZES else max(0, place + 8 + size - len(content))
        place += 8 + size + size % 2
    return max(0, place - len(content))
