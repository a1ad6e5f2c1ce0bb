"""What jobs do in tests: functions that a worker process can import."""

import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from instar.distillation import Teacher
from instar.errors import DataWarning, TrainingError, UsageError
from instar.runs import Run, write_bytes
from instar.training import fit
from small_fits import blots, normalised_network, part_labelled, perceptron

TRAIN, VALIDATION = blots(200), blots(100, seed=1)


def note(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Write down when the work was done, and what was there by then."""
    there = [name for name, path in needs.items() if Run.read(path).is_done]
    return {"rows": [{"time": time.time(), "there": there, "threads": torch.get_num_threads()}]}


def wait_for(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Waits for a file, for a minute at most."""
    for _ in range(600):
        if Path(run.config["path"]).exists():
            return {}
        time.sleep(0.1)
    raise UsageError("nothing came")


def touch(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Makes the file that another job waits for."""
    Path(run.config["path"]).touch()
    return {}


def refuse(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Fail with an error of the library."""
    raise TrainingError("this was not to be")


def stumble(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Fail with an error of somebody's own code."""
    return {"rows": [1 / 0]}


def die(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Be killed, each time."""
    with open(run.path / "tries.txt", "a") as tries:
        tries.write("again\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die_with_words(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Say why before the end, past Python as a library in C would."""
    os.write(2, b"out of patience\n\nthe end\n")
    os._exit(3)


def warn(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Write a line to stderr."""
    os.write(2, b"take care\n")
    return {}


def look_around(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """What a worker has of the process that started it, and of the one that it was forked from."""
    tasks = Path(f"/proc/{os.getppid()}/task")
    threads = [(one / "comm").read_text() for one in tasks.iterdir()] if tasks.exists() else None
    try:
        value = importlib.import_module("made_just_now").VALUE
    except ModuleNotFoundError:
        value = None
    found = {
        "folder": os.getcwd(),
        "told": os.environ.get("INSTAR_TOLD"),
        "safe_path": os.environ.get("PYTHONSAFEPATH"),
        "path": sys.path,
        "value": value,
        "cuda_is_lost": torch.cuda._is_in_bad_fork(),
        # The allocator of Arrow has a thread of its own, which it starts again after a fork.
        "threads_of_parent": threads and sum("jemalloc" not in name for name in threads),
    }
    return {"rows": [found]}


class Fragile(nn.Module):
    """Kills its process at one step of its first life, or takes its time at each."""

    def __init__(self, network: nn.Module, *, dies_at: int = 0, marker: Path | None = None) -> None:
        super().__init__()
        self.network, self.dies_at, self.marker = network, dies_at, marker
        self.seconds = float(os.environ.get("INSTAR_SECONDS_OF_A_STEP", "0"))
        self.num_steps = 0

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.num_steps += 1
            time.sleep(self.seconds)
            if self.num_steps == self.dies_at and self.marker is not None and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.network(inputs)


def fragile_fit(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """A fit whose process is killed once where `dies_at` says so, and only of rank `rank` if several share it."""
    config = run.config
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    dies_at = config["dies_at"] if rank == config.get("rank", 0) else 0
    network = Fragile(perceptron(dropout=0.2), dies_at=dies_at, marker=run.path / "died.txt")
    checkpoint_seconds = config.get("checkpoint_seconds", 0.0)
    result = fit(
        network, TRAIN, epochs=config["epochs"], batch_size=50, run=run, checkpoint_seconds=checkpoint_seconds
    )
    return {"rows": result.metrics}


SHARED: dict[str, dict[str, Any]] = {
    "labels": {"data": TRAIN},
    "part-labelled": {"data": part_labelled(TRAIN, every=2), "hard_weight": 0.5, "teacher": True},
    "all options": {
        "data": part_labelled(TRAIN),
        "ema_decay": 0.8,
        "max_norm": 0.8,
        "gradient_clip": 0.5,
        "weight_decay": 0.01,
        "validation": VALIDATION,
        "patience": 2,
    },
}


def shared_case(name: str) -> tuple[nn.Module, list[dict[str, Any]]]:
    """One of the fits that two processes share; 33 to a batch, and 2 in the last."""
    options = dict(SHARED[name])
    data, network = options.pop("data"), perceptron()
    if options.pop("teacher", False):
        options["targets"] = Teacher(perceptron(7), data, temperature=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the teacher was not trained
        result = fit(network, data, epochs=3, batch_size=33, learning_rate=0.05, **options)
    return result.network, result.metrics


def share(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """All shared fits, one after another, and one whose statistics differ among the processes."""
    rows = []
    for name in SHARED:
        network, metrics = shared_case(name)
        rows.append(metrics)
        rank = torch.distributed.get_rank()
        write_bytes(run.path / f"{name}-{rank}.safetensors", save(dict(network.state_dict())))
    stopped = fit(normalised_network(), TRAIN, epochs=6, batch_size=50, validation=VALIDATION, patience=1)
    rows.append(stopped.metrics)
    return {"rows": rows}


def only_the_second_fails(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Of two processes, one has an error of its own."""
    if torch.distributed.get_rank() == 1:
        raise ZeroDivisionError("in the second process")
    torch.distributed.barrier()
    return {}
