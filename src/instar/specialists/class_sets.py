"""Class sets: which classes one specialist tells apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from instar.errors import UsageError

DUSTBIN = "everything else"
"""The name of a specialist's last class."""


@dataclass(frozen=True)
class ClassSet:
    """The classes of one specialist, by their numbers among all classes of the generalist.

    Args:
        classes: at least two and not all; kept in ascending order, which is that of the specialist's logits.
        num_classes: of the generalist.
        names: of `classes`, in the order in which these are given; their numbers as text by default.

    Raises:
        UsageError: fewer than two classes or all of them, one twice or out of range, names of another number.

    Example:
        >>> ClassSet([7, 2], 10, ["seven", "two"])
        ClassSet(classes=(2, 7), num_classes=10, names=('two', 'seven'))

    References:
        Hinton, Vinyals and Dean 2015, section 5.2.
    """

    classes: tuple[int, ...]
    num_classes: int
    names: tuple[str, ...] = ()

    def __init__(self, classes: Sequence[int], num_classes: int, names: Sequence[str] = ()) -> None:
        numbers = [int(number) for number in classes]
        names = list(names) or [str(number) for number in numbers]
        if len(names) != len(numbers):
            raise UsageError(f"class set: {len(numbers)} classes and {len(names)} names; each class has one")
        pairs = sorted(zip(numbers, names, strict=True))
        self._check([number for number, _ in pairs], num_classes)
        object.__setattr__(self, "classes", tuple(number for number, _ in pairs))
        object.__setattr__(self, "num_classes", num_classes)
        object.__setattr__(self, "names", tuple(name for _, name in pairs))

    @staticmethod
    def _check(numbers: Sequence[int], num_classes: int) -> None:
        if len(set(numbers)) < len(numbers):
            twice = next(one for one, other in pairwise(numbers) if one == other)
            raise UsageError(f"class set: class {twice} occurs twice; each class is in it once")
        if numbers and not 0 <= numbers[0] <= numbers[-1] < num_classes:
            raise UsageError(
                f"class set: classes from {numbers[0]} to {numbers[-1]}, expected 0 to {num_classes - 1}: the "
                "generalist's"
            )
        if len(numbers) < 2:
            raise UsageError(
                f"class set: {len(numbers)} class, expected at least 2: there is nothing to tell apart"
            )
        if len(numbers) == num_classes:
            raise UsageError(
                f"class set: all {num_classes} classes, expected fewer: nothing is left for the dustbin"
            )

    @classmethod
    def of_names(cls, names: Sequence[str], class_names: Sequence[str]) -> "ClassSet":
        """The class set of some names.

        Args:
            names: of the specialist's classes.
            class_names: of all classes, in the order of the generalist's logits.

        Raises:
            UsageError: a name is not among the generalist's, or the set is none.

        Example:
            >>> ClassSet.of_names(["cat", "lynx"], ["cat", "dog", "lynx"]).classes
            (0, 2)
        """
        number_of = {name: number for number, name in enumerate(class_names)}
        unknown = [name for name in names if name not in number_of]
        if unknown:
            raise UsageError(
                f"class set: {len(unknown)} of {len(names)} class names are not among the generalist's "
                f"{len(class_names)}, the first {unknown[0]!r}: this specialist is for other data"
            )
        return cls.of_numbers([number_of[name] for name in names], class_names)

    @classmethod
    def of_numbers(cls, numbers: Sequence[int], class_names: Sequence[str]) -> "ClassSet":
        """The class set of some numbers, with the names that these classes have.

        Args:
            numbers: of the specialist's classes.
            class_names: of all classes, in the order of the generalist's logits.

        Raises:
            UsageError: the set is none.

        Example:
            >>> ClassSet.of_numbers([2, 0], ["cat", "dog", "lynx"]).names
            ('cat', 'lynx')
        """
        cls._check(sorted(numbers), len(class_names))
        return cls(numbers, len(class_names), [class_names[number] for number in numbers])

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def specialist_names(self) -> tuple[str, ...]:
        """The specialist's own class names: those of the set, then the dustbin's."""
        return (*self.names, DUSTBIN)


def membership(class_sets: Sequence[ClassSet], *, dtype: torch.dtype = torch.bool) -> Tensor:
    """Which classes are in which set: (sets, classes).

    Raises:
        UsageError: the sets are of generalists with other numbers of classes.

    Example:
        >>> membership([ClassSet([0, 2], 3)])
        tensor([[ True, False,  True]])
    """
    widths = {one.num_classes for one in class_sets}
    if len(widths) > 1:
        raise UsageError(f"class sets of generalists with {sorted(widths)} classes; expected one generalist")
    inside = torch.zeros(len(class_sets), next(iter(widths), 0), dtype=dtype)
    for row, one in enumerate(class_sets):
        inside[row, list(one.classes)] = 1
    return inside


def random_class_sets(class_sets: Sequence[ClassSet], *, seed: int) -> list[ClassSet]:
    """The same sets of other classes: all class numbers permuted at random. The control for confusable ones.

    Sizes, overlaps and the number of classes in no set stay what they are; only who is with whom changes.

    Args:
        class_sets: of one generalist.
        seed: of the permutation.

    Example:
        >>> [len(one) for one in random_class_sets([ClassSet([0, 1], 6), ClassSet([1, 2, 3], 6)], seed=0)]
        [2, 3]
    """
    if not class_sets:
        return []
    names: dict[int, str] = {}
    for one in class_sets:
        names |= dict(zip(one.classes, one.names, strict=True))
    num_classes = membership(class_sets).shape[1]
    to = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        ClassSet(moved, num_classes, [names.get(number, str(number)) for number in moved])
        for moved in ([to[number] for number in one.classes] for one in class_sets)
    ]
