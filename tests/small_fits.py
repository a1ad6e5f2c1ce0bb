"""Small data, small networks and what it takes to compare them bit for bit; shared by the tests of training."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import InMemoryDataset
from instar.data.official import load_digits
from instar.distillation import train


@functools.cache
def digits(num_examples: int = 200, *, start: int = 0) -> InMemoryDataset:
    """Some of the handwritten digits that come with scikit-learn, 1x8x8."""
    whole = load_digits()
    ids = whole.ids[start : start + num_examples]
    return InMemoryDataset(whole.gather(ids, 0), whole.labels(ids), class_names=whole.class_names)


def blots(num_examples: int = 200, *, seed: int = 0) -> InMemoryDataset:
    """Pictures of 1x8x8 pixels: ten patterns, each with noise."""
    patterns = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (num_examples,), generator=generator)
    noise = torch.randn(num_examples, 1, 8, 8, generator=generator)
    return InMemoryDataset(patterns[labels] + 0.5 * noise, labels, class_names=[str(n) for n in range(10)])


def part_labelled(data: InMemoryDataset, *, every: int = 3) -> InMemoryDataset:
    """The same examples, of which only some have a label: as uneven over a batch as can be."""
    labels = data.labels(data.ids)
    labels[torch.arange(len(labels)) % every != 0] = -1
    return InMemoryDataset(data.gather(data.ids, 0), labels, class_names=data.class_names, ids=data.ids)


def words(num_examples: int = 90, *, seed: int = 0, **options: Any) -> InMemoryDataset:
    """Ids of 1 to 8 words, with the mask; the label is that of the largest id."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (num_examples,), generator=generator).tolist()
    ids = [torch.randint(1, 20, (length,), generator=generator) for length in lengths]
    labels = torch.tensor([int(one.max()) % 3 for one in ids])
    return InMemoryDataset({"input_ids": ids}, labels, class_names=["a", "b", "c"], **options)


class Words(nn.Module):
    """The mean of the embeddings that the mask shows."""

    def __init__(self, seed: int = 0, *, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding, self.hidden = nn.Embedding(20, 8), nn.Linear(8, 8)
            self.dropout, self.head = nn.Dropout(dropout), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask[:, :, None].float()
        features = self.dropout(torch.relu(self.hidden(self.embedding(input_ids))))
        return self.head((features * mask).sum(1) / mask.sum(1))


def perceptron(seed: int = 0, *, hidden: int = 12, dropout: float = 0.0, classes: int = 10) -> nn.Sequential:
    """64 inputs, one hidden layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )


def normalised_network(seed: int = 0) -> nn.Sequential:
    """All that makes a fit depend on more than its weights: batch normalisation's buffers and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(
                nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU()
            ),
            nn.Sequential(nn.Dropout(0.3), nn.Linear(12, 10)),
        )


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states hold the same names and the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def users_network(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A user's own network, for `python:small_fits:users_network`."""
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[-1] ** 2, num_classes))


def softmax_teacher() -> nn.Module:
    """A teacher that gives probabilities, for `python:small_fits:softmax_teacher`."""
    return nn.Sequential(perceptron(), nn.Softmax(1))


def reordered_teacher() -> nn.Module:
    """A trained teacher whose outputs 2 and 3 are exchanged, for `python:small_fits:reordered_teacher`.

    One thread, whoever calls it: on some processors the number of threads decides the last bits of its weights.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = train(perceptron(hidden=32), digits(1000), epochs=5, batch_size=32).network
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        for value in network[4].parameters():
            value[[2, 3]] = value[[3, 2]].clone()
    return network
