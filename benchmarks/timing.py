"""Time several ways to do the same work, in turns, and write down what came out."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.data import Dataset
from instar.optimisation import decide_precision
from instar.runs import environment, write_bytes
from instar.training import fit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FEWEST_ROUNDS = 3
Way = Callable[[], object]
Seconds = dict[str, list[float]]


def one_epoch(
    network: nn.Module, data: Dataset, *, batch_size: int, learning_rate: float, precision: str = "float32"
) -> Way:
    """A fit of one epoch at a constant rate: what is compared with a bare loop over the same steps."""
    return lambda: fit(
        network,
        data,
        epochs=1,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="constant",
        precision=precision,
    )


def in_turns(
    ways: Mapping[str, Way],
    *,
    rounds: int,
    at_most_seconds: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Seconds of each way, once in each round, after one round that does not count.

    Each round begins with another way: what else the machine does then slows all of them alike. On a slow
    machine there are fewer rounds, three at least.
    """
    names = list(ways)
    seconds: Seconds = {name: [] for name in names}
    for name in names:
        ways[name]()
    end = time.monotonic() + at_most_seconds
    for turn in range(rounds):
        if turn >= FEWEST_ROUNDS and time.monotonic() > end:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            ways[name]()
            seconds[name].append(clock() - started)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float], *, goal: str | None = None) -> dict[str, Any]:
    """The ratio of two ways, taken in each round: its median and quartiles."""
    return figure([a / b for a, b in zip(above, below, strict=True)], unit="ratio", goal=goal)


def figure(values: Sequence[float], *, unit: str, goal: str | None = None) -> dict[str, Any]:
    """Median and quartiles of a figure, and whether the median meets a goal such as `<= 1.05`."""
    median = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [median]
    about = {"median": _short(median), "spread": [_short(low), _short(high)], "n": len(values), "unit": unit}
    return about if goal is None else {**about, "goal": goal, "met": _meets(median, goal)}


def _meets(value: float, goal: str) -> bool:
    sign, limit = goal.split()
    return value <= float(limit) if sign == "<=" else value >= float(limit)


def _short(value: float) -> float:
    """Four digits: the rest is noise."""
    return float(f"{value:.4g}")


def has_bfloat16() -> bool:
    """Whether `precision="auto"` takes bfloat16 here for a network of some size."""
    return decide_precision("auto", torch.nn.Linear(1000, 1000), "cpu") == "bfloat16"


def resident_bytes(*, most: bool = False) -> int:
    """Resident memory of this process, now or at most.

    `getrusage` would give that of the process that started this one where that was larger: it outlives `exec`.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM" if most else "VmRSS")))


def write_result(
    name: str,
    *,
    config: Mapping[str, Any],
    seconds: Seconds,
    ratios: Mapping[str, Any],
    figures: Mapping[str, Any] | None = None,
    benchmark: str | None = None,
) -> None:
    """Write `results/bench-NAME.json`.

    Args:
        config: what was measured and how.
        seconds: raw, of each way and round.
        ratios: from `ratio`.
        figures: from `figure`, where something absolute is asked for.
        benchmark: the benchmark that wrote it, where that has another name.
    """
    counts = [len(values) for values in seconds.values()]
    result = {
        **provenance(name, benchmark or name),
        "config": dict(config),
        "n": max(counts),
        "spread": "quartiles over rounds; each round measures every way once",
        "ratios": dict(ratios),
        "figures": dict(figures or {}),
        "raw_seconds": {way: [_short(value) for value in values] for way, values in seconds.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    write_bytes(RESULTS / f"bench-{name}.json", json.dumps(result, indent=2).encode() + b"\n")


def provenance(name: str, benchmark: str) -> dict[str, Any]:
    """What every file of a benchmark begins with: its name, the command that wrote it, the commit, the machine."""
    about = environment()
    return {
        "name": name,
        "command": f"python -m benchmarks {benchmark}",
        "commit": _commit(),
        "machine": {key: about[key] for key in ("processor", "cores", "threads", "platform")}
        | {"load_average": round(os.getloadavg()[0], 2)},
        "torch": about["torch"],
        "python": about["python"],
    }


def _commit() -> str | None:
    git = ["git", "-C", str(RESULTS.parent)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    changed = subprocess.run(
        [*git, "status", "--porcelain", "src", "benchmarks"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
