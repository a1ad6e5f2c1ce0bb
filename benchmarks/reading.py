"""Rows of files in memory, beside the library that owns the format: the first time, and once read before.

Seconds of the processor: other programs on the machine do not count. What instar does more (ids by content,
checks, parts) is in its time. With workers, seconds of the clock: beside `DataLoader` of torch with as many, over
a folder that instar streams with its own, and over formats that instar reads whole, in one process.
"""

import io
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerFast

import instar
from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.data import batches, id_batches, shuffled
from instar.data.records.reading import read_records
from instar.data.records.roles import Roles
from instar.tokenising import MOST_IDS, train_tokenising

NUM_ROWS, NUM_PICTURES, NUM_COLUMNS, NUM_IDS = 20_000, 4_000, 16, 4_000
BATCH_SIZE, ROUNDS = 128, 5
FIRST, AGAIN = ">= 1", ">= 3"


def main() -> None:
    """Measure, and write `results/bench-reading.json`."""
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INSTAR_CACHE"] = str(Path(folder, "cache"))
        pairs = {**_tables(Path(folder)), **_pictures(Path(folder))}
        ways: dict[str, Way] = {}
        for name, (ours, theirs) in pairs.items():
            ways |= {f"{name}, instar": ours, f"{name}, owner": theirs}
        seconds = in_turns(ways, rounds=ROUNDS, clock=process_time, at_most_seconds=120)
        by_workers = _with_workers(Path(folder))
        ways = {f"{name}, {who}": way for name, both in by_workers.items() for who, way in both.items()}
        seconds |= in_turns(ways, rounds=ROUNDS, at_most_seconds=60)
        pairs |= {name: tuple(both.values()) for name, both in by_workers.items()}
    first = {name for name in pairs if "again" not in name}
    write_result(
        "reading",
        config={
            "data": f"{NUM_ROWS:,} rows of {NUM_COLUMNS} numbers, or texts; {NUM_PICTURES:,} PNG of 32x32",
            "owners": "pandas, datasets (with a tokenizer of transformers), webdataset; with workers DataLoader "
            "of torch over these and over files",
            "clock": "seconds of the processor; with workers those of the clock",
            "ratio": "seconds of the owner over those of instar, from files to tensors (or texts)",
        },
        seconds=seconds,
        ratios={
            name: ratio(
                seconds[f"{name}, owner"], seconds[f"{name}, instar"], goal=FIRST if name in first else AGAIN
            )
            for name in pairs
        },
        figures={way: figure(values, unit="seconds") for way, values in seconds.items()},
    )


def _tables(folder: Path) -> dict[str, tuple[Way, Way]]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(NUM_ROWS, NUM_COLUMNS)).round(4)).rename(columns=str)
    frame["label"] = rng.integers(26, size=NUM_ROWS)
    frame.to_csv(folder / "numbers.csv", index=False)
    texts = [f"{' '.join(map(str, rng.integers(5000, size=11)))} {row}" for row in range(NUM_ROWS)]
    owned = datasets.Dataset.from_dict({"text": texts, "label": frame["label"].tolist()})
    owned.save_to_disk(folder / "texts")
    owned.to_parquet(folder / "texts.parquet")

    def by_pandas() -> Any:
        found = pd.read_csv(folder / "numbers.csv")
        codes, _ = pd.factorize(found.pop("label"), sort=True)
        return torch.from_numpy(found.to_numpy(np.float32)), torch.from_numpy(codes)

    def by_datasets(opened: Callable[[], Any]) -> Any:
        found = opened()
        return found[:]["text"], torch.tensor(found[:]["label"])

    roles = Roles(label="label", text=("text",))
    parquet = str(folder / "texts.parquet")
    tokenizer = str(folder / "tokenizer.json")
    train_tokenising(texts, size=NUM_IDS).tokenizer.save(tokenizer)
    about: dict[str, Any] = {"label": "label", "tokenizer": tokenizer}

    def tokenised(cache: str) -> Any:
        read = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
        found = datasets.Dataset.from_parquet(parquet, cache_dir=cache)
        found = found.map(_Tokenise(read), batched=True, remove_columns=["text"])
        return found.with_format("torch")[:]

    return {
        **_twice("numbers from csv", f"csv:{folder / 'numbers.csv'}", folder, by_pandas, label="label"),
        "ids of texts from parquet": (
            partial(_first, f"parquet:{parquet}", folder, **about),
            partial(_in_an_empty_folder, folder, tokenised),
        ),
        "ids of texts from parquet, again": (
            partial(_again, f"parquet:{parquet}", **about),
            partial(tokenised, str(folder / "cache")),
        ),
        "texts from parquet": (
            partial(read_records, f"parquet:{parquet}", roles),
            partial(by_datasets, lambda: datasets.Dataset.from_parquet(parquet, cache_dir=str(folder / "cache"))),
        ),
        "texts from save_to_disk": (
            partial(read_records, f"hf:{folder / 'texts'}", roles),
            partial(by_datasets, lambda: datasets.load_from_disk(str(folder / "texts"))),
        ),
    }


def _pictures(folder: Path) -> dict[str, tuple[Way, Way]]:
    noise = np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, 32, 32, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in noise]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    labels = [row % 10 for row in range(NUM_PICTURES)]
    owned = datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)
    owned.save_to_disk(folder / "pictures")
    with webdataset.TarWriter(str(folder / "pictures.tar")) as shard:
        for row, picture in enumerate(pictures):
            content = io.BytesIO()
            picture.save(content, "PNG")
            shard.write({"__key__": f"{row:06}", "png": content.getvalue(), "cls": labels[row]})

    def by_datasets() -> Any:
        found = datasets.load_from_disk(str(folder / "pictures"))
        rows = [(np.asarray(row["image"]), row["label"]) for row in found]
        return torch.from_numpy(np.stack([image for image, _ in rows])), torch.tensor([label for _, label in rows])

    def by_webdataset() -> Any:
        rows = list(
            webdataset.WebDataset(str(folder / "pictures.tar"), shardshuffle=False)
            .decode("rgb8")
            .to_tuple("png", "cls")
        )
        return torch.from_numpy(np.stack([image for image, _ in rows])), torch.tensor([label for _, label in rows])

    found: dict[str, tuple[Way, Way]] = {}
    for place, theirs in (
        (f"hf:{folder / 'pictures'}", by_datasets),
        (f"webdataset:{folder / 'pictures.tar'}", by_webdataset),
    ):
        scheme = place.partition(":")[0]
        found |= _twice(f"pictures from {scheme}", place, folder, theirs)
    return found


def _with_workers(folder: Path) -> dict[str, dict[str, Way]]:
    """The same pictures: an epoch from files by as many workers, or a first reading beside the owner's workers."""
    _as_folder_and_shards(folder)
    streamed = instar.load_data(f"folder:{folder / 'classes'}", memory_budget_bytes=0, progress=False).train
    files = _Files(folder / "classes", len(streamed))
    owned = datasets.load_from_disk(str(folder / "pictures")).with_transform(_as_tensors)

    def ours(num_workers: int) -> None:
        parts = id_batches(shuffled(streamed.ids, seed=0, epoch=0), BATCH_SIZE)
        for _ in batches(streamed, parts, view=0, num_workers=num_workers):
            pass

    def by_torch(num_workers: int) -> None:
        _run_through(DataLoader(files, BATCH_SIZE, shuffle=True, num_workers=num_workers))

    def by_datasets(num_workers: int) -> None:
        _run_through(DataLoader(owned, BATCH_SIZE, num_workers=num_workers))  # type: ignore[arg-type]

    def by_webdataset(num_workers: int) -> None:
        shards = webdataset.WebDataset(str(folder / "shards" / "{0..1}.tar"), shardshuffle=False)
        rows = shards.decode("torchrgb8").to_tuple("png", "cls").batched(BATCH_SIZE)
        _run_through(DataLoader(rows, batch_size=None, num_workers=num_workers))

    found: dict[str, dict[str, Way]] = {}
    for number in (1, 2):
        workers = f"{number} worker{'s' * (number > 1)}"
        found[f"an epoch of a folder of pictures, {workers}"] = {
            "instar": partial(ours, number),
            "owner": partial(by_torch, number),
        }
        for place, theirs in (
            (f"hf:{folder / 'pictures'}", by_datasets),
            (f"webdataset:{folder / 'shards' / '*.tar'}", by_webdataset),
        ):
            name = f"pictures from {place.partition(':')[0]}, {workers} of the owner"
            found[name] = {"instar": partial(_first, place, folder), "owner": partial(theirs, number)}
    return found


def _as_folder_and_shards(folder: Path) -> None:
    """The pictures of `_pictures` as a folder a class, and as two shards: a shard is read by one worker."""
    rows = list(webdataset.WebDataset(str(folder / "pictures.tar"), shardshuffle=False))
    (folder / "shards").mkdir()
    for row in rows:
        named = folder / "classes" / f"class {row['cls'].decode()}" / f"{row['__key__']}.png"
        named.parent.mkdir(parents=True, exist_ok=True)
        named.write_bytes(row["png"])
    for number in (0, 1):
        with webdataset.TarWriter(str(folder / "shards" / f"{number}.tar")) as shard:
            for row in rows[number::2]:
                shard.write({name: row[name] for name in ("__key__", "png", "cls")})


class _Files(TorchDataset[tuple[torch.Tensor, int]]):
    """So many pictures of a folder for a class each, as the documentation of torch has it."""

    def __init__(self, folder: Path, number: int) -> None:
        classes = sorted(folder.iterdir())
        files = [(file, label) for label, one in enumerate(classes) for file in sorted(one.iterdir())]
        self._files = files[:number]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        file, label = self._files[row]
        with Image.open(file) as picture:
            return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255, label


def _as_tensors(rows: dict[str, Any]) -> dict[str, Any]:
    return {"image": [torch.from_numpy(np.array(one)) for one in rows["image"]], "label": rows["label"]}


def _run_through(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


class _Tokenise:
    """A function that `datasets` knows again, and so keeps what it gave."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: dict[str, Any]) -> Any:
        return self._tokenizer(rows["text"], truncation=True, max_length=MOST_IDS)


def _twice(name: str, place: str, folder: Path, theirs: Way, **about: Any) -> dict[str, tuple[Way, Way]]:
    """The first time, and once it was read before; the owner keeps nothing."""
    first, again = partial(_first, place, folder, **about), partial(_again, place, **about)
    return {name: (first, theirs), f"{name}, again": (again, theirs)}


def _first(place: str, folder: Path, **about: Any) -> Any:
    """With an empty cache."""
    kept = os.environ["INSTAR_CACHE"]

    def read(empty: str) -> Any:
        os.environ["INSTAR_CACHE"] = empty
        try:
            return instar.load_data(place, progress=False, **about)
        finally:
            os.environ["INSTAR_CACHE"] = kept

    return _in_an_empty_folder(folder, read)


def _in_an_empty_folder(folder: Path, read: Callable[[str], Any]) -> Any:
    return read(tempfile.mkdtemp(dir=folder))  # removed at the end: that is not what is measured


def _again(place: str, **about: Any) -> Any:
    """From the cache, which the round that does not count has filled."""
    return instar.load_data(place, progress=False, **about)


if __name__ == "__main__":
    main()
