"""Language models on test: nats, errors, and how near they are to their teacher, by document, in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from instar.data import TokenDataset
from instar.evaluation import predicted_rows
from instar.metrics import bins_of_confidence, error_of_bins


@dataclass
class Scores:
    """Sums over the predicted tokens of each document, (documents,) float64 each."""

    nll: Tensor
    """nats"""
    right: Tensor
    agrees: Tensor
    """tokens of which teacher and student find the same likeliest"""
    kl: Tensor
    """KL(teacher, student), nats"""
    _confidence: list[Tensor] = field(default_factory=list)
    _correct: list[Tensor] = field(default_factory=list)

    @classmethod
    def zeros(cls, num_documents: int) -> "Scores":
        """Before the first batch."""
        nll, right, agrees, kl = torch.zeros(4, num_documents, dtype=torch.float64).unbind()
        return cls(nll, right, agrees, kl)

    def add(self, log_probs: Tensor, teacher: Tensor, labels: Tensor, documents: Tensor) -> None:
        """Add some tokens: log-probabilities (tokens, classes), the teacher's, labels and documents (tokens,)."""
        confidence, found = log_probs.max(-1)
        values = {
            "nll": -log_probs.gather(-1, labels[:, None])[:, 0],
            "right": found == labels,
            "agrees": found == teacher.argmax(-1),
            "kl": (teacher.exp() * (teacher - log_probs)).sum(-1),
        }
        for name, value in values.items():
            getattr(self, name).index_add_(0, documents, value.double())
        self._confidence.append(confidence.exp())
        self._correct.append(found == labels)

    @property
    def calibration_error(self) -> float:
        """Adaptive, 15 bins."""
        return error_of_bins(bins_of_confidence(torch.cat(self._confidence), torch.cat(self._correct)))


def score_all(
    networks: Mapping[str, nn.Module], teacher: nn.Module, data: TokenDataset
) -> tuple[dict[str, Scores], Tensor]:
    """The scores of several networks, with one pass of the teacher, and the predicted tokens of each document."""
    number = len(data.num_bytes)
    found = {name: Scores.zeros(number) for name in networks}
    counts = torch.zeros(number, dtype=torch.int64)
    rows = {name: predicted_rows(network, data) for name, network in networks.items()}
    for logits, labels, ids in predicted_rows(teacher, data):
        documents = data.documents(ids)
        documents = documents[documents >= 0]
        known = labels >= 0
        taught, labels, documents = torch.log_softmax(logits[known], -1), labels[known], documents[known]
        counts += documents.bincount(minlength=number)
        for name, others in rows.items():
            log_probs = torch.log_softmax(next(others)[0][known], -1)
            found[name].add(log_probs, taught, labels, documents)
    return found, counts
