"""Parts of a data set as pure functions of (seed, id): stratified splits and transfer sets."""

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.data.given import GivenData, as_dataset
from instar.data.hashing import key_of, keyed_hash
from instar.data.identity import original_rows
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.naming import unknown_name

_NUMBERS = {2: "two", 3: "three"}
_NEEDS = {2: "a split needs at least two", 3: "training, validation and test data need at least three"}


def stratified_split(
    data_ids: Tensor,
    labels: Tensor,
    *,
    fraction: float,
    split_seed: int,
    class_names: Sequence[str] | None = None,
    contents: Tensor | None = None,
    parts: int = 2,
) -> tuple[Tensor, Tensor]:
    """Split off a part of every class, chosen by hashes of the ids and so independent of the examples' order.

    Of a class of n examples, the round(fraction · n) with the smallest hashes are chosen, but at least one is
    chosen and at least one stays. Examples without a label stay. Byte-identical copies count once and stay
    together, whatever their labels: they count for the first of these. Where that leaves too few examples of
    another class, a few more are moved so that it is on both sides.

    Args:
        data_ids: (n,) int64, all different.
        labels: (n,) int64, -1 for examples without a label.
        fraction: share of each class, above 0 and below 1.
        split_seed: part of the data, shared by a teacher and all its students.
        class_names: for the error about a class that is too small.
        contents: (n,) int64, ids made from the content, by which copies are recognised; by default `data_ids`.
        parts: 3 where the rest will be split once more: each class then needs an example for each.

    Returns: the ids that stay and the chosen ids, each in the order of `data_ids`.

    Raises:
        DataError: a class with fewer distinct examples than `parts`, no choice that leaves each class on both
            sides, or no labels at all.
        UsageError: the fraction is out of range.

    Example:
        >>> ids, labels = torch.arange(10), torch.tensor([0, 1] * 5)
        >>> rest, chosen = stratified_split(ids, labels, fraction=0.2, split_seed=0)
        >>> len(rest), sorted(labels[chosen].tolist())
        (8, [0, 1])
    """
    about: dict[str, Any] = {"class_names": class_names, "contents": contents, "parts": parts}
    chosen = chosen_rows(data_ids, labels, fraction=fraction, split_seed=split_seed, **about)
    return data_ids[~chosen], data_ids[chosen]


def chosen_rows(
    data_ids: Tensor,
    labels: Tensor,
    *,
    fraction: float,
    split_seed: int,
    class_names: Sequence[str] | None = None,
    contents: Tensor | None = None,
    parts: int = 2,
    place: Callable[[int], str] | None = None,
) -> Tensor:
    """(n,) bool: the rows that `stratified_split` splits off; `place` is what the error calls a row."""
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction} should be above 0 and below 1")
    num_all = torch.bincount(labels[labels != NO_LABEL]).tolist()
    if not num_all:
        raise DataError("no example has a label, so the data cannot be split by class; pass a split of your own")
    hashes = keyed_hash(key_of("split", split_seed), data_ids)
    chosen = torch.zeros(len(data_ids), dtype=torch.bool, device=data_ids.device)
    originals = original_rows(data_ids if contents is None else contents.to(data_ids.device))
    is_original = originals == torch.arange(len(data_ids), device=data_ids.device)
    rows = (is_original & (labels != NO_LABEL)).nonzero().squeeze(1)
    sizes = torch.bincount(labels[rows], minlength=len(num_all))
    counts = sizes.tolist()
    num_chosen = [_num_of(fraction, count) if count >= parts else 0 for count in counts]
    rows = rows[hashes[rows].argsort()]
    rows = rows[labels[rows].argsort(stable=True)]  # of each class together, by their hashes
    places = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    chosen[rows[places < torch.tensor(num_chosen, device=rows.device).repeat_interleave(sizes)]] = True
    rare = [label for label, count in enumerate(num_all) if count and counts[label] < parts]
    lacking = [label for label in rare if len(torch.unique(originals[labels == label])) < parts]
    if rare and not lacking:
        lacking = _share_copies(chosen, originals, labels, hashes, rare, parts)
    if lacking:
        rows = (labels == lacking[0]).nonzero().squeeze(1)
        name = class_names[lacking[0]] if class_names else lacking[0]
        found = "a single example" if len(rows) == 1 else f"{len(rows)} examples"
        found += "" if counts[lacking[0]] == len(rows) else f", but not {_NUMBERS[parts]} different ones"
        where = "" if place is None else f"{place(int(rows[0]))}: "
        raise DataError(f"{where}class {name!r} has {found}; {_NEEDS[parts]} of each class")
    return chosen[originals]


def _share_copies(
    chosen: Tensor, originals: Tensor, labels: Tensor, hashes: Tensor, rare: Sequence[int], parts: int
) -> list[int]:
    """Move a few originals to the other side, in place, so that classes of which few are originals are on both.

    Returns: the classes for which none can be moved without taking away what another class needs.
    """
    lacking = []
    has_label = labels != NO_LABEL
    pairs = torch.unique(torch.stack((originals[has_label], labels[has_label]), dim=1), dim=0)
    pairs = pairs[hashes[pairs[:, 0]].argsort()]
    needed = {True: 1, False: parts - 1}
    for label, side in itertools.product(rare, needed):
        own = pairs[pairs[:, 1] == label, 0]
        for row in own[chosen[own] != side].tolist():
            if int((chosen[own] == side).sum()) >= needed[side]:
                break
            of_row = pairs[pairs[:, 0] == row, 1]
            others = pairs[torch.isin(pairs[:, 1], of_row)]
            left = others[chosen[others[:, 0]] != side, 1].bincount(minlength=int(of_row.max()) + 1)[of_row]
            if bool((left > needed[not side]).all()):
                chosen[row] = side
        if int((chosen[own] == side).sum()) < needed[side]:
            lacking.append(label)
    return lacking


def transfer_set(
    data: GivenData,
    *,
    drop_classes: Sequence[str | int] = (),
    keep_classes: Sequence[str | int] | None = None,
    fraction: float = 1.0,
    rest: bool = False,
    labelled: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """A part of a data set for distillation: without some classes, a fraction of each class, few labels or none.

    Classes are dropped first, then the fraction is taken, then labels are removed. Both shares are stratified by
    class, have at least one example, and are chosen by hashes of the ids: a smaller share is a subset of a larger
    one. Examples without a label form a class of their own for the fraction, and are dropped where classes are
    chosen. The labels keep their numbers: a student has an output for each class, also for those it never sees.

    Args:
        data: the whole data set, a `Dataset` or (inputs, labels).
        drop_classes: names or numbers of the classes to drop.
        keep_classes: names or numbers of the only classes to keep; None keeps all.
        fraction: share of the examples of each class, above 0 and at most 1.
        rest: take the examples outside the fraction, for instance for a student whose teacher had the fraction.
        labelled: share of the examples that keep their labels, from 0 to 1.
        seed: of the choice of examples.

    Returns: a data set of the same type; the inputs are not copied.

    Raises:
        UsageError: no example or a single class is left, a class is unknown, or a share is out of range.

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
            "and from 0 to 1"
        )
    part = _of_classes(as_dataset(data), drop_classes, keep_classes)
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


def _of_classes(data: Dataset, drop: Sequence[str | int], keep: Sequence[str | int] | None) -> Dataset:
    if not drop and keep is None:
        return data
    names = data.class_names
    kept = set(range(len(names)) if keep is None else class_numbers(names, keep)) - class_numbers(names, drop)
    labels = data.labels(data.ids)
    if not bool((labels != NO_LABEL).any()):
        raise UsageError("transfer_set: no example has a label, so no class can be dropped or kept")
    chosen = torch.isin(labels, torch.tensor(sorted(kept), device=labels.device))
    num_left = len(set(labels[chosen].tolist()))
    if num_left < 2:
        left = "no example" if num_left == 0 else f"the single class {names[int(labels[chosen][0])]!r}"
        raise UsageError(f"transfer_set: {left} is left of {len(names)} classes; keep two classes or more")
    return data.subset(data.ids[chosen])


def class_number(names: Sequence[str], name_or_number: str | int) -> int:
    """The number of a class, given its name or its number.

    Raises:
        UsageError: an unknown class.

    Example:
        >>> class_number(("cat", "dog"), "dog"), class_number(("cat", "dog"), 0)
        (1, 0)
    """
    if isinstance(name_or_number, str):
        if name_or_number in names:
            return names.index(name_or_number)
    elif 0 <= (number := operator.index(name_or_number)) < len(names):  # NumPy integers too
        return number
    raise unknown_name("class", str(name_or_number), names)


def class_numbers(names: Sequence[str], classes: Sequence[str | int]) -> set[int]:
    """The numbers of classes, given their names or numbers.

    Raises:
        UsageError: an unknown class, or a text in place of a list: "12" does not mean 1 and 2.
    """
    if isinstance(classes, str):
        raise UsageError(f"classes should be a list of names or numbers, found the text {classes!r}")
    return {class_number(names, name_or_number) for name_or_number in classes}


def _share(data: Dataset, share: float, seed: int) -> Tensor:
    """The ids of a share of every class and of the examples without a label, but neither none nor all of them."""
    labels = data.labels(data.ids).to(data.ids.device)
    hashes = keyed_hash(key_of("split", seed), data.ids)
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        rows = (labels == label).nonzero().squeeze(1)
        chosen[_share_of(rows, hashes, share)] = True
    return data.ids[chosen]


def _share_of(rows: Tensor, hashes: Tensor, share: float) -> Tensor:
    """The rows with the smallest hashes: a share of them, but at least one, and not all of several."""
    return rows[hashes[rows].argsort()[: _num_of(share, len(rows))]]


def _num_of(share: float, size: int) -> int:
    return max(min(round(share * size), size - 1), 1)
