"""Class sets: the classes that one specialist distinguishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from instar.errors import UsageError

DUSTBIN = "everything else"
"""Name of a specialist's last class."""


@dataclass(frozen=True)
class ClassSet:
    """The classes of one specialist, as indices into the generalist's classes.

    Args:
        classes: at least two, but not all. They are sorted; a specialist's logits have the same order.
        num_classes: number of classes of the generalist.
        names: names of `classes`, in the order given; by default the indices as text.

    Raises:
        UsageError: fewer than two classes, all classes, a class that occurs twice or is out of range, or a
            different number of names than of classes.

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
            raise UsageError(f"class set: {len(numbers)} classes and {len(names)} names; give one name per class")
        pairs = sorted(zip(numbers, names, strict=True))
        self._check([number for number, _ in pairs], num_classes)
        object.__setattr__(self, "classes", tuple(number for number, _ in pairs))
        object.__setattr__(self, "num_classes", num_classes)
        object.__setattr__(self, "names", tuple(name for _, name in pairs))

    @staticmethod
    def _check(numbers: Sequence[int], num_classes: int) -> None:
        if len(set(numbers)) < len(numbers):
            repeated = next(number for number, following in pairwise(numbers) if number == following)
            raise UsageError(f"class set: class {repeated} occurs twice; give each class once")
        if numbers and not 0 <= numbers[0] <= numbers[-1] < num_classes:
            raise UsageError(
                f"class set: classes from {numbers[0]} to {numbers[-1]}, expected 0 to {num_classes - 1}, the "
                "generalist's classes"
            )
        if len(numbers) < 2:
            raise UsageError(
                f"class set: {len(numbers)} class, expected at least 2: a specialist distinguishes classes"
            )
        if len(numbers) == num_classes:
            raise UsageError(
                f"class set: all {num_classes} classes, expected fewer: no class is left for the dustbin"
            )

    @classmethod
    def of_names(cls, names: Sequence[str], class_names: Sequence[str]) -> "ClassSet":
        """A class set from class names.

        Args:
            names: the specialist's classes.
            class_names: all classes, in the order of the generalist's logits.

        Raises:
            UsageError: a name is not among `class_names`, or the classes are not a valid set.

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
        """A class set from class indices, with the names of these classes.

        Args:
            numbers: indices of the specialist's classes.
            class_names: all classes, in the order of the generalist's logits.

        Raises:
            UsageError: the classes are not a valid set.

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
        """Class names of the specialist's logits: those of the set, then the dustbin."""
        return (*self.names, DUSTBIN)


def membership(class_sets: Sequence[ClassSet], *, dtype: torch.dtype = torch.bool) -> Tensor:
    """Whether each set contains each class: (sets, classes).

    Raises:
        UsageError: the sets belong to generalists with different numbers of classes.

    Example:
        >>> membership([ClassSet([0, 2], 3)])
        tensor([[ True, False,  True]])
    """
    widths = {class_set.num_classes for class_set in class_sets}
    if len(widths) > 1:
        raise UsageError(f"class sets of generalists with {sorted(widths)} classes; expected one generalist")
    inside = torch.zeros(len(class_sets), next(iter(widths), 0), dtype=dtype)
    for row, class_set in enumerate(class_sets):
        inside[row, list(class_set.classes)] = 1
    return inside


def random_class_sets(
    class_sets: Sequence[ClassSet], *, seed: int, class_names: Sequence[str] | None = None
) -> list[ClassSet]:
    """The same sets with all class indices permuted at random: the control for confusable class sets.

    Sizes, overlaps and the number of classes in no set are kept.

    Args:
        class_sets: class sets of one generalist.
        seed: seed of the permutation.
        class_names: of all classes; without them a class that is in no set is named by its number.

    Example:
        >>> [len(classes) for classes in random_class_sets([ClassSet([0, 1], 6), ClassSet([1, 2, 3], 6)], seed=0)]
        [2, 3]
    """
    if not class_sets:
        return []
    names: dict[int, str] = dict(enumerate(class_names or ()))
    for class_set in class_sets:
        names |= dict(zip(class_set.classes, class_set.names, strict=True))
    num_classes = membership(class_sets).shape[1]
    permuted = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        ClassSet(moved, num_classes, [names.get(number, str(number)) for number in moved])
        for moved in ([permuted[number] for number in class_set.classes] for class_set in class_sets)
    ]
