"""Transfer sets: what a student learns on, which need be neither all of the data nor labelled."""

import operator
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.hashing import key_of, keyed_hash
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.naming import unknown_name

Data = TypeVar("Data", bound=Dataset)


def transfer_set(
    data: Data,
    *,
    drop_classes: Sequence[str | int] = (),
    keep_classes: Sequence[str | int] | None = None,
    fraction: float = 1.0,
    rest: bool = False,
    labelled: float = 1.0,
    seed: int = 0,
) -> Data:
    """A part of a data set to distil on: without some classes, a fraction of each class, with few labels or none.

    Classes are left out first, then the fraction is taken, then labels are taken away. Both shares are stratified
    by class, of at least one example, and chosen by the ids' hashes: a smaller share is a part of a larger one.
    Examples without a label are a class of their own to the fraction, and go where classes are chosen: nobody
    knows theirs. The classes keep their places: a student has an output for each, also for those that it never
    sees.

    Args:
        data: the whole.
        drop_classes: names or numbers of classes to leave out.
        keep_classes: names or numbers of the only classes to keep; None keeps all.
        fraction: of the examples, above 0 and at most 1.
        rest: take what the fraction leaves; a teacher may learn from the one part, its student on the other.
        labelled: share of the examples that keep their labels, 0 to 1.
        seed: chooses which.

    Returns: the same kind of data set; the inputs are not copied.

    Raises:
        UsageError: nothing or a single class is left, a class is unknown, a share is out of range.

    Example:
        >>> from instar.data import load_data
        >>> digits = load_data("digits").train
        >>> few = transfer_set(digits, drop_classes=["3"], fraction=0.1, labelled=0.0)
        >>> len(few), set(few.labels(few.ids).tolist())
        (116, {-1})

    References:
        Hinton, Vinyals, Dean 2015, section 3 (transfer sets without classes), section 6 (3 % of the data).
    """
    if not 0 < fraction <= 1 or not 0 <= labelled <= 1:
        raise UsageError(
            f"transfer_set: fraction is {fraction} and labelled is {labelled}, expected above 0 and at most 1, "
            "and 0 to 1"
        )
    part = _of_classes(data, drop_classes, keep_classes)
    if fraction < 1:
        chosen = _share(part, fraction, seed)
        part = part.subset(part.ids[~torch.isin(part.ids, chosen)] if rest else chosen)
    elif rest:
        raise UsageError("transfer_set: the rest of a fraction of 1 is empty")
    if labelled == 0:
        return part.without_labels(part.ids)
    if labelled < 1:
        chosen = _share(part, labelled, seed)
        part = part.without_labels(part.ids[~torch.isin(part.ids, chosen)])
    return part


def _of_classes(data: Data, drop: Sequence[str | int], keep: Sequence[str | int] | None) -> Data:
    if not drop and keep is None:
        return data
    names = data.class_names
    kept = set(range(len(names)) if keep is None else class_numbers(names, keep)) - class_numbers(names, drop)
    labels = data.labels(data.ids)
    if not bool((labels != NO_LABEL).any()):
        raise UsageError("transfer_set: no example has a label, so no class can be left out or kept")
    chosen = torch.isin(labels, torch.tensor(sorted(kept), device=labels.device))
    num_left = len(set(labels[chosen].tolist()))
    if num_left < 2:
        left = "no example" if num_left == 0 else f"the single class {names[int(labels[chosen][0])]!r}"
        raise UsageError(f"transfer_set: {left} is left of {len(names)} classes; keep two classes or more")
    return data.subset(data.ids[chosen])


def class_number(names: Sequence[str], one: str | int) -> int:
    """The number of a class that is given by its name or its number.

    Raises:
        UsageError: there is no such class.

    Example:
        >>> class_number(("cat", "dog"), "dog"), class_number(("cat", "dog"), 0)
        (1, 0)
    """
    if isinstance(one, str):
        if one in names:
            return names.index(one)
    elif 0 <= (number := operator.index(one)) < len(names):  # numpy's numbers too
        return number
    raise unknown_name("class", str(one), names)


def class_numbers(names: Sequence[str], several: Sequence[str | int]) -> set[int]:
    """The numbers of classes that are given by their names or numbers.

    Raises:
        UsageError: there is no such class, or one text was given and not a list: "12" is not 1 and 2.
    """
    if isinstance(several, str):
        raise UsageError(f"classes should be a list of names or numbers, found the text {several!r}")
    return {class_number(names, one) for one in several}


def _share(data: Dataset, share: float, seed: int) -> Tensor:
    """Ids of a share of every class and of what has no label: of each at least one, but not all of several."""
    labels = data.labels(data.ids).to(data.ids.device)
    hashes = keyed_hash(key_of("split", seed), data.ids)
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        rows = (labels == label).nonzero().squeeze(1)
        num_chosen = max(min(round(share * len(rows)), len(rows) - 1), 1)
        chosen[rows[hashes[rows].argsort()[:num_chosen]]] = True
    return data.ids[chosen]
