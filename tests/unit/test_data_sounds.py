"""Sounds as a kind of data: clips in a column become filterbanks of one length, by what the training clips are."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from instar.data import InMemoryDataset, Splits, load_data, parse_views
from instar.data.filterbanks import filterbank
from instar.data.kinds import read_preparation
from instar.data.readers.audio import Samples, wav_bytes
from instar.data.records.roles import Roles
from instar.errors import DataError, UsageError
from speech_files import RATE, TONES, made_word

PARTS = {"ann": "train", "bob": "train", "cy": "dev", "di": "test"}
ROLES = Roles(label="word", audio="clip")
ENDINGS = ("wav", "flac", "ogg")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))


def clips(folder: Path) -> Path:
    """A table of 36 clips of 0.2 to 0.3 s in wav, flac and ogg, their paths from its own folder."""
    (folder / "clips").mkdir(parents=True)
    rows = []
    for number, (speaker, part) in enumerate(PARTS.items()):
        for word in TONES:
            for take, ending in enumerate(ENDINGS):
                path = f"clips/{word}-{speaker}.{ending}"
                soundfile.write(folder / path, word_of(word, number, take), RATE)
                rows.append({"clip": path, "word": word, "part": part})
    return write_rows(folder / "clips.csv", rows)


def word_of(word: str, speaker: int, take: int) -> Samples:
    seconds = 0.5 if (word, speaker, take) == ("up", 1, 2) else 0.2 + 0.02 * (speaker + take)
    return made_word(word, seed=10 * speaker + take, pitch=1 + 0.03 * speaker, seconds=seconds)


def write_rows(table: Path, rows: list[dict[str, str]]) -> Path:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def load(table: Path, **options: Any) -> Splits:
    return load_data(f"csv:{table}", label="word", audio="clip", part="part", progress=False, **options)


def inputs_of(data: Any) -> torch.Tensor:
    found: torch.Tensor = data.gather(data.ids, 0)
    return found


def test_clips_of_a_table_are_filterbanks_normalised_by_the_training_clips(tmp_path: Path) -> None:
    table = clips(tmp_path)
    splits = load(table)
    parts: dict[str, list[Any]] = {"train": [], "dev": [], "test": []}
    for row in rows_of(table):  # a second opinion, from the files
        samples, _ = soundfile.read(tmp_path / row["clip"], dtype="float32")
        frames = filterbank(samples, RATE).double().numpy()
        parts[row["part"]].append(frames - frames.mean())  # as loud as all others
    frames = np.concatenate(parts["train"])
    mean, std = frames.mean(0), frames.std(0)
    length = int(np.ceil(np.quantile([len(one) for one in parts["train"]], 0.95)))
    assert splits.train.example_shape == (1, 40, length)
    for data, found in zip((splits.train, splits.validation, splits.test), parts.values(), strict=True):
        expected = np.zeros((len(found), 1, 40, length))
        for place, one in enumerate(found):
            normal, spare = ((one - mean) / std).T, length - len(one)
            if spare < 0:
                expected[place, 0] = normal[:, -spare // 2 :][:, :length]
            else:
                expected[place, 0, :, spare // 2 : spare // 2 + len(one)] = normal
        np.testing.assert_allclose(inputs_of(data).numpy(), expected, atol=2e-4)
    assert splits.preparation is not None
    about = f"40 mel filters every 10 ms for {length / 100:g} s, 8,000 Hz (training clips: 1 cut to their middle)"
    assert splits.preparation.in_words() == about


def test_what_a_preparation_writes_as_json_prepares_the_same_elsewhere(tmp_path: Path) -> None:
    table = clips(tmp_path / "here")
    splits = load(table)
    assert splits.preparation is not None
    there = read_preparation(json.loads(json.dumps(splits.preparation.record())))
    assert there == splits.preparation
    test = [row for row in rows_of(table) if row["part"] == "test"]
    contents = [(table.parent / row["clip"]).read_bytes() for row in test]
    for column in (
        pa.array(contents),
        pa.array([{"bytes": content, "path": None} for content in contents]),  # as Hugging Face has sounds
        pa.array([{"bytes": None, "path": str(table.parent / row["clip"])} for row in test]),
        pa.array([str(table.parent / row["clip"]) for row in test], pa.large_string()),
    ):
        assert torch.equal(there.inputs(pa.table({"clip": column}), ROLES), inputs_of(splits.test))


def test_a_second_load_computes_nothing_and_other_contents_are_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = clips(tmp_path)
    first = load(table)
    computed: list[int] = []
    monkeypatch.setattr(
        "instar.data.kinds.sound.filterbank", lambda *a, **k: computed.append(1) or filterbank(*a, **k)
    )
    monkeypatch.setattr("instar.data.prepared._TRIED", 1)
    second = load(table, memory_budget_bytes=1)
    assert len(computed) == 1  # of the training part, to know the form of all
    assert isinstance(first.train, InMemoryDataset)
    for part in ("train", "validation", "test"):
        one, other = getattr(first, part), getattr(second, part)
        assert one.fingerprint == other.fingerprint
        assert torch.equal(inputs_of(one), inputs_of(other))
    name = rows_of(table)[0]["clip"]
    soundfile.write(tmp_path / name, made_word("up", seed=99), RATE)  # under the same name
    third = load(table)
    assert third.train.fingerprint != first.train.fingerprint
    assert third.preparation != first.preparation


def test_clips_of_other_rates_channels_and_lengths_are_made_alike_and_counted(tmp_path: Path) -> None:
    table = clips(tmp_path)
    low, stereo, silent, long = (rows_of(table)[row]["clip"] for row in range(4))
    samples = word_of("up", 0, 0)
    high = resample_poly(samples, 2, 1).astype(np.float32)
    soundfile.write(tmp_path / low, high, 2 * RATE)
    soundfile.write(tmp_path / stereo, np.stack((samples, np.zeros_like(samples)), 1), RATE)
    soundfile.write(tmp_path / silent, np.zeros(1600), RATE, format="WAV")
    soundfile.write(tmp_path / long, np.tile(samples, 5), RATE)
    splits = load(table, clip_seconds=0.3)
    assert splits.train.example_shape == (1, 40, 30)
    assert splits.preparation is not None
    for what in ("2 cut to their middle", "1 of several channels, averaged", "1 resampled", "1 silent"):
        assert what in splits.preparation.in_words()
    at_16_khz = load(table, sample_rate=16_000).preparation
    assert at_16_khz is not None
    assert "16,000 Hz" in at_16_khz.in_words()
    assert "17 resampled" in at_16_khz.in_words()


def test_views_of_sounds_are_pure_functions_of_the_example() -> None:
    inputs = torch.arange(1.0, 4 * 40 * 30 + 1).view(4, 1, 40, 30)
    ids = torch.tensor([3, 1, 4, 15])
    for text in ("time-shift:4", "specaugment:6,5", "time-shift:4+specaugment:6,0"):
        views = parse_views(text)
        assert views is not None
        assert views.name == text
        assert torch.equal(views.apply(inputs, ids, 0, 7), inputs)
        seen = views.apply(inputs, ids, torch.tensor([1, 2, 3, 4]), 7)
        alone = [views.apply(inputs[row : row + 1], ids[row : row + 1], row + 1, 7) for row in range(4)]
        assert torch.equal(seen, torch.cat(alone))
        assert not torch.equal(seen, views.apply(inputs, ids, torch.tensor([1, 2, 3, 4]), 8))
    many = torch.ones(2000, 1, 8, 10)
    ids = torch.arange(2000) * 7919
    masked = parse_views("specaugment:4,3").apply(many, ids, 1, 0)  # type: ignore[union-attr]
    hidden_frames = (masked == 0).all(2).sum(2).squeeze(1)
    hidden_filters = (masked == 0).all(3).sum(2).squeeze(1)
    assert sorted(set(hidden_frames.tolist())) == [0, 1, 2, 3, 4]
    assert sorted(set(hidden_filters.tolist())) == [0, 1, 2, 3]
    ramp = torch.arange(1.0, 11).expand(2000, 1, 8, 10)
    shifted = parse_views("time-shift:3").apply(ramp, ids, 1, 0)[:, 0, 0]  # type: ignore[union-attr]
    shifts = shifted[:, 5] - 6  # the value in the middle tells from where it came
    assert sorted(set(shifts.tolist())) == list(range(-3, 4))
    assert abs(float(shifts.mean())) < 0.2
    for row, shift in zip(shifted[:20], shifts[:20].int().tolist(), strict=True):
        expected = [place + shift if 1 <= place + shift <= 10 else 0 for place in range(1, 11)]
        assert row.tolist() == expected


def test_a_folder_of_sounds_is_read_by_its_class_folders(tmp_path: Path) -> None:
    for number in range(3):
        for word in TONES:
            for take, ending in enumerate(ENDINGS):
                file = tmp_path / "sounds" / word / f"{number}.{ending}"
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, word_of(word, number, take), RATE)
    splits = load_data(f"folder:{tmp_path / 'sounds'}", progress=False)
    assert splits.class_names == tuple(sorted(TONES))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 3, 6)
    (tmp_path / "sounds" / "up" / "0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"sounds/up/0\.wav: the file is empty$"):
        load_data(f"folder:{tmp_path / 'sounds'}", progress=False)
    (tmp_path / "sounds" / "none").mkdir()
    with pytest.raises(DataError, match=r"sounds/none: no sounds in this class"):
        load_data(f"folder:{tmp_path / 'sounds'}", progress=False)


def content(file: str, broken: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "clips" / file
        path.write_bytes(broken(path.read_bytes()))

    return change


def cell(row: int, value: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rows = rows_of(folder / "clips.csv")
        rows[row]["clip"] = value
        write_rows(folder / "clips.csv", rows)

    return change


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut wav": (
        content("low-ann.wav", lambda whole: whole[:-50]),
        r"clips\.csv, row 1: .*/low-ann\.wav: truncated",
    ),
    "cut ogg": (content("low-di.ogg", lambda whole: whole[:-50]), r"clips\.csv, row 30: .*: truncated"),
    "empty": (content("low-cy.flac", lambda whole: b""), r"row 20: .*: the file is empty"),
    "no sound": (content("up-ann.wav", lambda whole: b"text"), r"row 7: .*: cannot be read as wav"),
    "no samples": (content("up-ann.wav", lambda whole: wav_bytes([], RATE)), "row 7: .*: contains no samples"),
    "too short": (content("up-ann.wav", lambda whole: wav_bytes([0.1] * 20, RATE)), "row 7: .* too short"),
    "not there": (cell(4, "clips/else.wav"), r"row 5: .*clips/else\.wav cannot be read: No such file"),
    "nothing": (cell(4, ""), "row 5: 'clip' is (None|''), expected bytes or the path"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_clip_that_cannot_be_used_is_one_line_with_its_file_and_row(tmp_path: Path, case: str) -> None:
    table = clips(tmp_path)
    spoil, message = BROKEN[case]
    spoil(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        load(table)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_options_and_columns_that_cannot_be_are_refused(tmp_path: Path) -> None:
    table = clips(tmp_path)
    with pytest.raises(UsageError, match=r"clip_seconds 0\.001 should be from 0\.01 to 60"):
        load(table, clip_seconds=0.001)
    with pytest.raises(UsageError, match="sample_rate 5 should be from 1000 to 400000"):
        load(table, sample_rate=5)
    numbers = pa.table({"clip": [1, 2]})
    preparation = load(table).preparation
    assert preparation is not None
    with pytest.raises(DataError, match="row 0: 'clip' is 1, expected bytes or the path"):
        preparation.inputs(numbers, ROLES)
    with pytest.raises(UsageError, match="no column is a sound"):
        preparation.inputs(numbers, Roles(features=("clip",)))
