"""Unlabelled rows for a transfer set: rows of a table whose values come from several rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from instar.data.columns import contents
from instar.data.dataset import Dataset
from instar.data.identity import content_ids, original_rows
from instar.data.memory import InMemoryDataset
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.structures import form_in_words, is_plain

SHARE = 0.1
"""The part of the values of a sampled row that come from other rows."""


def sampled_rows(rows: Tensor, number: int, *, seed: int, columns: Sequence[slice] | None = None) -> Tensor:
    """Rows as a table could have them: each is one of the rows, with some values from others.

    Each column of a sampled row has, with a probability of 0.1, the value that another row has there, drawn from
    all; one column at least. Values that no row has are never made.

    Args:
        rows: (n, width) numbers.
        number: of rows to sample.
        seed: of what is drawn.
        columns: the places that belong together, as those of one category; by default each is its own.

    Returns:
        (number, width).

    Example:
        >>> rows = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        >>> sampled_rows(rows, 2, seed=0, columns=[slice(0, 1), slice(1, 3)]).shape
        torch.Size([2, 3])

    References:
        Bucila, Caruana, Niculescu-Mizil 2006, "Model compression", section 3: its MUNGE takes values from the
        nearest row; AutoGluon's `distill` does without the search for neighbours, as is done here.
    """
    columns = [slice(place, place + 1) for place in range(rows.shape[1])] if columns is None else columns
    generator = torch.Generator().manual_seed(seed)
    starts = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(-(-number // len(rows)))])[
        :number
    ]
    found = rows[starts].clone()
    swapped = torch.rand(number, len(columns), generator=generator) < SHARE
    swapped.scatter_(1, torch.randint(len(columns), (number, 1), generator=generator), True)
    for place, column in enumerate(columns):
        chosen = swapped[:, place].nonzero().squeeze(1)
        others = torch.randint(len(rows), (len(chosen),), generator=generator)
        found[chosen, column] = rows[others, column]
    return found


def with_sampled_rows(data: Dataset, number: int, *, seed: int) -> InMemoryDataset:
    """A data set with sampled rows beside its own, which have no label; rows that it has already are left out.

    Args:
        data: of examples that are a tensor of numbers each.
        number, seed: as for `sampled_rows`.

    Raises:
        UsageError: an example is something else.
    """
    if not is_plain(data.example_shape):
        raise UsageError(
            f"sampled_rows: an example is {form_in_words(data.example_shape)}, expected the row of a table"
        )
    own = data.raw(data.rows(data.ids)).cpu()
    assert isinstance(own, Tensor)
    columns = None if data.table is None else data.table.places
    more = sampled_rows(own.flatten(1), number, seed=seed, columns=columns).view(number, *own.shape[1:])
    ids, own_ids = (content_ids(contents(one), torch.full((len(one),), NO_LABEL)) for one in (more, own))
    is_new = ~torch.isin(ids[original_rows(ids)], torch.cat((data.ids.cpu(), own_ids)))
    scale, mean, std = data.normalisation
    labels = torch.cat((data.labels(data.ids).cpu(), torch.full((int(is_new.sum()),), NO_LABEL)))
    both = InMemoryDataset(
        torch.cat((own, more[is_new])),
        labels,
        class_names=data.class_names,
        ids=torch.cat((data.ids.cpu(), ids[is_new])),
        scale=scale,
        mean=mean,
        std=std,
    )
    both.table = data.table
    if data.label_probs is None:
        return both
    probs = data.label_targets(data.ids).cpu()
    return both.with_label_probs(torch.cat((probs, probs.new_zeros(int(is_new.sum()), probs.shape[1]))))
