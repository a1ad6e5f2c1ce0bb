"""Tables: reading them beside pandas and scikit-learn, and ten thousand to ten million rows in memory.

Reading is timed in seconds of the processor: other programs on the machine do not count.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmarks.timing import Way, figure, in_turns, ratio, resident_bytes, write_result
from instar.data import Dataset, batches, id_batches, load_data, shuffled

ROWS, NUMBERS, CATEGORIES, ROUNDS = 100_000, 16, 4, 7
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
COLUMNS, BATCH_SIZE = 20, 512
EXAMPLES = 1_000_000
"""Of all epochs of one size together, so that small sizes are not timed by their start."""
PEER = "pandas and scikit-learn"
MOST_MEMORY, MOST_INDEX, MOST_GROWTH, LEAST_SPEED = "<= 2", "<= 32", "<= 1.1", ">= 1"


def main() -> None:
    """Measure, and write `results/bench-tables.json`."""
    with tempfile.TemporaryDirectory() as folder:
        ways = _ways(Path(folder))
        seconds = in_turns(ways, rounds=ROUNDS, clock=time.process_time, at_most_seconds=200)
    ratios = {
        f"{PEER} over instar, {kind}": ratio(
            seconds[f"{PEER}, {kind}"], seconds[f"instar, {kind}"], goal=LEAST_SPEED
        )
        for kind in ("csv", "parquet")
    }
    found = {size: _in_a_process(size) for size in SIZES}
    least, most = found[SIZES[0]], found[SIZES[-1]]
    growth = ratio([most["microseconds"]], [least["microseconds"]], goal=MOST_GROWTH)
    ratios[f"an example of {SIZES[-1]:,} beside one of {SIZES[0]:,}"] = growth
    figures = {}
    for size, about in found.items():
        figures[f"{size:,} rows: most memory"] = figure([about["peak_gib"]], unit="GiB", goal=MOST_MEMORY)
        figures[f"{size:,} rows: index"] = figure([about["index_bytes"]], unit="bytes an example", goal=MOST_INDEX)
        figures[f"{size:,} rows: an example of an epoch"] = figure([about["microseconds"]], unit="µs")
        figures[f"{size:,} rows: read"] = figure([about["read_microseconds"]], unit="µs an example")
    config = {
        "ratio": f"seconds of {PEER} over those of load_data",
        "clock": "seconds of the processor, those of all threads",
        "rows": ROWS,
        "numbers": NUMBERS,
        "categories": CATEGORIES,
        "columns of the large tables": COLUMNS,
        "batch_size": BATCH_SIZE,
    }
    write_result("tables", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _ways(folder: Path) -> dict[str, Way]:
    """Reading one table, split in three, as vectors: by instar, and by the libraries that people take."""
    random = np.random.default_rng(0)
    columns = {f"x{place}": random.normal(size=ROWS).round(4) for place in range(NUMBERS)}
    columns |= {
        f"c{place}": random.choice([f"v{value}" for value in range(30)], ROWS) for place in range(CATEGORIES)
    }
    table = pa.table({**columns, "class": random.choice(["a", "b", "c"], ROWS)})
    files = {"csv": folder / "table.csv", "parquet": folder / "table.parquet"}
    pcsv.write_csv(table, files["csv"])
    pq.write_table(table, files["parquet"])
    ours = {f"instar, {kind}": partial(_ours, kind, file) for kind, file in files.items()}
    return {**ours, **{f"{PEER}, {kind}": partial(_theirs, kind, file) for kind, file in files.items()}}


def _ours(kind: str, file: Path) -> Dataset:
    """The first time: with an empty cache."""
    with tempfile.TemporaryDirectory(dir=file.parent) as empty:
        os.environ["INSTAR_CACHE"] = empty
        return load_data(f"{kind}:{file}", label="class").train


def _theirs(kind: str, file: Path) -> list[Tensor]:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = (pd.read_csv if kind == "csv" else pd.read_parquet)(file)
    labels = frame.pop("class")
    rest, test, rest_labels, _ = train_test_split(frame, labels, test_size=0.2, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=0.1, stratify=rest_labels, random_state=0)
    numbers = [name for name in frame if name.startswith("x")]
    categories = [name for name in frame if name.startswith("c")]
    prepare = make_column_transformer(
        (StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore"), categories), sparse_threshold=0
    ).fit(train)
    return [torch.from_numpy(prepare.transform(part).astype(np.float32)) for part in (train, validation, test)]


def _in_a_process(size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.tables", str(size)]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


def measured(size: int) -> dict[str, float]:
    """Memory, index and time of a table of so many rows, read from Parquet in this process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.parquet"
        os.environ["INSTAR_CACHE"] = folder
        # In a process of its own: what is held here is what reading takes.
        subprocess.run([sys.executable, "-m", "benchmarks.tables", "write", str(size), str(file)], check=True)
        started = time.perf_counter()
        data = load_data(f"parquet:{file}", label="class", progress=False).train
        read = time.perf_counter() - started
    by_id = data._by_id
    tensors = [data.ids, data._own_rows, by_id.rows, by_id.index.ids, by_id.index.order]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    epochs, seconds = max(1, EXAMPLES // len(data)), []
    for epoch in range(epochs + 1):
        started = time.perf_counter()
        for _ in batches(data, id_batches(shuffled(data.ids, seed=0, epoch=epoch), BATCH_SIZE), view=0):
            pass
        seconds.append(time.perf_counter() - started)
    return {
        "peak_gib": resident_bytes(most=True) / 2**30,
        "index_bytes": sum(storages.values()) / len(data),
        "microseconds": 1e6 * min(seconds[1:]) / len(data),
        "read_microseconds": 1e6 * read / size,
    }


def write(size: int, file: str) -> None:
    """A table of random numbers, a part after another."""
    random, writer = np.random.default_rng(0), None
    for start in range(0, size, 100_000):
        number = min(100_000, size - start)
        columns = {f"x{place}": random.normal(size=number).astype(np.float32) for place in range(COLUMNS)}
        table = pa.table({**columns, "class": random.choice(["a", "b", "c"], number)})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    run: dict[int, Callable[[], None]] = {
        1: main,
        2: lambda: print(json.dumps(measured(int(sys.argv[1])))),
        4: lambda: write(int(sys.argv[2]), sys.argv[3]),
    }
    run[len(sys.argv)]()
