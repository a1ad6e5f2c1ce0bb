"""Fits that are killed: what a process of its own does, and what it would have come to undisturbed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.data import like_length, parse_views
from instar.distillation import Teacher
from instar.networks import build_network
from instar.runs import Run
from instar.training import FitResult, fit
from small_fits import Words, blots, normalised_network, part_labelled, perceptron, words

WORDS = words(200)
TRAIN, VALIDATION = blots(200), blots(100, seed=1)
SHAKEN = TRAIN.with_views(parse_views("jitter:1"), view_seed=3)


def _teacher() -> Teacher:
    return Teacher(normalised_network(9), SHAKEN, temperature=4.0)


def _convolutions() -> nn.Module:
    """What lies in another order in memory than in a file."""
    return build_network("convnet:6x4", input_shape=(1, 8, 8), num_classes=10, seed=0)


CASES: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
    "sgd, dropout, views, batch normalisation": lambda: (
        normalised_network(),
        {"data": SHAKEN, "validation": VALIDATION, "weight_decay": 0.01, "gradient_clip": 1.0, "max_norm": 1.0},
    ),
    "adamw, average, patience": lambda: (
        normalised_network(),
        {"data": TRAIN, "validation": VALIDATION, "optimiser": "adamw", "ema_decay": 0.9, "patience": 4,
         "learning_rate": 0.05, "schedule": "constant"},
    ),
    "soft targets of a live teacher, part-labelled, warm-up": lambda: (
        perceptron(dropout=0.3),
        {"data": part_labelled(SHAKEN).with_views(SHAKEN.views, view_seed=3), "targets": _teacher(),
         "hard_weight": 0.3, "warmup_epochs": 1.5},
    ),
    "sgd, convolutions of several channels": lambda: (_convolutions(), {"data": TRAIN, "learning_rate": 0.02}),
    "adamw, convolutions of several channels": lambda: (
        _convolutions(), {"data": TRAIN, "optimiser": "adamw", "learning_rate": 0.01, "ema_decay": 0.9}
    ),
    "examples that vary in length, batches of like length": lambda: (
        Words(dropout=0.3),
        {"data": WORDS, "validation": WORDS, "learning_rate": 0.05, "optimiser": "adamw",
         "sampler": like_length(WORDS, batch_size=20)},
    ),
    "bfloat16": lambda: (perceptron(dropout=0.3), {"data": TRAIN, "precision": "bfloat16"}),
}  # fmt: skip


def fit_case(name: str, run: Run | None = None, checkpoint_seconds: float = 0.0) -> FitResult:
    """One fit of 100 steps, or less where it stops early."""
    network, options = CASES[name]()
    data = options.pop("data")
    return fit(
        network, data, epochs=10, batch_size=20, seed=5, run=run, checkpoint_seconds=checkpoint_seconds, **options
    )


def fit_in_a_process(name: str, path: Path, checkpoint_seconds: float, threads: int) -> None:
    """What is started again and again."""
    torch.set_num_threads(threads)
    with Run(path, recipe="fit", config={"case": name}) as run:
        run.finish({"rows": fit_case(name, run, checkpoint_seconds).metrics})
