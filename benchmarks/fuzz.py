"""Damaged files for every reader: a value that a second reader agrees with, or one line; never a hang.

Each input is valid files with one to three changes, drawn from (reader, seed, index). A process of its own reads
the inputs of a reader one after another, with limited memory; an input that takes too long is killed and counted.
"""

import argparse
import enum
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fuzz_data import DATA_READERS, Reader
from benchmarks.fuzz_results import RESULT_READERS
from benchmarks.fuzz_speech import SPEECH_READERS
from benchmarks.mutations import Files, mutated
from benchmarks.timing import RESULTS, provenance
from instar.errors import InstarError
from instar.files import write_bytes

READERS = DATA_READERS | SPEECH_READERS | RESULT_READERS
NUM_INPUTS = 10_000
LIMIT_SECONDS = 20.0  # of one input, on a machine that others use too
LIMIT_MIB = 1024  # beyond what a process has when it starts
MOST_SHOWN = 20  # faults of a reader
MEMORY = "/dev/shm"


class Outcome(enum.IntEnum):
    """What became of an input."""

    NOT_TRIED = 0
    AGREED = 1
    REFUSED = 2
    DIFFERS = 3
    """the second reader has another value, or none"""
    TRACEBACK = 4
    """another exception than instar's own, or a message of more than a line"""
    HANG = 5
    CRASH = 6
    SECOND_FAILED = 7
    """the second reader crashed or hung: nothing of ours"""


FAULTS = (Outcome.DIFFERS, Outcome.TRACEBACK, Outcome.HANG, Outcome.CRASH)


class Shared(NamedTuple):
    """What the process that reads tells the one that watches."""

    outcomes: Any
    step: "Synchronized[int]"
    """twice the index of the input, and one more while the second reader has it"""
    peak_mib: "Synchronized[float]"
    seconds: "Synchronized[float]"


def main() -> int:
    """Try all readers, and write `results/fuzz.json`; 1 where there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; by default all")
    parser.add_argument("--inputs", type=int, default=NUM_INPUTS, help="of each reader (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="index of the first input (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "fuzz.json", help="(default: %(default)s)")
    typed = parser.parse_args()
    rows = []
    for name in typed.readers or READERS:
        rows.append(tried(name, num_inputs=typed.inputs, first=typed.first, seed=typed.seed))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    config = {"seed": typed.seed, "limit_seconds": LIMIT_SECONDS, "limit_mib": LIMIT_MIB}
    content = {**provenance("fuzz", "fuzz"), "config": config, "counts": rows}
    write_bytes(typed.out, json.dumps(content, indent=2).encode() + b"\n")
    return int(any(row[name] for row in rows for name in ("other value", "traceback", "hang", "crash")))


def tried(name: str, *, num_inputs: int, first: int, seed: int) -> dict[str, Any]:
    """The counts of a reader."""
    context = multiprocessing.get_context("fork")
    shared = Shared(
        context.Array("B", num_inputs, lock=False),
        context.Value("q", 0),
        context.Value("d", 0.0),
        context.Value("d", 0.0),
    )
    next_index = 0
    while next_index < num_inputs:
        shared.step.value = 2 * next_index
        worker = context.Process(target=_work, args=(name, next_index, first, seed, shared), daemon=True)
        worker.start()
        hung = not _watched(worker, shared.step)
        if not hung and worker.exitcode == 0:
            break
        index, is_second = divmod(shared.step.value, 2)
        shared.outcomes[index] = Outcome.SECOND_FAILED if is_second else Outcome.HANG if hung else Outcome.CRASH
        next_index = index + 1
    counts = Counter(Outcome(one) for one in shared.outcomes)
    return {
        "of": name,
        "inputs": num_inputs,
        "value as a second reader has it": counts[Outcome.AGREED],
        "refused in a line": counts[Outcome.REFUSED],
        "other value": counts[Outcome.DIFFERS],
        "traceback": counts[Outcome.TRACEBACK],
        "hang": counts[Outcome.HANG],
        "crash": counts[Outcome.CRASH],
        "second reader failed": counts[Outcome.SECOND_FAILED],
        "peak MiB": round(shared.peak_mib.value, 1),
        "seconds": round(shared.seconds.value, 1),
    }


def _watched(worker: Any, step: "Synchronized[int]") -> bool:
    """Wait for a process; kill it, and return False, where one input takes too long."""
    last, since = -1, time.monotonic()
    while worker.is_alive():
        worker.join(0.1)
        if step.value != last:
            last, since = step.value, time.monotonic()
        elif time.monotonic() - since > LIMIT_SECONDS:
            worker.kill()
            worker.join()
            return False
    return True


def _work(name: str, start: int, first: int, seed: int, shared: Shared) -> None:
    """Read the inputs from `start` on."""
    warnings.simplefilter("ignore")
    reader = READERS[name]
    valid = reader.valid()
    _limit_memory()
    before, seconds = _peak_mib(), shared.seconds.value
    num_shown = 0
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        for place in range(start, len(shared.outcomes)):
            shared.step.value = 2 * place
            index = first + place
            draw = random.Random(f"{name} {seed} {index}")
            # The first inputs are the valid ones themselves: each has a value.
            changed = (
                valid[index] if index < len(valid) else reader.finish(mutated(draw.choice(valid), draw), draw)
            )
            outcome, reason = _outcome(reader, changed, Path(folder) / "input", shared.step)
            if index < len(valid) and outcome is not Outcome.AGREED:
                outcome = Outcome.DIFFERS
            shared.outcomes[place] = outcome
            shared.peak_mib.value = max(shared.peak_mib.value, _peak_mib() - before)
            shared.seconds.value = seconds + time.process_time()
            num_shown += outcome in FAULTS
            if outcome in FAULTS and num_shown <= MOST_SHOWN:
                print(f"{name} {index}: {outcome.name}: {reason}", file=sys.stderr)


def _outcome(reader: Reader, files: Files, folder: Path, step: "Synchronized[int]") -> tuple[Outcome, str]:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    try:
        value = reader.read(folder)
    except InstarError as error:
        message = str(error)
        return (Outcome.REFUSED if len(message.splitlines()) == 1 else Outcome.TRACEBACK), message
    except Exception as error:
        return Outcome.TRACEBACK, f"{type(error).__name__}: {error}"
    else:
        step.value += 1
        reasons = []
        for second in reader.second:
            try:
                other = second(folder)
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            if same(value, other):
                return Outcome.AGREED, ""
            reasons.append(f"{str(value)[:300]} != {str(other)[:300]}")
        return Outcome.DIFFERS, "; ".join(reasons)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; arrays to rounding, sequences of any type, NaN to NaN."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-6, equal_nan=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, int) and not isinstance(other, bool):
        return one == float(other)
    return one == other or (one != one and other != other)


def _limit_memory() -> None:
    virtual_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual_bytes + LIMIT_MIB * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
