"""Stratified splits as a pure function of (split_seed, id)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from instar.data.hashing import key_of, keyed_hash
from instar.data.identity import original_rows
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL


def stratified_split(
    data_ids: Tensor,
    labels: Tensor,
    *,
    fraction: float,
    split_seed: int,
    class_names: Sequence[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Split off a part of every class, chosen by hashes of the ids and so independent of the examples' order.

    Of a class of n examples, the round(fraction · n) with the smallest hashes are chosen, but at least one is
    chosen and at least one stays. Examples without a label stay. Byte-identical copies count once and stay
    together, whatever their labels.

    Args:
        data_ids: (n,) int64, all different.
        labels: (n,) int64, -1 for examples without a label.
        fraction: share of each class, above 0 and below 1.
        split_seed: part of the data, shared by a teacher and all its students.
        class_names: for the error about a class that is too small.

    Returns: the ids that stay and the chosen ids, each in the order of `data_ids`.

    Raises:
        DataError: a class with a single distinct example, or no labels at all.
        UsageError: the fraction is out of range.

    Example:
        >>> ids, labels = torch.arange(10), torch.tensor([0, 1] * 5)
        >>> rest, chosen = stratified_split(ids, labels, fraction=0.2, split_seed=0)
        >>> len(rest), sorted(labels[chosen].tolist())
        (8, [0, 1])
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction} should be above 0 and below 1")
    present = torch.unique(labels[labels != NO_LABEL]).tolist()
    if not present:
        raise DataError("no example has a label, so the data cannot be split by class; pass a split of your own")
    hashes = keyed_hash(key_of("split", split_seed), data_ids)
    chosen = torch.zeros(len(data_ids), dtype=torch.bool, device=data_ids.device)
    originals = original_rows(data_ids)
    is_original = originals == torch.arange(len(data_ids), device=data_ids.device)
    for label in present:
        rows = ((labels == label) & is_original).nonzero().squeeze(1)
        if len(rows) < 2:
            name = class_names[label] if class_names else label
            count = int((labels == label).sum())
            found = "a single example" if count == 1 else f"{count} examples, but not two different ones"
            raise DataError(f"class {name!r} has {found}; a split needs at least two of each class")
        num_chosen = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        chosen[rows[hashes[rows].argsort()[:num_chosen]]] = True
    chosen = chosen[originals]
    return data_ids[~chosen], data_ids[chosen]
