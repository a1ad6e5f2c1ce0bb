"""Data larger than memory: what an example costs, and how much is held, from ten thousand to ten million."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import figure, ratio, resident_bytes, write_result
from instar.data.columns import Varying
from instar.data.mapped import MappedDataset, write_examples
from instar.training import fit

SIZES = {"rows": (10_000, 100_000, 1_000_000, 10_000_000), "texts": (10_000, 100_000, 1_000_000)}
NUM_COLUMNS, NUM_WORDS, LONGEST = 20, 4_000, 24
AT_ONCE, BATCH_SIZE = 100_000, 512
EXAMPLES = 2_000_000
"""Of all epochs of one size together, so that small sizes are not timed by their start."""
MOST_MEMORY, MOST_INDEX, MOST_GROWTH = "<= 2", "<= 32", "<= 1.1"


def main() -> None:
    """Measure, and write `results/bench-streams.json`."""
    found = {(kind, size): _in_a_process(kind, size) for kind, sizes in SIZES.items() for size in sizes}
    ratios = {}
    for kind, (least, *_, most) in SIZES.items():
        costs = [[found[kind, size]["microseconds"]] for size in (most, least)]
        ratios[f"{kind}: an example of {most:,} beside one of {least:,}"] = ratio(*costs, goal=MOST_GROWTH)
    figures = {}
    for (kind, size), about in found.items():
        figures[f"{kind}, {size:,}: an example of an epoch"] = figure([about["microseconds"]], unit="µs")
        figures[f"{kind}, {size:,}: most memory"] = figure([about["peak_gib"]], unit="GiB", goal=MOST_MEMORY)
        figures[f"{kind}, {size:,}: index"] = figure(
            [about["index_bytes"]], unit="bytes an example", goal=MOST_INDEX
        )
    config = {
        "ratio": "seconds for an example of the most over one of the least",
        "columns": NUM_COLUMNS,
        "words": NUM_WORDS,
        "longest": LONGEST,
        "batch_size": BATCH_SIZE,
    }
    seconds = {f"{kind}, {size:,}": [1e-6 * about["microseconds"]] for (kind, size), about in found.items()}
    write_result("streams", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _in_a_process(kind: str, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streams", kind, str(size)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(kind: str, size: int) -> dict[str, float]:
    """Write so many examples in parts, and learn from the files."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"
        write_examples(kept, _parts(kind, size))
        labels = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(1))
        data = MappedDataset(kept, next(_parts(kind, 8)), labels, class_names=["a", "b"], ids=_ids(size))
        num_epochs = max(1, EXAMPLES // size)
        network = _network(kind)
        fit(network, data.subset(data.ids[:BATCH_SIZE]), epochs=1, batch_size=BATCH_SIZE, learning_rate=0.01)
        started = time.perf_counter()
        fit(network, data, epochs=num_epochs, batch_size=BATCH_SIZE, learning_rate=0.01)
        seconds = time.perf_counter() - started
        peak = resident_bytes(most=True)
        held = [
            one
            for one in (*vars(data).values(), data._by_id.rows, *vars(data._by_id.index).values())
            if isinstance(one, Tensor)
        ]
        index = sum(one.nbytes for one in held if one is not data._labels and one is not data._inputs)
        index += sum(column._starts.nbytes for column in _varying(data))
    return {
        "microseconds": 1e6 * seconds / (num_epochs * size),
        "peak_gib": peak / 2**30,
        "index_bytes": index / size,
    }


def _ids(size: int) -> Tensor:
    """As different as those made from contents."""
    return torch.randperm(size) * 0x9E3779B97F4A7C1 % 2**62


def _parts(kind: str, size: int) -> Iterator[Any]:
    chance = torch.Generator().manual_seed(0)
    for start in range(0, size, AT_ONCE):
        number = min(AT_ONCE, size - start)
        if kind == "rows":
            yield torch.randn(number, NUM_COLUMNS, generator=chance)
            continue
        lengths = torch.randint(1, LONGEST + 1, (number,), generator=chance)
        words = torch.randint(0, NUM_WORDS, (int(lengths.sum()),), generator=chance)
        yield {"input_ids": Varying(words, lengths)}


def _varying(data: MappedDataset) -> list[Varying]:
    columns = data._inputs.values() if isinstance(data._inputs, dict) else []
    return [column for column in columns if isinstance(column, Varying)]


class _Bag(nn.Module):
    """The mean of the words' vectors, and a linear layer on it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(NUM_WORDS, 32), nn.Linear(32, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        there = attention_mask[..., None].float()
        logits: Tensor = self.last((self.words(input_ids) * there).sum(1) / there.sum(1))
        return logits


def _network(kind: str) -> nn.Module:
    if kind == "texts":
        return _Bag()
    return nn.Sequential(nn.Linear(NUM_COLUMNS, 64), nn.ReLU(), nn.Linear(64, 2))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
