"""Two tasks made from the classes of one data set: random halves, halves by meaning, lists of classes."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.naming import described, unknown_name
from instar.transfer.groups import CIFAR100_PARENTS, LIVING, MAN_MADE, imagenet_groups


@dataclass(frozen=True)
class Halves:
    """The classes of task A and of task B; each task numbers its classes in this order.

    Raises:
        UsageError: a half has fewer than two classes, or a class is in both halves or twice in one.

    Example:
        >>> Halves(("cat", "dog"), ("car", "bus"), how="lists").label_map("B")
        {'car': 0, 'bus': 1}
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    how: str
    """random, semantic, parents or lists"""
    seed: int = 0
    parents: Mapping[str, str] = field(default_factory=dict)
    """parent of each class, where known"""

    def __post_init__(self) -> None:
        for letter in "AB":
            if len(self.classes(letter)) < 2:
                raise UsageError(
                    f"half {letter} has {len(self.classes(letter))} classes; a task needs at least two"
                )
        name, count = Counter(self.a + self.b).most_common(1)[0]
        if count > 1:
            where = "both halves" if name in self.a and name in self.b else "one half twice"
            raise UsageError(f"class {name!r} is in {where}: a split puts each class into one half, once")

    def classes(self, letter: str) -> tuple[str, ...]:
        """The classes of task A or B."""
        return {"A": self.a, "B": self.b}[letter]

    def label_map(self, letter: str) -> dict[str, int]:
        """The label of each class in task A or B."""
        return {name: label for label, name in enumerate(self.classes(letter))}

    @property
    def hash(self) -> str:
        """16 hex digits that identify the two lists."""
        return hashlib.sha256("\n".join([*self.a, "", *self.b]).encode()).hexdigest()[:16]

    def manifest(self, class_names: Sequence[str]) -> dict[str, Any]:
        """A JSON description of the split: classes, label maps both ways, and how many classes of each parent.

        Args:
            class_names: all classes of the data set, in the order of its labels.

        Raises:
            UsageError: a class of a half is not in `class_names`.
        """
        for name in (*self.a, *self.b):
            if name not in class_names:
                raise unknown_name("class", name, class_names)
        maps = {letter: self._maps(letter, class_names) for letter in "AB"}
        counts = {
            parent: {
                letter: sum(self.parents.get(name) == parent for name in self.classes(letter)) for letter in "AB"
            }
            for parent in sorted(set(self.parents.values()))
        }
        return {"how": self.how, "seed": self.seed, "hash": self.hash, **maps, "num_of_parent": counts}

    def _maps(self, letter: str, class_names: Sequence[str]) -> dict[str, Any]:
        label_map = self.label_map(letter)
        return {
            "classes": list(label_map),
            "label_of_class": label_map,
            "whole_label_of_label": [class_names.index(name) for name in label_map],
            "label_of_whole_label": [label_map.get(name, NO_LABEL) for name in class_names],
        }


def random_halves(
    class_names: Sequence[str],
    *,
    seed: int,
    classes_per_half: int | None = None,
    parents: Mapping[str, str] | None = None,
) -> Halves:
    """Random halves, drawn as the paper's authors did: A by numpy's generator seeded with [seed], B the rest.

    Args:
        class_names: all classes of the data set.
        seed: 0 to 3 with 1000 classes gives the paper's own four splits.
        classes_per_half: the size of both halves; by default half of all classes.
        parents: parent of each class, for the manifest.

    Raises:
        UsageError: a half has fewer than two classes, or there are fewer than twice `classes_per_half` classes.

    Example:
        >>> random_halves("abcdef", seed=0).a
        ('a', 'b', 'd')

    References:
        Yosinski et al. 2014, section 4; their repository's notebooks.
    """
    _check_names("random_halves", class_names)
    size = classes_per_half or len(class_names) // 2
    if 2 * size > len(class_names):
        raise UsageError(f"{size} classes in each half: there are {len(class_names)} classes in all")
    order = np.random.RandomState([seed]).choice(np.arange(len(class_names)), len(class_names), replace=False)
    a, b = order[:size], order[size : 2 * size] if classes_per_half else order[size:]
    first, second = (tuple(class_names[number] for number in sorted(half.tolist())) for half in (a, b))
    return Halves(first, second, how="random", seed=seed, parents=parents or {})


def _check_names(caller: str, class_names: object) -> None:
    if not isinstance(class_names, Sequence):
        raise UsageError(
            f"{caller}: class_names should be a list of names, found {described(class_names)}; that of a data set "
            "is its .class_names"
        )


def semantic_halves(class_names: Sequence[str], *, seed: int) -> Halves:
    """Man-made classes (A) against natural classes (B), for ImageNet's 1000 classes and for CIFAR-100.

    ImageNet's groups are the paper's, 551 and 449 classes. CIFAR-100 has 30 man-made classes; 30 of its 65 living
    classes are drawn to match.

    Args:
        class_names: all classes of the data set; ImageNet's are named as its folders, n01440764.
        seed: draws the living classes of CIFAR-100.

    Raises:
        UsageError: the classes are of another data set.

    References:
        Yosinski et al. 2014, section 4.2 and supplement.
    """
    _check_names("semantic_halves", class_names)
    if set(class_names) == set(CIFAR100_PARENTS):
        group_of = {name: CIFAR100_PARENTS[name] for name in class_names}
        a = [name for name in class_names if group_of[name] in MAN_MADE]
        living = [name for name in class_names if group_of[name] in LIVING]
        drawn = np.random.RandomState([seed]).choice(len(living), len(a), replace=False)
        b = [living[number] for number in sorted(drawn.tolist())]
        return Halves(tuple(a), tuple(b), how="semantic", seed=seed, parents=group_of)
    if len(class_names) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in class_names):
        in_order = sorted(class_names)  # as ImageNet's numbers are
        a, b = ([in_order[number] for number in group] for group in imagenet_groups())
        parents = {**dict.fromkeys(a, "man-made"), **dict.fromkeys(b, "natural")}
        return Halves(tuple(a), tuple(b), how="semantic", seed=seed, parents=parents)
    raise UsageError(
        f"semantic halves are known for CIFAR-100 and ImageNet's 1000 classes, not for these {len(class_names)} "
        f"classes ({class_names[0]}, ...; ImageNet's are named like n01440764); give a file with a parent for "
        "each class, or two lists of classes"
    )


def parent_halves(
    class_names: Sequence[str],
    parents: Mapping[str, str],
    *,
    seed: int = 0,
    a: Sequence[str] = (),
    b: Sequence[str] = (),
) -> Halves:
    """Halves that keep all classes of a parent together.

    Args:
        class_names: all classes of the data set.
        parents: parent of each class.
        seed: where `a` and `b` are not given, parents in random order each go to the smaller half.
        a: parents of half A.
        b: parents of half B.

    Raises:
        UsageError: a class has no parent, or a parent is unknown or the only one.

    Example:
        >>> parents = {"cat": "animal", "car": "thing", "dog": "animal", "bus": "thing"}
        >>> parent_halves(list(parents), parents, a=["animal"], b=["thing"]).a
        ('cat', 'dog')
    """
    missing = [name for name in class_names if name not in parents]
    if missing:
        raise UsageError(f"class {missing[0]!r} has no parent; {len(missing)} of {len(class_names)} have none")
    known = list(dict.fromkeys(parents[name] for name in class_names))
    for parent in (*a, *b):
        if parent not in known:
            raise unknown_name("parent class", parent, known)
    if bool(a) != bool(b):
        raise UsageError("halves by parents: name the parents of both halves, or of none")
    if not a:
        a, b = _dealt(known, Counter(parents[name] for name in class_names), seed)
    first, second = (tuple(name for name in class_names if parents[name] in half) for half in (a, b))
    return Halves(first, second, how="parents", seed=seed, parents={name: parents[name] for name in class_names})


def _dealt(parents: Sequence[str], num_classes: Mapping[str, int], seed: int) -> tuple[list[str], list[str]]:
    halves: tuple[list[str], list[str]] = ([], [])
    for number in np.random.RandomState([seed]).permutation(len(parents)).tolist():
        sizes = [sum(num_classes[parent] for parent in half) for half in halves]
        halves[sizes[1] < sizes[0]].append(parents[number])
    return halves


def listed_halves(class_names: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Halves:
    """Halves from two lists of classes.

    Raises:
        UsageError: a class is unknown, or in both lists.

    Example:
        >>> listed_halves(("0", "1", "2", "3"), ["0", "1"], ["2", "3"]).b
        ('2', '3')
    """
    for name in (*a, *b):
        if name not in class_names:
            raise unknown_name("class", name, class_names)
    return Halves(tuple(a), tuple(b), how="lists")


def read_parents(path: Path, class_names: Sequence[str]) -> dict[str, str]:
    """Read the parents of classes from a file: on each line a class, a tab and its parent.

    Raises:
        UsageError: the file cannot be read, or a line has another form or names an unknown class.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the parents of the classes cannot be read from {path}: {error}") from error
    parents = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, parent = (part.strip() for part in line.partition("\t"))
        if not name or not parent:
            raise UsageError(f"{path}, line {number}: expected a class, a tab and its parent, found {line!r}")
        if name not in class_names:
            raise UsageError(f"{path}, line {number}: {unknown_name('class', name, class_names)}")
        parents[name] = parent
    return parents


def known_parents(class_names: Sequence[str]) -> dict[str, str]:
    """Parents that need no file: those of CIFAR-100, or the part before `/` of each name (Omniglot's alphabets).

    Example:
        >>> known_parents(["Greek/alpha", "Greek/beta", "Latin/a"])["Latin/a"]
        'Latin'
    """
    if set(class_names) == set(CIFAR100_PARENTS):
        return {name: CIFAR100_PARENTS[name] for name in class_names}
    if all("/" in name for name in class_names):
        return {name: name.partition("/")[0] for name in class_names}
    return {}
