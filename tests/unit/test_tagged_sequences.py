"""A class at each position of sequences: fitted, evaluated and distilled as every other data."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from instar import distill, evaluate
from instar.data import TaggedSequences, as_dataset
from instar.errors import DataError, UsageError
from instar.training import fit

NAMES = ["even", "odd", "after odd"]


def sentences(num: int = 60, seed: int = 0) -> tuple[dict[str, list[list[int]]], list[list[int]]]:
    """Numbers; each is even or odd, or follows an odd one, which only a network that looks around can tell."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(20, (int(length),), generator=generator).tolist()
            for length in torch.randint(1, 9, (num,), generator=generator)]  # fmt: skip
    tags = [[2 if place and row[place - 1] % 2 else one % 2 for place, one in enumerate(row)] for row in rows]
    return {"input_ids": rows}, tags


class Tagger(nn.Module):
    def __init__(self, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.words, self.head = nn.Embedding(20, width), nn.Linear(2 * width, len(NAMES))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.words(input_ids) * attention_mask[..., None]
        before = functional.pad(words, (0, 0, 1, 0))[:, :-1]
        logits: Tensor = self.head(torch.cat((words, before), -1))
        return logits


def test_a_tagger_learns_and_is_distilled() -> None:
    about: dict[str, Any] = {"epochs": 20, "batch_size": 8, "optimiser": "adamw", "learning_rate": 0.03}
    data, test = as_dataset(sentences(), class_names=NAMES), as_dataset(sentences(seed=1), class_names=NAMES)
    teacher = fit(Tagger(), data, validation=test, **about).network
    assert evaluate(teacher, test)["accuracy"] > 0.95
    bare = data.without_labels(data.ids)
    student = distill(teacher, Tagger(4, seed=1), bare, temperature=2.0, **about).network
    assert evaluate(student, test)["accuracy"] > 0.9


def test_a_step_is_the_mean_over_the_labelled_positions() -> None:
    inputs, tags = sentences(10)
    tags[3] = [-1] * len(tags[3])
    data = as_dataset((inputs, tags), class_names=NAMES)
    assert isinstance(data, TaggedSequences)
    assert data.num_rows(data.ids) == sum(map(len, tags))
    expected, student = Tagger(), Tagger()
    labels = data.labels(data.ids)
    loss = functional.cross_entropy(
        expected(**data.gather(data.ids, 0)).flatten(0, 1), labels.flatten(), ignore_index=-1
    )
    loss.backward()
    result = fit(student, data, epochs=1, batch_size=10, momentum=0.0, schedule="constant", precision="float32")
    for one, other in zip(student.parameters(), expected.parameters(), strict=True):
        assert other.grad is not None
        torch.testing.assert_close(one, other - 0.1 * other.grad)
    assert result.metrics[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_labels_are_in_the_fingerprint() -> None:
    inputs, tags = sentences(10)
    data = as_dataset((inputs, tags), class_names=NAMES)
    turned = as_dataset(({"input_ids": inputs["input_ids"][::-1]}, tags[::-1]), class_names=NAMES)
    assert turned.fingerprint == data.fingerprint
    tags[0][0] = -1
    assert as_dataset((inputs, tags), class_names=NAMES).fingerprint != data.fingerprint


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(DataError, match="row 1: 1 positions and 2 labels: each needs one"):
        as_dataset(({"input_ids": [[5, 3], [8]]}, [[0, 1], [1, 1]]))
    with pytest.raises(DataError, match="1 of 3 labels are outside the 2 classes, the first 7"):
        as_dataset(({"input_ids": [[5, 3], [8]]}, [[0, 7], [1]]), class_names=["a", "b"])
    with pytest.raises(UsageError, match="labels at each position: give the examples as lists of sequences"):
        as_dataset((torch.zeros(2, 3), [[0, 1, 1], [1, 1, 0]]))


def test_sequences_without_a_label_are_refused_in_one_line() -> None:
    inputs, tags = sentences(6)
    bare = as_dataset((inputs, [[-1] * len(one) for one in tags]), class_names=NAMES)
    with pytest.raises(UsageError, match="no position of the sequences has a label: there is nothing to score"):
        evaluate(Tagger(), bare)
    with pytest.raises(UsageError, match="no example has a label, and there are no soft targets"):
        fit(Tagger(), bare, epochs=1)
