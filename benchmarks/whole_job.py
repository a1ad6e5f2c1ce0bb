"""A whole distillation, teachers included: 2x1200 units, one network or ten, into 2x800, beside torchdistill."""

import functools

import torch

from benchmarks.epoch import (
    BATCH_SIZE,
    HARD_WEIGHT,
    STEPS,
    STUDENT,
    TEACHER,
    TEMPERATURE,
    Peer,
    examples,
    our_epoch,
)
from benchmarks.timing import Seconds, Way, figure, has_bfloat16, in_turns, ratio, write_result
from benchmarks.torchdistill_box import Averaging
from instar.data import Dataset
from instar.distillation import Teacher
from instar.networks import build_network

EPOCHS = 30  # of the student: what the study of MNIST gives it
ROUNDS = 7
GOALS = {1: ">= 3", 10: ">= 10"}
"""By the number of teachers."""


def main() -> None:
    """Measure, and write `results/bench-whole-job.json`."""
    torch.manual_seed(0)
    data, source = examples()
    best = "bfloat16" if has_bfloat16() else "float32"
    precisions = list(dict.fromkeys(("float32", best)))
    ways: dict[str, Way] = {}
    for num in GOALS:
        members = [
            build_network(TEACHER, input_shape=(1, 28, 28), num_classes=10, seed=seed) for seed in range(num)
        ]
        peer = Peer(data, Averaging(members).eval())
        ways[f"torchdistill, epoch, {num}"] = peer.training(num_workers=0)
        for precision in precisions:
            once = functools.partial(_teacher, members, data, precision)
            targets = once()
            ways[f"instar, teachers once, {num}, {precision}"] = once
            ways[f"instar, epoch, {num}, {precision}"] = our_epoch(data, targets, precision)
    seconds = in_turns(ways, rounds=ROUNDS, at_most_seconds=240)
    config = {
        "teacher": TEACHER,
        "student": STUDENT,
        "epochs": EPOCHS,
        "data": source,
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "temperature": TEMPERATURE,
        "hard_weight": HARD_WEIGHT,
        "best_precision": best,
        "torchdistill": "1.1.5: DistillationBox, KDLoss; its ensemble is a module of ours that averages logits",
        "ratio": "seconds of torchdistill's 30 epochs over seconds of instar's 30 epochs with its teachers once",
    }
    ratios = {
        f"{num} teacher{'s' * (num > 1)}, {precision}": ratio(
            [EPOCHS * s for s in seconds[f"torchdistill, epoch, {num}"]],
            _whole(seconds, num, precision),
            goal=goal if precision == best else None,
        )
        for num, goal in GOALS.items()
        for precision in precisions
    }
    figures = {way: figure(values, unit="seconds") for way, values in seconds.items()}
    write_result("whole-job", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _teacher(members: list[torch.nn.Module], data: Dataset, precision: str) -> Teacher:
    return Teacher(members, data, temperature=TEMPERATURE, mean="geometric", precision=precision)


def _whole(seconds: Seconds, num: int, precision: str) -> list[float]:
    once, epoch = (seconds[f"instar, {what}, {num}, {precision}"] for what in ("teachers once", "epoch"))
    return [a + EPOCHS * b for a, b in zip(once, epoch, strict=True)]


if __name__ == "__main__":
    main()
