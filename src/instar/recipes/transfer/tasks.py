"""The two tasks of a split: halves of the classes of one data set, or two data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instar.errors import UsageError
from instar.recipes.fitting import load_splits
from instar.recipes.settings import DataSettings
from instar.recipes.transfer.settings import TransferConfig
from instar.transfer import (
    Halves,
    known_parents,
    listed_halves,
    parent_halves,
    random_halves,
    read_parents,
    semantic_halves,
)


def split_seeds(config: TransferConfig) -> range:
    """The seeds of the splits, which are the replicates of a study."""
    return range(config.seed, config.seed + config.splits)


def halves_of(config: TransferConfig, split: int) -> Halves | None:
    """The classes of both tasks; None where the tasks are two data sets.

    Raises:
        UsageError: the classes cannot be divided in this way.
    """
    if config.source is not None:
        return None
    names, halves = load_splits(config.data).class_names, config.halves
    parents = _parents(config, names)
    if halves.how == "lists":
        return listed_halves(names, halves.a, halves.b)
    if halves.how == "semantic":
        return semantic_halves(names, seed=split)
    if halves.how == "parents":
        return parent_halves(names, parents, seed=split, a=halves.a, b=halves.b)
    return random_halves(names, seed=split, classes_per_half=halves.classes_per_half, parents=parents)


def _parents(config: TransferConfig, names: Sequence[str]) -> dict[str, str]:
    file = config.halves.parents
    parents = known_parents(names) if file is None else read_parents(Path(file), names)
    if config.halves.how == "parents" and not parents:
        raise UsageError("halves by parents: name a file with the parent of each class (--parents FILE)")
    return parents


def task_data(config: TransferConfig, split: int, letter: str) -> DataSettings:
    """The data of task A or B."""
    halves = halves_of(config, split)
    if halves is not None:
        return config.data.model_copy(update={"classes": halves.classes(letter)})
    return config.source or config.data if letter == "A" else config.data


def check_tasks(config: TransferConfig) -> None:
    """Refuse tasks that no network can be copied between, or trained on.

    Raises:
        UsageError: examples of different shapes, or a class without a training example.
    """
    tasks = [load_splits(task_data(config, split, letter)) for split in split_seeds(config) for letter in "AB"]
    first = tasks[0]
    for task in tasks:
        if task.train.example_shape != first.train.example_shape:
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


def split_manifest(config: TransferConfig, split: int, letter: str | None = None) -> dict[str, Any]:
    """The classes of both halves of a split, or the names of the two data sets; `half` marks one task."""
    halves = halves_of(config, split)
    own = {} if letter is None else {"half": letter}
    if halves is None:
        return own | {letter: task_data(config, split, letter).name for letter in "AB"}
    return own | halves.manifest(load_splits(config.data).class_names)


def manifest(config: TransferConfig) -> dict[str, Any]:
    """The classes of both halves of every split."""
    return {f"split-{split}": split_manifest(config, split) for split in split_seeds(config)}


def task_rows(config: TransferConfig) -> list[dict[str, Any]]:
    """`split`, `task` (A or B), `data` and `classes` (absent where the tasks are two data sets)."""
    rows = []
    for split in split_seeds(config):
        halves = halves_of(config, split)
        for letter in "AB":
            about = {"split": split, "task": letter, "data": task_data(config, split, letter).name}
            rows.append(about | ({"classes": list(halves.classes(letter))} if halves else {}))
    return rows


def halves_name(config: TransferConfig) -> str:
    """How the tasks were made: random 50/50, semantic 30/30, mnist to digits."""
    halves = halves_of(config, config.seed)
    if halves is None:
        return " to ".join(task_data(config, config.seed, letter).name for letter in "AB")
    return f"{halves.how} {len(halves.a)}/{len(halves.b)}"
