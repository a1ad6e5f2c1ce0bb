"""A student's epoch on stored soft targets over a plain epoch; random rows/s and bytes of a store."""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.timing import figure, in_turns, ratio, write_result
from instar.data import Dataset, InMemoryDataset, parse_views
from instar.distillation import SoftTargetStore
from instar.networks import build_network
from instar.training import Targets, fit

TEACHERS = {"one": "mlp:100x1", "two": "mlp:100x1"}
STUDENT = "mlp:800x2"
NUM_EXAMPLES, NUM_CLASSES, NUM_VIEWS = 9_600, 10, 5
BATCH_SIZE = 128
TEMPERATURE = 4.0
ROWS_PER_SHARD = 10_000  # so that rows come from several
ROWS_AT_ONCE = 1_000
LOOK_UPS = 200
FEW_CLASSES, MANY_CLASSES = 10, 1_000
FORMS = {
    "float32, all classes": {"dtype": "float32"},
    "float16, all classes": {"dtype": "float16"},
    "float16, top 5": {"dtype": "float16", "top_k": 5, "temperatures": (TEMPERATURE,)},
}
ROUNDS = 15
GOALS = {"prepared in memory": "<= 1.05"}
ROWS_GOAL = ">= 100000"


def main() -> None:
    """Measure, and write `results/bench-store.json`."""
    with tempfile.TemporaryDirectory() as folder:
        data = _data(NUM_EXAMPLES, NUM_CLASSES).with_views(
            parse_views("jitter:2"), view_seed=0, num_views=NUM_VIEWS
        )
        store = _write(Path(folder) / "store", data, views=NUM_VIEWS, rows_per_shard=ROWS_PER_SHARD)
        seconds = in_turns(_epochs(store, data), rounds=ROUNDS, at_most_seconds=240)
        looked_up = in_turns(_look_ups(store), rounds=ROUNDS)
        bytes_of = {
            f"{form}, {classes} classes": _bytes_of_a_row(Path(folder) / f"{form}-{classes}", classes, options)
            for classes in (FEW_CLASSES, MANY_CLASSES)
            for form, options in FORMS.items()
        }
        prepared = _seconds_to_prepare(store, data)
    config = {
        "data": "random, 1x28x28 uint8, in memory, jitter:2",
        "student": STUDENT,
        "members": len(TEACHERS),
        "rows": NUM_VIEWS * NUM_EXAMPLES,
        "batch_size": BATCH_SIZE,
        "rows_per_shard": ROWS_PER_SHARD,
        "rows_at_once": ROWS_AT_ONCE,
        "seconds_to_open_and_prepare": prepared,
        "bytes_of_a_row": bytes_of,
        "ratio": "seconds of an epoch with stored soft targets over one with labels alone",
    }
    plain = seconds["plain"]
    ratios = {way: ratio(seconds[way], plain, goal=GOALS.get(way)) for way in seconds if way != "plain"}
    num_rows = ROWS_AT_ONCE * LOOK_UPS
    figures = {
        way: figure([num_rows / value for value in values], unit="examples/s", goal=ROWS_GOAL)
        for way, values in looked_up.items()
    }
    write_result("store", config=config, seconds={**seconds, **looked_up}, ratios=ratios, figures=figures)


def _data(num_examples: int, num_classes: int) -> InMemoryDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_examples, 1, 28, 28), dtype=torch.uint8, generator=generator)
    names = [str(number) for number in range(num_classes)]
    return InMemoryDataset(images, torch.arange(num_examples) % num_classes, class_names=names)


def _write(path: Path, data: Dataset, **options: object) -> SoftTargetStore:
    teachers = {
        name: build_network(network, input_shape=(1, 28, 28), num_classes=data.num_classes, seed=seed)
        for seed, (name, network) in enumerate(TEACHERS.items())
    }
    return SoftTargetStore.write(path, teachers, data, **options)


def _epochs(store: SoftTargetStore, data: Dataset) -> dict[str, partial[object]]:
    targets = {
        "plain": None,
        "prepared in memory": store.targets(data, temperature=TEMPERATURE),
        "read from the files at each step": store.targets(data, temperature=TEMPERATURE, remembered_bytes=0),
    }
    return {way: partial(_epoch, data, source) for way, source in targets.items()}


def _epoch(data: Dataset, targets: Targets | None) -> object:
    student = build_network(STUDENT, input_shape=(1, 28, 28), num_classes=NUM_CLASSES, seed=0)
    return fit(
        student,
        data,
        epochs=1,
        targets=targets,
        hard_weight=0.1 if targets else 1.0,
        batch_size=BATCH_SIZE,
        learning_rate=0.01,
        schedule="constant",
        precision="float32",
    )


def _look_ups(store: SoftTargetStore) -> dict[str, partial[None]]:
    """Ways to ask for random (id, view)."""
    generator = torch.Generator().manual_seed(1)
    shape = (LOOK_UPS, ROWS_AT_ONCE)
    ids = store.ids[torch.randint(len(store.ids), shape, generator=generator)]
    views = torch.randint(NUM_VIEWS, shape, generator=generator)

    def logits() -> None:
        for batch_ids, batch_views in zip(ids, views, strict=True):
            store.logits(batch_ids, batch_views)

    def soft_targets() -> None:
        for batch_ids, batch_views in zip(ids, views, strict=True):
            store.soft_targets(batch_ids, batch_views, TEMPERATURE)

    return {"logits of random rows": partial(logits), "soft targets of random rows": partial(soft_targets)}


def _bytes_of_a_row(path: Path, classes: int, options: dict[str, object]) -> float:
    """Of one member and view."""
    data = _data(2_000, classes)
    teacher = build_network("mlp:100x1", input_shape=(1, 28, 28), num_classes=classes, seed=0)
    SoftTargetStore.write(path, {"teacher": teacher}, data, **options)
    return round(sum(os.path.getsize(file) for file in path.glob("*.arrow")) / len(data), 1)


def _seconds_to_prepare(store: SoftTargetStore, data: Dataset) -> float:
    """Once for each student: the checksums of all shards, and the soft targets of all views."""
    started = time.perf_counter()
    SoftTargetStore.open(store.path).targets(data, temperature=TEMPERATURE)
    return round(time.perf_counter() - started, 4)


if __name__ == "__main__":
    main()
