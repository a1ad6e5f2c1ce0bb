"""Reading recordings: every format, and everything that a file can have wrong."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from file_mutations import Mutation, mutations
from instar.errors import DataError, UsageError
from instar.speech import audio
from instar.speech.audio import decode_audio, read_audio, resample, wav_bytes

soundfile = pytest.importorskip("soundfile")
SOUND = (0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)).astype(np.float32)


@pytest.mark.parametrize(
    ("ending", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1 / 100),
        ("wav", "PCM_16", 1 / 2**15),
        ("wav", "PCM_24", 1 / 2**23),
        ("wav", "PCM_32", 1 / 2**24),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("flac", "PCM_16", 1 / 2**15),
        ("flac", "PCM_24", 1 / 2**23),
    ],
)
def test_every_format_is_the_same_sound(tmp_path: Path, ending: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"sound.{ending}"
    soundfile.write(path, SOUND, 16000, subtype=subtype)
    recording = read_audio(path)
    assert (recording.sample_rate, recording.num_channels, recording.samples.dtype) == (16000, 1, np.float32)
    np.testing.assert_allclose(recording.samples, SOUND, atol=tolerance, rtol=0)
    assert audio.audio_form(path) == (16000, 1)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack((SOUND, np.zeros_like(SOUND)), axis=1), 8000, subtype="FLOAT")
    recording = read_audio(path)
    assert recording.num_channels == 2
    np.testing.assert_array_equal(recording.samples, SOUND / 2)


def flac_bytes() -> bytes:
    import io

    stream = io.BytesIO()
    soundfile.write(stream, SOUND, 8000, format="FLAC")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (wav_bytes(SOUND, 8000)[:-100], "truncated, the last 100 bytes"),
        (wav_bytes(SOUND, 8000)[:30], "truncated"),
        (wav_bytes([], 8000), "contains no samples"),
        (b"this is no sound at all, whatever its name says", "cannot be read as wav or flac"),
        (flac_bytes()[:-2000], "truncated|cannot be read as wav or flac"),
    ],
)
def test_a_broken_file_says_what_is_wrong_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_audio(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wav_of_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN or infinite"):
        read_audio(path)


def test_a_header_written_to_a_pipe_promises_nothing() -> None:
    content = bytearray(wav_bytes(SOUND, 8000))
    struct.pack_into("<I", content, 4, 0xFFFFFFFF)
    struct.pack_into("<I", content, 40, 0xFFFFFFFF)
    assert len(decode_audio(bytes(content), "piped").samples) == len(SOUND)


@given(mutations)
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(damage: list[Mutation]) -> None:
    content = wav_bytes(SOUND[:200], 8000)
    for one in damage:
        content = one(content)
    try:
        recording = decode_audio(content, "damaged")
    except DataError:
        return
    assert np.isfinite(recording.samples).all()
    assert len(recording.samples) > 0


def test_no_such_file() -> None:
    for read in (read_audio, audio.audio_form):
        with pytest.raises(DataError, match=r"nowhere\.wav"):
            read(Path("nowhere.wav"))


def test_resampling_keeps_a_tone_and_removes_what_cannot_be_there() -> None:
    time = np.arange(16000) / 16000
    low, high = (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (440, 6000))
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    np.testing.assert_allclose(resample(low, 16000, 8000)[50:-50], expected[50:-50], atol=0.01)
    assert np.abs(resample(high, 16000, 8000)[50:-50]).max() < 0.01
    assert resample(low, 8000, 8000) is low
    assert len(resample(np.zeros(441, np.float32), 44100, 8000)) == 80


def test_a_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(UsageError, match=r"pip install 'instar\[speech\]'"):
        decode_audio(b"RIFF", "any")
