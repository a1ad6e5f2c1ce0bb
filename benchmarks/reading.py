"""Rows of files in memory, beside the library that owns the format: the first time, and once read before.

Seconds of the processor: other programs on the machine do not count. What instar does more (ids by content,
checks, parts) is in its time.
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
from transformers import PreTrainedTokenizerFast

import instar
from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.data.records.reading import read_records
from instar.data.records.roles import Roles
from instar.tokenising import MOST_IDS, train_tokenising

NUM_ROWS, NUM_PICTURES, NUM_COLUMNS, NUM_IDS = 20_000, 4_000, 16, 4_000
ROUNDS = 5
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
    first = {name for name in pairs if "again" not in name}
    write_result(
        "reading",
        config={
            "data": f"{NUM_ROWS:,} rows of {NUM_COLUMNS} numbers, or texts; {NUM_PICTURES:,} PNG of 32x32",
            "owners": "pandas, datasets (with a tokenizer of transformers), webdataset",
            "clock": "seconds of the processor",
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
