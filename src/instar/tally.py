"""The sums behind an epoch's mean losses and its errors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.losses import DistillationLoss

_STEPS_TOGETHER = 32


class Tally:
    """Sums over the steps of an epoch: total, soft and hard loss, and errors.

    A step only leaves its tensors here. They are read together, some steps later, for that makes the device wait,
    and added up one by one, so that the sums are the same bits whenever they are read.

    Args:
        sums: to begin with.
    """

    def __init__(self, sums: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        self._sums = list(sums)
        self._terms: list[Tensor] = []
        self._counts: list[tuple[int, int]] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, loss: DistillationLoss, logits: Tensor, labels: Tensor, num_soft: int, num_hard: int) -> None:
        """Take in a step.

        Args:
            loss: means over `num_soft` and `num_hard` examples.
            logits: (batch, classes).
            labels: (batch,); -1 means none.
            num_soft: examples that the total and the soft term are means over.
            num_hard: the same for the hard term.
        """
        self._terms += (term.detach() for term in loss)
        self._counts.append((num_soft, num_hard))
        self._logits.append(logits.detach())
        self._labels.append(labels)
        if len(self._counts) == _STEPS_TOGETHER:
            self.sums()

    @torch.no_grad()
    def sums(self) -> list[float]:
        """Total, soft and hard loss times their examples, and errors, of all steps so far."""
        if self._counts:
            terms = torch.stack(self._terms).view(-1, 3).tolist()
            for (total, soft, hard), (num_soft, num_hard) in zip(terms, self._counts, strict=True):
                self._sums[0] += total * num_soft
                self._sums[1] += soft * num_soft
                self._sums[2] += hard * num_hard
            self._sums[3] += int(metrics.errors(torch.cat(self._logits), torch.cat(self._labels)))
            for waiting in (self._terms, self._counts, self._logits, self._labels):
                waiting.clear()
        return list(self._sums)


def epoch_means(
    sums: Sequence[float], num_examples: int, num_labelled: int, *, has_targets: bool
) -> dict[str, Any]:
    """What a line of metrics says of an epoch's training, from what `Tally.sums` gives at its end.

    Example:
        >>> epoch_means([8.0, 0.0, 8.0, 1.0], 4, 4, has_targets=False)
        {'train_loss': 2.0, 'train_errors': 1}
    """
    total, soft, hard, wrong = sums
    means = {"train_loss": total / num_examples, "train_errors": int(wrong)}
    if has_targets:
        means |= {"train_soft_loss": soft / num_examples, "train_hard_loss": hard / max(num_labelled, 1)}
    return means
