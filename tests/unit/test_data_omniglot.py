"""Omniglot: both forms of its files give the same examples, split by who drew them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from data_files import omniglot_drawings, write_omniglot_archive, write_omniglot_table
from instar.data import Dataset, load_data
from instar.data.readers.omniglot import read_omniglot_archives, read_omniglot_table
from instar.errors import DataError, UsageError
from instar.transfer import known_parents, parent_halves

BACKGROUND, EVALUATION = omniglot_drawings({"Greek": 2, "N_Ko": 1}), omniglot_drawings({"Angelic": 2}, seed=1)
ALL = BACKGROUND | EVALUATION
NAMES = (
    "Angelic/character01",
    "Angelic/character02",
    "Greek/character01",
    "Greek/character02",
    "N_Ko/character01",
)
REAL = Path(os.environ.get("INSTAR_DATA", "nowhere")) / "omniglot" / "omniglot.npz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`INSTAR_DATA/omniglot` with the table in it."""
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path))
    (tmp_path / "omniglot").mkdir()
    write_omniglot_table(tmp_path / "omniglot" / "omniglot.npz", ALL)
    return tmp_path / "omniglot"


def test_table_and_archives_hold_the_same(folder: Path) -> None:
    table = read_omniglot_table(folder / "omniglot.npz")
    paths = [folder / f"images_{part}.zip" for part in ("background", "evaluation")]
    for path, drawings in zip(paths, (BACKGROUND, EVALUATION), strict=True):
        write_omniglot_archive(path, drawings)
    archives = read_omniglot_archives(paths, progress=False)
    assert table.class_names == archives.class_names == NAMES
    assert torch.equal(table.images, archives.images)
    assert torch.equal(table.labels, archives.labels)
    for row, key in ((0, (NAMES[0], 1)), (45, (NAMES[2], 6)), (99, (NAMES[4], 20))):
        assert np.array_equal(table.images[row, 0].numpy(), 255 * ALL[key])
        assert int(table.labels[row]) == NAMES.index(key[0])


def test_splits_are_by_drawer_and_test_is_the_same_for_everybody(folder: Path) -> None:
    splits = [load_data("omniglot", split_seed=seed) for seed in (0, 1)]
    for one in splits:
        assert [len(part) for part in (one.train, one.validation, one.test)] == [5 * 15, 5 * 2, 5 * 3]
        assert torch.bincount(one.validation.labels(one.validation.ids)).tolist() == [2] * 5
        assert torch.equal(one.test.ids, splits[0].test.ids)
        assert len({*one.train.ids.tolist(), *one.validation.ids.tolist(), *one.test.ids.tolist()}) == 100
        drawers = drawers_of(one.validation)
        assert len(drawers) == 2  # the same two people for every character of an alphabet
        assert drawers.isdisjoint({18, 19, 20})
        assert drawers_of(one.test) == {18, 19, 20}
    assert not torch.equal(splits[0].validation.ids, splits[1].validation.ids)


def drawers_of(data: Dataset) -> set[int]:
    """By what was drawn: each drawing is another."""
    known = {(255 * ink).tobytes(): drawer for (_, drawer), ink in ALL.items()}
    return {known[image.numpy().tobytes()] for image in data.raw(data.rows(data.ids))}


def test_its_alphabets_are_known_parents(folder: Path) -> None:
    names = load_data("omniglot").class_names
    halves = parent_halves(names, known_parents(names), seed=0)
    assert {name.partition("/")[0] for name in halves.a}.isdisjoint(name.partition("/")[0] for name in halves.b)
    assert sorted(halves.a + halves.b) == list(NAMES)


def test_another_size_is_the_mean_over_areas(folder: Path) -> None:
    small = load_data("omniglot", image_size=35).test
    large = load_data("omniglot").test
    assert small.example_shape == (1, 35, 35)
    means = large.raw(large.rows(large.ids)).double().view(-1, 1, 35, 3, 35, 3).mean((3, 5))
    assert (small.raw(small.rows(small.ids)).double() - means).abs().max() <= 0.5
    with pytest.raises(UsageError, match="at least 1"):
        load_data("omniglot", image_size=0)


def test_without_any_file_the_error_says_where_to_put_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INSTAR_DATA", str(tmp_path))
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"put it at .*cache/omniglot/images_background\.zip") as caught:
        load_data("omniglot", base_url="http://127.0.0.1:9/")
    assert "\n" not in str(caught.value)
    (tmp_path / "omniglot").mkdir()
    write_omniglot_archive(tmp_path / "omniglot" / "images_background.zip", BACKGROUND)
    with pytest.raises(DataError, match=r"lacks images_evaluation\.zip"):
        load_data("omniglot")


def test_damaged_files_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    table = folder / "omniglot.npz"
    whole = table.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04 no"):
        table.write_bytes(content)
        with pytest.raises(DataError, match=r"omniglot\.npz: not a table of Omniglot's drawings"):
            read_omniglot_table(table)
    np.savez(table, ink_packed=np.zeros((2, 1379), np.uint8))
    with pytest.raises(DataError, match="not a table"):
        read_omniglot_table(table)
    np.savez(
        table,
        **{key: np.array([{}], dtype=object) for key in ("ink_packed", "character", "drawer", "character_names")},
    )
    with pytest.raises(DataError, match="not a table"):  # nothing is unpickled
        read_omniglot_table(table)
    write_omniglot_table(table, dict(list(ALL.items())[:-1]))
    with pytest.raises(DataError, match="99 drawings, expected those of drawers 1 to 20 of every character"):
        read_omniglot_table(table)
    archive = tmp_path / "images_background.zip"
    write_omniglot_archive(archive, BACKGROUND)
    content = archive.read_bytes()
    archive.write_bytes(content[:-200])
    with pytest.raises(DataError, match="not a whole archive of Omniglot's drawings"):
        read_omniglot_archives([archive], progress=False)
    write_omniglot_archive(archive, {})
    with pytest.raises(DataError, match=r"images_background\.zip: 0 drawings"):
        read_omniglot_archives([archive], progress=False)


@pytest.mark.skipif(not REAL.is_file(), reason="omniglot is not in INSTAR_DATA")
def test_omniglot_itself() -> None:
    splits = load_data("omniglot", image_size=15)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [24_345, 3_246, 4_869]
    assert len(splits.class_names) == 1623
    assert len(set(known_parents(splits.class_names).values())) == 50
