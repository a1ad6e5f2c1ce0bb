"""Corpora: Kaldi directories, the digits, and strings of words that are made from single ones."""

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from instar.errors import DataError, UsageError
from instar.speech import fsdd
from instar.speech.connected import add_noise, connected_words
from instar.speech.corpus import Corpus, Utterance, joined
from instar.speech.fsdd import DIGITS, load_fsdd, official_split, read_fsdd, speaker_folds
from instar.speech.kaldi_dirs import load_kaldi_dir
from speech_files import RATE, fsdd_archive, made_corpus, write_kaldi_dir

soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    return write_kaldi_dir(tmp_path / "train", made_corpus())


def test_a_kaldi_directory_is_what_was_written(kaldi: Path) -> None:
    corpus, made = load_kaldi_dir(kaldi), made_corpus()
    assert corpus.utterances == made.utterances
    assert corpus.sample_rate == RATE
    for one in made.utterances:
        np.testing.assert_allclose(corpus.audio(one), made.audio(one), atol=1 / 2**15)


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def test_fields_are_parted_by_any_blanks(kaldi: Path) -> None:
    for name, line in (("text", "low_ann_0\tlow  high "), ("wav.scp", " low_ann_0 \tlow_ann_0.wav")):
        lines = (kaldi / name).read_text().splitlines()
        (kaldi / name).write_text("\n".join([line, *lines[1:]]) + "\n\n")
    assert load_kaldi_dir(kaldi)[FIRST].words == ("low", "high")


FIRST = "low_ann_0"
CUT = f"{FIRST} {FIRST}.wav\n"


def segments(*lines: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "segments").write_text("\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("wav.scp", f"{FIRST}.wav", f"cat {FIRST}.wav |"), "line 1: .* is a command .* never run"),
        (replace("wav.scp", f"{FIRST}.wav", "| touch executed"), "is a command .* never run"),
        (replace("wav.scp", f"{FIRST}.wav", "gone.wav"), r"the file of 'low_ann_0', gone\.wav, does not exist"),
        (replace("wav.scp", CUT, CUT + CUT), "line 2: 'low_ann_0' occurs twice"),
        (replace("text", "low\n", f"low\n{FIRST} low\n"), "line 2: 'low_ann_0' occurs twice"),
        (replace("wav.scp", CUT, ""), "no audio for 'low_ann_0'"),
        (replace("text", f"{FIRST} low\n", ""), "text: no line for 'low_ann_0'"),
        (replace("utt2spk", f"{FIRST} ann\n", ""), "utt2spk: no line for 'low_ann_0'"),
        (replace("utt2spk", f"{FIRST} ann\n", f"{FIRST}\n"), "nothing follows 'low_ann_0'"),
        (lambda folder: (folder / "text").write_bytes(b"\xff\xfe"), "not UTF-8 text"),
        (lambda folder: (folder / "utt2spk").unlink(), "utt2spk: cannot be read"),
        (lambda folder: (folder / "wav.scp").write_text(""), "the file has no lines"),
        (segments("a none 0 1"), "segments, line 1: no line for the recording 'none' in wav.scp"),
        (
            segments(f"a {FIRST} 0"),
            "line 1: expected UTTERANCE RECORDING START END, found 'low_ann_0 0' after 'a'",
        ),
        (segments(f"a {FIRST} 0 1 A"), "line 1: expected UTTERANCE RECORDING START END"),
        (segments(f"a {FIRST} zero 1"), "line 1: expected UTTERANCE RECORDING START END"),
        (
            segments(f"a {FIRST} 0.2 0.1"),
            "line 1: expected 0 <= START < END in seconds, found 0.2 and 0.1 for 'a'",
        ),
        (segments(f"a {FIRST} -1 0.1"), "line 1: expected 0 <= START < END"),
        (segments(f"a {FIRST} nan 1"), "line 1: expected 0 <= START < END"),
        (segments(f"a {FIRST} 0 inf"), "line 1: expected 0 <= START < END"),
        (segments(f"a {FIRST} inf -1"), "line 1: expected 0 <= START < END"),
        (segments(f"a {FIRST} 0 1", f"a {FIRST} 1 2"), "line 2: 'a' occurs twice"),
        (replace("text", f"{FIRST} low", f"{FIRST} low\u00a0"), r"text, line 1: the white space U\+00A0"),
        (lambda folder: (folder / f"{FIRST}.wav").write_bytes(b""), "the file is empty"),
        (
            lambda folder: (folder / f"{FIRST}.wav").write_bytes(b"no sound"),
            "cannot be read as wav, flac",
        ),
    ],
)
def test_a_broken_directory_says_what_is_wrong(
    kaldi: Path, change: Callable[[Path], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kaldi)
    change(kaldi)
    with pytest.raises(DataError, match=message) as raised:
        load_kaldi_dir(kaldi)
    assert "\n" not in str(raised.value)
    assert not (kaldi / "executed").exists()


def test_segments_are_parts_of_recordings(kaldi: Path) -> None:
    whole = load_kaldi_dir(kaldi).audio(FIRST)
    lines = {"a-1": f"{FIRST} 0.05 0.1", "a-2": f"{FIRST} 0.1 -1", "b-1": "up_cy_0 0 0.5"}  # recordings last 0.3 s
    (kaldi / "segments").write_text("".join(f"{name} {line}\n" for name, line in lines.items()))
    (kaldi / "text").write_text("a-1 low\na-2 low high\nb-1 up\n")
    (kaldi / "utt2spk").write_text("a-1 ann\na-2 ann\nb-1 cy\n")
    with pytest.warns(UserWarning, match="no segment of 'high_ann_0' and 24 more of 27 recordings"):
        corpus = load_kaldi_dir(kaldi)
    assert [one.id for one in corpus.utterances] == [*lines]
    assert corpus["a-2"] == Utterance("a-2", "ann", ("low", "high"))
    np.testing.assert_array_equal(corpus.audio("a-1"), whole[400:800])
    np.testing.assert_array_equal(corpus.audio("a-2"), whole[800:])
    assert len(corpus.audio("b-1")) == 2400
    (kaldi / "text").write_text("a-1 low\na-2 low high\nb-1 up\nb-2 up\n")
    with (
        pytest.warns(UserWarning, match="no segment"),
        pytest.raises(DataError, match=r"text: no audio for 'b-2'; wav\.scp or segments has no line"),
    ):
        load_kaldi_dir(kaldi)


@pytest.mark.parametrize("line", ["0.4 0.5", "0.1 0.9"])
def test_a_segment_beyond_its_recording_is_named(kaldi: Path, line: str) -> None:
    (kaldi / "segments").write_text(f"a {FIRST} {line}\n")
    (kaldi / "text").write_text("a low\n")
    (kaldi / "utt2spk").write_text("a ann\n")
    with pytest.warns(UserWarning, match="no segment"):
        corpus = load_kaldi_dir(kaldi)
    with pytest.raises(
        DataError, match=r"segments: 'a' of .*low_ann_0.wav is from .*the recording ends at 0.30 s"
    ):
        corpus.fingerprint  # noqa: B018


def test_other_rates_and_channels_are_warned_of_once(kaldi: Path) -> None:
    for name in ("low_ann_0", "low_ann_1"):
        soundfile.write(kaldi / f"{name}.wav", np.full(800, 0.1), 16000)
    soundfile.write(kaldi / "up_cy_0.wav", np.full((400, 2), 0.1), RATE)
    with pytest.warns(UserWarning, match="files") as warned:
        corpus = load_kaldi_dir(kaldi, sample_rate=RATE)
    assert [str(one.message)[:25] for one in warned] == ["2 of 27 files are not at ", "1 of 27 files have severa"]
    assert len(corpus.audio("low_ann_0")) == len(corpus.audio("up_cy_0")) == 400
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus.audio("low_ann_1")


def test_recordings_without_a_transcript(kaldi: Path) -> None:
    (kaldi / "text").unlink()
    assert load_kaldi_dir(kaldi, need_text=False)[FIRST].words == ()
    with pytest.raises(DataError, match="text: cannot be read"):
        load_kaldi_dir(kaldi)


def test_parts_of_a_corpus() -> None:
    corpus = made_corpus()
    assert corpus.speakers == ("ann", "bob", "cy")
    assert {one.speaker for one in corpus.of_speakers(["bob"]).utterances} == {"bob"}
    few, more = corpus.share(0.2, seed=1), corpus.share(0.5, seed=1)
    assert len(few) == 6
    assert len(more) == 12
    assert set(few.utterances) < set(more.utterances)
    assert set(corpus.share(0.2, seed=2).utterances) != set(few.utterances)
    assert corpus.share(0.01).speakers == corpus.speakers
    assert few.fingerprint != more.fingerprint
    assert corpus.subset(list(corpus.utterances)[::-1]).fingerprint == corpus.fingerprint


def test_wrong_parts_are_refused() -> None:
    corpus = made_corpus()
    one = corpus.utterances[0]
    for call, message in (
        (lambda: corpus.of_speakers(["bobb"]), "unknown speaker 'bobb'; did you mean bob"),
        (lambda: corpus.of_speakers([]), "no speaker is given"),
        (lambda: corpus["low_ann_9"], "unknown utterance 'low_ann_9'"),
        (lambda: corpus.share(0), "above 0 and at most 1"),
        (
            lambda: joined("both", [corpus, Corpus("other", 16000, [Utterance("x", "y")], corpus.read)]),
            "one sample",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    with pytest.raises(DataError, match="'low_ann_0' occurs twice"):
        Corpus("twice", RATE, [one, one], corpus.read)
    with pytest.raises(DataError, match="has no utterances"):
        corpus.where(lambda _: False)


def test_strings_are_a_pure_function_of_their_seed() -> None:
    single = made_corpus()
    one, again = (connected_words(made_corpus(), 4, snr_db=10, seed=3) for _ in range(2))
    other = connected_words(single, 4, snr_db=10, seed=4)
    part = connected_words(single, 2, snr_db=10, seed=3)
    assert one.utterances == again.utterances
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint
    for utterance in one.utterances:
        np.testing.assert_array_equal(one.audio(utterance), again.audio(utterance))
    np.testing.assert_array_equal(one.audio("ann-0001-10dB"), part.audio("ann-0001-10dB"))
    assert one.audio("ann-0001-10dB").shape != other.audio("ann-0001-10dB").shape


def test_strings_have_one_speaker_stated_lengths_and_pauses() -> None:
    strings = connected_words(made_corpus(), 30)
    lengths = {len(one.words) for one in strings.utterances}
    assert lengths == {3, 4, 5, 6, 7}
    for one in strings.utterances[:10]:
        words, pauses = 0.3 * len(one.words), 0.2
        rest = len(strings.audio(one)) / RATE - words - pauses
        assert 0.03 * (len(one.words) - 1) <= rest + 1e-3 <= 0.5 * (len(one.words) - 1)
    noisy = connected_words(made_corpus(), 30, snr_db=5)
    assert [one.words for one in noisy.utterances] == [one.words for one in strings.utterances]
    assert noisy.utterances[0].condition == "5 dB"
    assert strings.utterances[0].condition == "clean"


@pytest.mark.parametrize("noise", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_stated_ratio(noise: str, snr_db: float) -> None:
    signal = 0.01 * np.sin(np.arange(8000, dtype=np.float32))
    is_speech = np.arange(8000) >= 4000
    generator = np.random.default_rng(0)
    noisy = add_noise(signal, snr_db, noise=noise, generator=generator, is_speech=is_speech)  # type: ignore[arg-type]
    added = noisy.astype(np.float64) - signal
    found = 10 * np.log10(np.mean(signal[is_speech].astype(np.float64) ** 2) / np.mean(added**2))
    assert found == pytest.approx(snr_db, abs=0.01)


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    generator = np.random.default_rng(0)
    pink = add_noise(np.full(2**16, 1e-3, np.float32), 0, noise="pink", generator=generator) - 1e-3
    power = np.abs(np.fft.rfft(pink)) ** 2
    octaves = [10 * np.log10(power[2**k : 2 ** (k + 1)].mean()) for k in range(8, 15)]
    np.testing.assert_allclose(np.diff(octaves), -10 * np.log10(2), atol=0.7)


def test_wrong_strings_are_refused() -> None:
    single = made_corpus()
    for options in ({"num_per_speaker": 0}, {"lengths": (3, 2)}, {"noise": "brown"}):
        with pytest.raises(UsageError, match="connected_words"):
            connected_words(single, **{"num_per_speaker": 1, **options})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"has \d words; connected_words expects exactly one"):
        connected_words(connected_words(single, 1), 1)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "data" / "fsdd" / "fsdd-recordings.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(fsdd_archive(num_each=7))
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    return path


def test_the_digits_and_their_splits(archive: Path) -> None:
    corpus = load_fsdd()
    assert len(corpus) == 210
    assert corpus["7_theo_3"].words == (DIGITS[7],)
    train, test = official_split(corpus)
    assert (len(train), len(test)) == (60, 150)
    folds = speaker_folds(corpus)
    assert [fold.test for fold in folds] == ["george", "lucas", "theo"]
    for fold in folds:
        assert sorted({*fold.train, fold.validation, fold.test}) == ["george", "lucas", "theo"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged archive"),
        (fsdd_archive()[:-500], "damaged archive"),
        (b"PK" + bytes(200), "damaged archive"),
    ],
)
def test_a_broken_archive_says_so(archive: Path, content: bytes, message: str) -> None:
    archive.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_fsdd()


def test_an_archive_of_something_else_says_so(archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match="contains no recordings/DIGIT_SPEAKER_INDEX"):
        load_fsdd()


def test_without_data_and_network_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INSTAR_DATA", raising=False)
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"other means and put it at .*fsdd-recordings\.zip") as raised:
        load_fsdd(base_url="http://127.0.0.1:9/archive.zip", progress=False)
    assert "\n" not in str(raised.value)


def test_an_archive_with_other_recordings_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "archive.zip"
    source.write_bytes(fsdd_archive())
    monkeypatch.delenv("INSTAR_DATA", raising=False)
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"checksum .* nothing was kept"):
        load_fsdd(base_url=source.as_uri(), progress=False)
    found = re.search(r"checksum (\w+)", _message(source))
    assert found is not None
    monkeypatch.setattr(fsdd, "_CONTENT_SHA256", found[1])
    assert len(load_fsdd(base_url=source.as_uri(), progress=False)) == 60
    assert len(read_fsdd(tmp_path / "cache" / "fsdd" / "fsdd-recordings.zip")) == 60


def _message(source: Path) -> str:
    with pytest.raises(DataError) as raised:
        load_fsdd(base_url=source.as_uri(), progress=False)
    return str(raised.value)
