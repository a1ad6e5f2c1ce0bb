"""Networks of tokens on test: nats, errors, and how near they are to their teacher, by document, in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from instar.data import Dataset, TaggedSequences, TokenDataset
from instar.evaluation import predicted_rows
from instar.metrics import bins_of_confidence, divergences, error_of_bins


@dataclass
class Scores:
    """Sums over the labelled tokens of each document, (documents,) float64 each."""

    nll: Tensor
    """nats"""
    right: Tensor
    agrees: Tensor
    """tokens of which teacher and student find the same likeliest; 0 without a teacher"""
    kl: Tensor
    """KL(teacher, student), nats; 0 without a teacher"""
    _confidence: list[Tensor] = field(default_factory=list)
    _found: list[Tensor] = field(default_factory=list)
    _labels: list[Tensor] = field(default_factory=list)

    @classmethod
    def zeros(cls, num_documents: int) -> "Scores":
        """Before the first batch."""
        nll, right, agrees, kl = torch.zeros(4, num_documents, dtype=torch.float64).unbind()
        return cls(nll, right, agrees, kl)

    def add(self, log_probs: Tensor, teacher: Tensor | None, labels: Tensor, documents: Tensor) -> None:
        """Add some tokens: log-probabilities (tokens, classes), the teacher's, labels and documents (tokens,)."""
        confidence, found = log_probs.max(-1)
        values = {"nll": -log_probs.gather(-1, labels[:, None])[:, 0], "right": found == labels}
        if teacher is not None:
            values["agrees"] = found == teacher.argmax(-1)
            values["kl"] = divergences(teacher, log_probs)
        for name, value in values.items():
            getattr(self, name).index_add_(0, documents, value.double())
        self._confidence.append(confidence.exp())
        self._found.append(found.int())
        self._labels.append(labels.int())

    @property
    def found(self) -> Tensor:
        """(tokens,) the likeliest classes."""
        return torch.cat(self._found)

    @property
    def labels(self) -> Tensor:
        """(tokens,)."""
        return torch.cat(self._labels)

    @property
    def calibration_error(self) -> float:
        """Adaptive, 15 bins."""
        return error_of_bins(bins_of_confidence(torch.cat(self._confidence), self.found == self.labels))


def score_all(
    networks: Mapping[str, nn.Module], teacher: nn.Module | None, data: Dataset
) -> tuple[dict[str, Scores], Tensor]:
    """The scores of several networks, with one pass of each, and the labelled tokens of each document."""
    assert isinstance(data, TokenDataset | TaggedSequences)
    number = data.num_documents
    found = {name: Scores.zeros(number) for name in networks}
    counts = torch.zeros(number, dtype=torch.int64)
    rows = {name: predicted_rows(network, data) for name, network in networks.items()}
    taught = None if teacher is None else predicted_rows(teacher, data)
    for parts in zip(*rows.values(), strict=True):
        _, labels, ids = parts[0]
        documents, known = data.documents(ids), labels >= 0
        documents, labels = documents[documents >= 0][known], labels[known]
        counts += documents.bincount(minlength=number)
        there = None if taught is None else torch.log_softmax(next(taught)[0][known], -1)
        for name, (logits, _, _) in zip(rows, parts, strict=True):
            found[name].add(torch.log_softmax(logits[known], -1), there, labels, documents)
    return found, counts
