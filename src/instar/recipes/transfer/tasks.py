"""The two tasks of a split: halves of the classes of one data set, or two data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.errors import UsageError
from instar.recipes.loading import warn_of_other_normalisation
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.transfer.settings import HalvesSettings, TransferConfig
from instar.structures import without_lengths
from instar.transfer import (
    Halves,
    known_parents,
    listed_halves,
    parent_halves,
    random_halves,
    read_parents,
    semantic_halves,
)


@dataclass(frozen=True)
class Split:
    """One replicate of a study: its seed, the data of task A and of task B, and the halves that they are."""

    seed: int
    tasks: Mapping[str, DataSettings]
    halves: Halves | None
    """None where the tasks are two data sets"""
    class_names: Sequence[str]
    """all classes of the divided data set"""

    def manifest(self, letter: str | None = None) -> dict[str, Any]:
        """The classes of both halves, or the names of the two data sets; `half` marks one task."""
        own = {} if letter is None else {"half": letter}
        if self.halves is None:
            return own | {letter: task.name for letter, task in self.tasks.items()}
        return own | self.halves.manifest(self.class_names)

    @property
    def halves_name(self) -> str:
        """How the tasks were made: random 50/50, semantic 30/30, mnist to digits."""
        if self.halves is None:
            return " to ".join(task.name for task in self.tasks.values())
        return f"{self.halves.how} {len(self.halves.a)}/{len(self.halves.b)}"

    def rows(self) -> list[dict[str, Any]]:
        """`split`, `task` (A or B), `data` and `classes` (absent where the tasks are two data sets)."""
        classes = {letter: {"classes": list(task.classes or ())} for letter, task in self.tasks.items()}
        return [
            {"split": self.seed, "task": letter, "data": task.name, **(classes[letter] if self.halves else {})}
            for letter, task in self.tasks.items()
        ]


def splits_of(config: TransferConfig) -> list[Split]:
    """The splits of a study.

    Raises:
        UsageError: the classes cannot be divided in this way.
    """
    names = load_splits(config.data).class_names
    seeds = range(config.seed, config.seed + config.splits)
    if config.source is not None:
        return [Split(seed, {"A": config.source, "B": config.data}, None, names) for seed in seeds]
    splits = []
    for seed in seeds:
        halves = _halves(config.halves, names, seed)
        tasks = {letter: config.data.model_copy(update={"classes": halves.classes(letter)}) for letter in "AB"}
        splits.append(Split(seed, tasks, halves, names))
    return splits


def halves_hashes(config: TransferConfig) -> list[str]:
    """What the halves of each split are known by: a file of parents may change."""
    return [split.halves.hash for split in splits_of(config) if split.halves]


def _halves(settings: HalvesSettings, names: Sequence[str], seed: int) -> Halves:
    parents = known_parents(names) if settings.parents is None else read_parents(Path(settings.parents), names)
    if settings.how == "lists":
        return listed_halves(names, settings.a, settings.b)
    if settings.how == "semantic":
        return semantic_halves(names, seed=seed)
    if settings.how == "random":
        return random_halves(names, seed=seed, classes_per_half=settings.classes_per_half, parents=parents)
    if not parents:
        raise UsageError("halves by parents: name a file with the parent of each class (--parents FILE)")
    return parent_halves(names, parents, seed=seed, a=settings.a, b=settings.b)


def check_tasks(splits: Sequence[Split]) -> None:
    """Refuse tasks that no network can be copied between, or trained on.

    Raises:
        UsageError: examples of different shapes, or a class without a training example.
    """
    tasks = [load_splits(task) for split in splits for task in split.tasks.values()]
    first = tasks[0]
    warn_of_other_normalisation(first, tasks[1])
    for task in tasks:
        if without_lengths(task.train.example_shape) != without_lengths(first.train.example_shape):
            raise UsageError(
                f"examples of {first.name} are {first.train.example_shape}, of {task.name} "
                f"{task.train.example_shape}: layers can be copied only between tasks with examples of one shape"
            )
        present = set(task.train.labels(task.train.ids).tolist())
        missing = [name for label, name in enumerate(task.class_names) if label not in present]
        if missing:
            raise UsageError(
                f"{task.name}: no training example of class {missing[0]!r}, and of {len(missing)} of the "
                f"{len(task.class_names)} classes of a task; {len(task.train)} examples are too few"
            )
