"""Rows sampled for a transfer set: values of several rows, without labels."""

import pytest
import torch

from instar.data import InMemoryDataset
from instar.data.sampled import sampled_rows, with_sampled_rows
from instar.errors import UsageError


def test_sampled_rows_have_the_values_of_rows_and_keep_categories_whole():
    rows = torch.cat(
        (torch.arange(50.0)[:, None], torch.eye(5).repeat(10, 1), torch.arange(50.0, 100)[:, None]), 1
    )
    columns = [slice(0, 1), slice(1, 6), slice(6, 7)]
    found = sampled_rows(rows, 400, seed=0, columns=columns)
    assert torch.equal(found, sampled_rows(rows, 400, seed=0, columns=columns))
    assert set(found[:, 0].tolist()) <= set(range(50))
    assert torch.equal(found[:, 1:6].sum(1), torch.ones(400))
    # A row has the values of its own row but for one column or more: the share is 0.1 of the others.
    changed = (found[:, 6] - 50 != found[:, 0]).float().mean()
    assert 0.4 < changed < 1


def test_they_stand_beside_the_rows_without_labels():
    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    data = InMemoryDataset(inputs, torch.tensor([0, 1, 1]), class_names=["a", "b"])
    both = with_sampled_rows(data, 100, seed=0)
    assert torch.equal(both.ids[:3], data.ids)
    assert both.labels(both.ids).tolist()[:3] == [0, 1, 1]
    assert set(both.labels(both.ids[3:]).tolist()) == {-1}
    # Those that are rows of the data are left out: (1, 1) alone is new.
    assert set(map(tuple, both.gather(both.ids[3:], 0).tolist())) == {(1.0, 1.0)}
    texts = InMemoryDataset({"ids": [[1], [2, 3]]}, torch.tensor([0, 1]), class_names=["a", "b"])
    with pytest.raises(UsageError, match="expected the row of a table"):
        with_sampled_rows(texts, 5, seed=0)
