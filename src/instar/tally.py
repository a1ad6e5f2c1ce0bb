"""Sums over the steps of an epoch, for its mean losses and its errors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instar import metrics
from instar.losses import NO_LABEL, DistillationLoss
from instar.metrics import predicted_classes
from instar.row_pieces import WIDE

_STEPS_TOGETHER = 32


class Tally:
    """Sums over the steps of an epoch: total, soft and hard loss, and errors.

    A step only stores its tensors. Reading their values makes the device wait, so it is done for 32 steps at a
    time; they are added one by one, so that the sums have the same bits whenever they are read.

    Args:
        sums: the initial sums, from a checkpoint.
    """

    def __init__(self, sums: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        self._sums = list(sums)
        self._terms: list[Tensor] = []
        self._counts: list[tuple[int, int]] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._wrong: list[Tensor] = []

    def add(self, loss: DistillationLoss, answers: Tensor, labels: Tensor, num_soft: int, num_hard: int) -> None:
        """Add a step.

        Args:
            loss: means over `num_soft` and `num_hard` examples.
            answers: the logits (batch, classes), or the predicted classes (batch,).
            labels: (batch,); -1 means no label.
            num_soft: number of examples in the means of the total and of the soft term.
            num_hard: number of examples in the mean of the hard term.
        """
        self._terms += (term.detach() for term in loss)
        self._counts.append((num_soft, num_hard))
        if answers.dim() == 2 and answers.numel() < WIDE:
            self._logits.append(answers.detach())
            self._labels.append(labels)
        else:  # the logits of 32 steps over a vocabulary would be gigabytes
            classes = predicted_classes(answers.detach()) if answers.dim() == 2 else answers
            self._wrong.append(((classes != labels) & (labels != NO_LABEL)).sum())
        if len(self._counts) == _STEPS_TOGETHER:
            self.sums()

    @torch.no_grad()
    def sums(self) -> list[float]:
        """Sums over all steps so far: total, soft and hard loss times their examples, and errors."""
        if self._counts:
            terms = torch.stack(self._terms).view(-1, 3).tolist()
            for (total, soft, hard), (num_soft, num_hard) in zip(terms, self._counts, strict=True):
                self._sums[0] += total * num_soft
                self._sums[1] += soft * num_soft
                self._sums[2] += hard * num_hard
            if self._logits:
                self._sums[3] += int(metrics.errors(torch.cat(self._logits), torch.cat(self._labels)))
            if self._wrong:
                self._sums[3] += int(torch.stack(self._wrong).sum())
            for unread in (self._terms, self._counts, self._logits, self._labels, self._wrong):
                unread.clear()
        return list(self._sums)


def epoch_means(
    sums: Sequence[float], num_examples: int, num_labelled: int, *, has_targets: bool
) -> dict[str, Any]:
    """The training metrics of an epoch, from `Tally.sums` at its end.

    Example:
        >>> epoch_means([8.0, 0.0, 8.0, 1.0], 4, 4, has_targets=False)
        {'train_loss': 2.0, 'train_errors': 1}
    """
    total, soft, hard, wrong = sums
    means = {"train_loss": total / num_examples, "train_errors": int(wrong)}
    if has_targets:
        means |= {"train_soft_loss": soft / num_examples, "train_hard_loss": hard / max(num_labelled, 1)}
    return means
