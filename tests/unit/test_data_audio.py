"""Reading recordings: every format, and everything that a file can have wrong."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from file_mutations import Mutation, mutations
from instar.data.readers import audio
from instar.data.readers.audio import decode_audio, read_audio, resample, wav_bytes
from instar.errors import DataError, UsageError

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
        ("wav", "ULAW", 1 / 50),
        ("wav", "ALAW", 1 / 50),
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


@pytest.mark.parametrize("num_blocks", [1, 2, 25])
def test_a_gsm_recording_has_as_many_samples_as_were_written(tmp_path: Path, num_blocks: int) -> None:
    """libsndfile reads the padding byte after an odd number of blocks as one more block."""
    path = tmp_path / "gsm.wav"
    soundfile.write(path, np.zeros(320 * num_blocks), 8000, subtype="GSM610")
    assert len(read_audio(path).samples) == 320 * num_blocks


def test_telephone_recordings_of_gsm_are_read_to_their_last_block(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, SOUND, 8000, subtype="GSM610")
    samples = read_audio(path).samples
    assert len(SOUND) <= len(samples) <= len(SOUND) + 2 * 320  # whole blocks; libsndfile takes a pad byte for one
    assert np.corrcoef(samples[: len(SOUND)], SOUND)[0, 1] > 0.9
    assert audio.audio_form(path) == (8000, 1)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack((SOUND, np.zeros_like(SOUND)), axis=1), 8000, subtype="FLOAT")
    recording = read_audio(path)
    assert recording.num_channels == 2
    np.testing.assert_array_equal(recording.samples, SOUND / 2)


def coded(format: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, SOUND, 8000, format=format)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["FLAC", "OGG", "AIFF"])
def test_a_format_that_is_cut_off_is_refused_where_libsndfile_reads_what_is_there(format: str) -> None:
    content = coded(format)
    assert len(decode_audio(content, "whole").samples) == len(SOUND)
    for end in (len(content) - 20, len(content) // 2, 30):
        with pytest.raises(DataError, match=r"^cut: (truncated|cannot be read)") as raised:
            decode_audio(content[:end], "cut")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (wav_bytes(SOUND, 8000)[:-100], "truncated, the last 100 bytes"),
        (wav_bytes(SOUND, 8000)[:30], "truncated"),
        (wav_bytes([], 8000), "contains no samples"),
        (b"RIFF\0\0\0\0WAVE" + 2 * (b"fmt \x10\0\0\0" + bytes(16)) + bytes(40), "its header has two forms"),
        (b"this is no sound at all, whatever its name says", "cannot be read as wav, flac, ogg or mp3"),
        (coded("FLAC")[:-2000], "truncated|cannot be read as wav, flac, ogg or mp3"),
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


def riff(*chunks: tuple[bytes, bytes], sizes: tuple[int, int] | None = None, padded: bool = True) -> bytes:
    """A wav file of chunks; `sizes` are those of the file and of the samples, as its header gives them."""
    content = b""
    for name, part in chunks:
        size = sizes[1] if sizes is not None and name == b"data" else len(part)
        content += struct.pack("<4sI", name, size) + part + bytes(len(part) % 2 * padded)
    return struct.pack("<4sI4s", b"RIFF", sizes[0] if sizes is not None else 4 + len(content), b"WAVE") + content


FORM = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
EXTENSIBLE = (
    b"fmt ",
    struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4)
    + bytes.fromhex("0100000000001000800000aa00389b71"),
)
DATA = (b"data", wav_bytes(SOUND, 8000)[44:])
ODD = (b"LIST", b"INFOISFT\x03\0\0\0abc")
PIPED = {
    "SoX": riff(FORM, DATA, sizes=(0x7FFFF024, 0x7FFFF000)),
    "FFmpeg": riff(FORM, (b"LIST", b"INFOISFT\x02\0\0\0ab"), DATA, sizes=(0xFFFFFFFF, 0xFFFFFFFF)),
    "arecord": riff(FORM, DATA, sizes=(0x80000024, 0x80000000)),
    "a recorder that was stopped": riff(FORM, DATA, sizes=(36, 0)),
    "zeros": riff(FORM, DATA, sizes=(0, 0)),
    "wrong size of the file": riff(FORM, DATA, sizes=(20, len(DATA[1]))),
}
OTHER = {
    "extensible": riff(EXTENSIBLE, DATA),
    "extensible, piped": riff(EXTENSIBLE, DATA, sizes=(0xFFFFFFFF, 0xFFFFFFFF)),
    "chunks before and after": riff(FORM, (b"bext", bytes(602)), (b"JUNK", bytes(7)), DATA, ODD),
    "no pad byte": riff(FORM, ODD, DATA, padded=False),
    "pad byte": riff(FORM, ODD, DATA),
    "something after the sound": riff(FORM, DATA) + b"TAG and no chunk",
}


@pytest.mark.parametrize("content", [*PIPED.values(), *OTHER.values()], ids=[*PIPED, *OTHER])
def test_a_sound_is_the_same_whatever_header_it_has(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path).samples, SOUND, atol=1 / 2**15)
    assert audio.audio_form(path) == (8000, 1)


@pytest.mark.parametrize("chunks", [(ODD,), (ODD, (b"id3 ", bytes(20)))])
def test_no_samples_and_other_chunks_are_no_sound(chunks: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(DataError, match="contains no samples"):
        decode_audio(riff(FORM, (b"data", b""), *chunks), "empty")


def test_a_flac_from_a_pipe_is_refused_by_its_header() -> None:
    content = bytearray(coded("FLAC"))
    content[21] &= 0xF0  # the number of samples: 36 bits
    content[22:26] = bytes(4)
    with pytest.raises(DataError, match="does not say how many samples"):
        decode_audio(bytes(content), "piped.flac")


def test_other_codes_are_refused_in_a_line() -> None:
    media = (b"fmt ", struct.pack("<HHIIHHH", 0x0161, 1, 8000, 1000, 1, 16, 0))
    with pytest.raises(DataError, match="cannot be read as wav, flac, ogg or mp3") as raised:
        decode_audio(riff(media, DATA), "call.wav")
    assert "0x" not in str(raised.value)


def test_a_rate_that_no_recorder_has_is_refused() -> None:
    for rate in (7, 2_000_000_000):
        with pytest.raises(DataError, match="its sample rate is"):
            decode_audio(riff((b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, 16000, 2, 16)), DATA), "odd")


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
