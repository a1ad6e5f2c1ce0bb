"""Rows that were read before come from the cache: the same rows, checked, and within the limit."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from instar.data import Splits, load_data
from instar.data.kept import make_room
from instar.data.mapped import MappedDataset
from instar.data.texts import texts_of
from instar.errors import DataError, DataWarning, UsageError
from instar.structures import tensors_in

ROWS = 2_400
PARTS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def table(file: Path, *, seed: int = 0, rows: int = ROWS) -> str:
    chance = np.random.default_rng(seed)
    lines = ["width,port,kind,constant"]
    for width, port in zip(chance.normal(size=rows).round(5), chance.integers(3, size=rows), strict=True):
        lines.append(f"{width},{'ABC'[port]},{'bee' if width > 0 else 'ant'},1")
    file.write_text("\n".join(lines) + "\n")
    return f"csv:{file}"


def read(source: str, **about: Any) -> Splits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_data(source, progress=False, **about)


def assert_same(one: Splits, other: Splits) -> None:
    assert one.fingerprint == other.fingerprint
    assert (one.class_names, one.notes, one.name, one.roles) == (
        other.class_names,
        other.notes,
        other.name,
        other.roles,
    )
    assert one.preparation is not None
    assert other.preparation is not None
    assert one.preparation.record() == other.preparation.record()
    for part in PARTS:
        mine, theirs = getattr(one, part), getattr(other, part)
        assert torch.equal(mine.ids, theirs.ids)
        assert mine.example_shape == theirs.example_shape
        assert mine.names(mine.ids[:3]) == theirs.names(theirs.ids[:3])
        pairs = (tensors_in(data.gather(data.ids, 0)) for data in (mine, theirs))
        assert all(torch.equal(*pair) for pair in zip(*pairs, strict=True))


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the file is read again")

    monkeypatch.setattr("instar.data.records.reading.split_records", refuse)


def test_rows_that_were_read_before_are_the_same_with_their_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table(tmp_path / "rows.csv")
    with pytest.warns(DataWarning, match="'constant' is left out"):
        first = load_data(source, label="kind", progress=False)
    forbid(monkeypatch)
    with pytest.warns(DataWarning, match="'constant' is left out"):
        again = load_data(source, label="kind", progress=False)
    named = read(source, label="kind", features=["width", "port", "constant"])
    assert named.fingerprint == again.fingerprint  # what was guessed is the same once it is named
    assert_same(first, again)
    assert again.train.table is not None
    assert again.train.names(again.train.ids[:1])[0].startswith(f"{tmp_path / 'rows.csv'}, row ")


def test_texts_come_with_their_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the {word} number {number}" for number in range(ROWS // 2) for word in ("red", "blue")]
    pq.write_table(pa.table({"text": texts, "label": ["warm", "cold"] * (ROWS // 2)}), tmp_path / "t.parquet")
    first = read(f"parquet:{tmp_path / 't.parquet'}", tokenizer="300")
    forbid(monkeypatch)
    again = read(f"parquet:{tmp_path / 't.parquet'}", tokenizer="300")
    assert_same(first, again)
    assert texts_of(again.test) == texts_of(first.test)
    assert again.train.example_shape["input_ids"][0].startswith("int64<")  # type: ignore[index, call-overload]


@pytest.mark.parametrize("change", ["content", "label", "seed", "fraction", "features"])
def test_what_is_asked_otherwise_is_read(tmp_path: Path, change: str) -> None:
    source = table(tmp_path / "rows.csv")
    first = read(source, label="kind")
    about: dict[str, Any] = {"label": "kind"}
    if change == "content":  # of the same size
        table(tmp_path / "rows.csv", seed=1)
    elif change == "label":
        about = {"label": "port"}
    else:
        name, value = {
            "seed": ("split_seed", 1),
            "fraction": ("validation_fraction", 0.3),
            "features": ("features", ["width"]),
        }[change]
        about[name] = value
    again = read(source, **about)
    assert again.train.fingerprint != first.train.fingerprint


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "removed":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
@pytest.mark.parametrize("what", ["read/*", "prepared/*/0.values", "prepared/*/sums.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, cache: Path, what: str, how: str) -> None:
    source = table(tmp_path / "rows.csv")
    first = read(source, label="kind")
    files = sorted(cache.glob(what))
    assert files
    for file in files:
        damage(file, how)
    assert_same(first, read(source, label="kind"))
    assert_same(first, read(source, label="kind"))
    assert len(sorted(cache.glob("prepared/*"))) == 3
    assert not list(cache.glob("*/.*"))


def test_what_does_not_fit_in_memory_is_mapped_the_second_time_too(tmp_path: Path) -> None:
    source = table(tmp_path / "rows.csv")
    first = read(source, label="kind", memory_budget_bytes=1000)
    again = read(source, label="kind", memory_budget_bytes=1000)
    assert isinstance(first.train, MappedDataset)
    assert isinstance(again.train, MappedDataset)
    assert_same(first, again)
    assert not isinstance(read(source, label="kind").train, MappedDataset)


def test_few_rows_are_not_kept(tmp_path: Path, cache: Path) -> None:
    read(table(tmp_path / "rows.csv", rows=200), label="kind")
    assert not cache.exists()


def test_the_cache_stays_within_its_limit(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [table(tmp_path / f"{seed}.csv", seed=seed) for seed in range(3)]
    for source in sources[:2]:
        read(source, label="kind")
    kept = {path.name for path in cache.glob("*/*")}
    assert len(kept) == 10
    one = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 2
    read(sources[0], label="kind")  # which is now the one that was used last
    monkeypatch.setenv("INSTAR_CACHE_GIB", str(2.1 * one / 2**30))
    read(sources[2], label="kind")
    forbid(monkeypatch)
    read(sources[0], label="kind")
    read(sources[2], label="kind")
    with pytest.raises(AssertionError, match="read again"):
        read(sources[1], label="kind")


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen in ("much", "-1", "nan"):
        monkeypatch.setenv("INSTAR_CACHE_GIB", chosen)
        with pytest.raises(UsageError, match=r"INSTAR_CACHE_GIB=.*: expected how many GiB"):
            make_room()


def test_processes_that_read_at_once_all_get_the_rows(tmp_path: Path, cache: Path) -> None:
    source = table(tmp_path / "rows.csv")
    code = (
        "import instar, sys, warnings; warnings.simplefilter('ignore');"
        f"print([instar.load_data({source!r}, label='kind').fingerprint for _ in range(8)])"
    )
    environment = {"INSTAR_CACHE": str(cache), "INSTAR_CACHE_GIB": "0.00005", "PATH": "", "OMP_NUM_THREADS": "1"}
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    several = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | path,
        )
        for _ in range(3)
    ]
    said = [one.communicate(timeout=120) for one in several]
    expected = str([read(source, label="kind").fingerprint] * 8)
    assert [(out.strip(), err) for out, err in said] == [(expected, "")] * 3


def test_an_error_comes_after_its_warnings(tmp_path: Path) -> None:
    lines = Path(table(tmp_path / "rows.csv").removeprefix("csv:")).read_text().splitlines()
    lines[7] = "inf,A,bee,1"
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="row 7: column 'width' is infinite"):
        read(f"csv:{tmp_path / 'rows.csv'}", label="kind")


@pytest.mark.parametrize("how", ["as it is", "flipped", "removed"])
def test_pictures_of_a_folder_are_decoded_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("instar.data.readers.folder._FEW", 10)
    chance = np.random.default_rng(0)
    for number in range(36):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(file)
    source = f"folder:{tmp_path / 'photos'}"
    first = read(source)
    (kept,) = cache.glob("prepared/*/0.values")
    if how == "as it is":
        monkeypatch.setattr("instar.data.readers.folder._decoding", None)
    else:
        damage(kept, how)
    again = read(source)
    assert torch.equal(first.train.gather(first.train.ids, 0), again.train.gather(first.train.ids, 0))
    monkeypatch.undo()
    monkeypatch.setenv("INSTAR_CACHE", str(cache))
    other = read(source, image_size=4)
    assert other.train.example_shape == (3, 4, 4)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / "a" / "0.png")
    assert read(source).train.fingerprint != first.train.fingerprint


def test_a_limit_that_is_no_number_is_refused_each_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table(tmp_path / "rows.csv")
    read(source, label="kind")
    monkeypatch.setenv("INSTAR_CACHE_GIB", "much")
    for _ in range(2):  # where the rows are kept already, too
        with pytest.raises(UsageError, match="INSTAR_CACHE_GIB=much: expected how many GiB"):
            read(source, label="kind")


def test_the_limit_holds_where_all_is_found(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = table(tmp_path / "one.csv")
    read(table(tmp_path / "other.csv", seed=1), label="kind")
    read(source, label="kind")
    kept = set(cache.glob("*/*"))
    monkeypatch.setenv("INSTAR_CACHE_GIB", "0")
    read(source, label="kind")
    left = set(cache.glob("*/*"))
    assert left
    assert len(left) < len(kept)
    assert_same(read(source, label="kind"), read(source, label="kind"))
