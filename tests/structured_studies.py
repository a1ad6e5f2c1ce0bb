"""Data and networks of a user, for `python:structured_studies:...`: words of their own length, three classes."""

from typing import Any

import torch
from torch import nn

from instar.data import Dataset
from small_fits import Words, words
from texts import small_bert

PAD = {"input_ids": 19}
"""Behind the end of shorter examples: no id of theirs."""


def word_data(seed: int = 0) -> tuple[Dataset, Dataset]:
    """Training and test data, without the shortest examples, of which some would be in both."""
    train, test = words(400, seed=seed, pad=PAD), words(150, seed=seed + 1, pad=PAD)
    train, test = (data.subset(data.ids[data.lengths > 2]) for data in (train, test))
    return train, test.subset(test.ids[~torch.isin(test.ids, train.ids)])


def other_words() -> tuple[Dataset, Dataset]:
    """Other examples of the same kind."""
    return word_data(seed=7)


def word_network(seed: int, num_classes: int, input_shape: dict[str, Any]) -> nn.Module:
    """Takes `input_ids` and `attention_mask`, as its form says."""
    assert input_shape == {"input_ids": ("int64", "<=8"), "attention_mask": ("mask", "<=8")}
    network = Words(seed)
    network.head = nn.Linear(8, num_classes)
    return network


def word_bert(seed: int, num_classes: int) -> nn.Module:
    """A BERT of transformers for the same words."""
    return small_bert(seed, vocabulary=20, positions=16, classes=num_classes)
