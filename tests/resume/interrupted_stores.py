"""Stores whose writing is killed: what a process of its own does, and what it would have come to undisturbed."""

from pathlib import Path

import torch

from instar.data import parse_views
from instar.distillation import SoftTargetStore
from small_fits import digits, normalised_network, perceptron

DATA = digits(600).with_views(parse_views("jitter:1"), view_seed=3)
TEACHERS = {"one": perceptron(1, hidden=64), "two": normalised_network(2)}
SHARDS = 72


def write_store(path: Path, threads: int) -> None:
    """What is started again and again."""
    torch.set_num_threads(threads)
    SoftTargetStore.write(path, TEACHERS, DATA, views=3, rows_per_shard=3 * len(DATA) // SHARDS, batch_size=16)
