"""Stores of wide teachers: memory and bytes of writing one, and an epoch of a student that reads one."""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import ROOT, Seconds, figure, in_turns, provenance, ratio, resident_bytes
from instar.data import InMemoryDataset
from instar.distillation import SoftTargetStore
from instar.losses import Targets
from instar.training import fit

CLASSES = 131_072
LENGTH = 128  # of a sequence
WIDTH = 256  # of the student's and the teacher's hidden states
KEPT: dict[str, Any] = {"top_k": 48, "draws": 16, "temperatures": (1.0,)}
FEW, MANY = 16_384, 131_072  # tokens: the memory of many is that of few
TOKENS = 10**6  # over which the files beside the shards are shared
EXAMPLES, BATCH_SIZE = 512, 64
ROUNDS = 5


class Reader(nn.Module):
    """Logits of each position, from the mean of the embeddings up to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(CLASSES, width), nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(1, input_ids.shape[1] + 1)[:, None]
        logits: Tensor = self.head(self.embedding(input_ids).cumsum(1) / places)
        return logits


def main() -> None:
    """Write a store of so many tokens, and print the memory that this took and the bytes, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.width_stores", description=main.__doc__)
    parser.add_argument("--tokens", type=int, default=FEW)
    parser.add_argument("--folder", type=Path, help="keep the store, and go on with it after a kill")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(written(asked.tokens, asked.folder or Path(folder) / "store")))


def written(tokens: int, folder: Path) -> dict[str, Any]:
    """Resident memory of the process, the most of all starts; bytes a token, and those beside them."""
    torch.set_num_threads(1)
    ids = torch.randint(CLASSES, (tokens // LENGTH, LENGTH), generator=torch.Generator().manual_seed(0))
    data = InMemoryDataset(ids, None, class_names=_names())
    record = folder.with_name(f"{folder.name}.json")
    before = json.loads(record.read_text()) if record.exists() else {"resident": 0, "seconds": 0.0, "starts": 0}

    def so_far() -> dict[str, Any]:
        return {
            "tokens": tokens,
            "resident": max(before["resident"], resident_bytes(most=True)),
            "seconds": before["seconds"] + time.process_time(),
            "starts": before["starts"] + 1,
        }

    def keep(_: float) -> None:
        record.write_text(json.dumps(so_far()))

    store = SoftTargetStore.write(folder, {"teacher": Reader(64)}, data, progress=keep, **KEPT)
    sizes = {file.name: file.stat().st_size for file in store.path.iterdir()}
    shards = sum(size for name, size in sizes.items() if name.startswith("shard-"))
    found = {**so_far(), "bytes_a_token": shards / tokens, "bytes_once": sum(sizes.values()) - shards}
    record.write_text(json.dumps(found | {"commit": provenance("width", "width")["commit"]}))
    return found


def stores(record: Path | None, ratios: dict[str, object], figures: dict[str, object], seconds: Seconds) -> None:
    """Both measures; `record` is that of a store which was written before."""
    few, many = in_a_process(FEW), in_a_process(MANY) if record is None else json.loads(record.read_text())
    case = f"writing top 48, rest and 16 draws of {CLASSES:,} classes"
    figures[f"{case}: resident memory, {many['tokens']:,} tokens"] = figure(
        [many["resident"] / 2**30], unit="GiB", goal="<= 1"
    )
    ratios[f"{case}: resident memory, over that of {FEW:,} tokens"] = figure(
        [many["resident"] / few["resident"]], unit="ratio", goal="<= 1.05"
    )
    a_token = many["bytes_a_token"] + many["bytes_once"] / TOKENS
    figures[f"{case}: of each of {TOKENS:,} tokens"] = figure([a_token], unit="bytes", goal="<= 370")
    seconds[f"{case}: {many['tokens']:,} tokens"] = [many["seconds"]]
    with tempfile.TemporaryDirectory() as folder:
        times = in_turns(epochs(Path(folder)), rounds=ROUNDS, at_most_seconds=240, clock=time.process_time)
    case = f"an epoch of a student of {CLASSES:,} classes"
    for way, found in times.items():
        seconds[f"{case}: {way}"] = found
        if way != "labels":
            goal = None if "hidden" in way else "<= 1.1"
            ratios[f"{case}: {way}, over labels alone"] = ratio(found, times["labels"], goal=goal)


def epochs(folder: Path) -> dict[str, functools.partial[object]]:
    """An epoch with labels alone, and with what stores of the same teacher say."""
    inputs = torch.randn(EXAMPLES, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=torch.Generator().manual_seed(1))
    data, teacher = InMemoryDataset(inputs, labels, class_names=_names()), {"teacher": network(1)}
    top = SoftTargetStore.write(folder / "top", teacher, data, **KEPT)
    states = SoftTargetStore.write(folder / "states", teacher, data, hidden=True)
    ways = {
        "labels": (None, 1.0),
        "stored, tail": (top.targets(data, temperature=1.0, reading="tail"), 0.0),
        "stored, drawn": (top.targets(data, temperature=1.0), 0.0),
        "stored, drawn, and labels": (top.targets(data, temperature=1.0), 0.1),
        "stored hidden states and labels": (states.targets(data, temperature=1.0), 0.1),
    }
    return {way: functools.partial(epoch, data, *how) for way, how in ways.items()}


def epoch(data: InMemoryDataset, targets: Targets | None, hard_weight: float) -> object:
    """One pass over the data."""
    return fit(
        network(0),
        data,
        epochs=1,
        targets=targets,
        hard_weight=hard_weight,
        batch_size=BATCH_SIZE,
        learning_rate=0.01,
        schedule="constant",
        precision="float32",
    )


def network(seed: int) -> nn.Module:
    """A layer and a head."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))


def in_a_process(tokens: int) -> dict[str, float]:
    """`written` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.width_stores", "--tokens", str(tokens)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _names() -> list[str]:
    return [f"token{number}" for number in range(CLASSES)]


if __name__ == "__main__":
    main()
