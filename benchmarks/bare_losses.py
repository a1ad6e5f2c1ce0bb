"""Losses as somebody would write them who wants one of them and nothing else: no masks, no checks, no options."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits, the teacher's probabilities at the temperature, and labels."""


def bare_losses(temperature: float) -> dict[str, Loss]:
    """Each soft term by name, at a temperature."""
    scale = temperature**2

    def kd(logits: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        return -scale * (torch.log_softmax(logits / temperature, 1) * probs).sum(1).mean()

    def dkd(logits: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        q = torch.softmax(logits / temperature, 1)
        true = F.one_hot(labels, logits.shape[1]).bool()
        q_true, p_true = q[true], probs[true]
        two_q, two_p = torch.stack([q_true, 1 - q_true], 1), torch.stack([p_true, 1 - p_true], 1)
        others = len(logits), -1
        log_q = torch.log_softmax(logits[~true].view(others) / temperature, 1)
        p = probs[~true].view(others)
        p = p / p.sum(1, keepdim=True)
        binary = F.kl_div(two_q.log(), two_p, reduction="batchmean")
        return scale * (binary + 8 * F.kl_div(log_q, p, reduction="batchmean"))

    def dist(logits: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        q = torch.softmax(logits / temperature, 1)
        return scale * (2 - _correlation(q, probs) - _correlation(q.T, probs.T))

    def standardised(logits: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
        log_q = torch.log_softmax(_standard(logits) / temperature, 1)
        p = torch.softmax(_standard(probs.log()) / temperature, 1)
        return -scale * (log_q * p).sum(1).mean()

    return {"kd": kd, "dkd": dkd, "dist": dist, "standardised": standardised}


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)).mean()


def _standard(logits: Tensor) -> Tensor:
    return (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)


def bare_features(student: Tensor, teacher: Tensor, projector: nn.Module) -> Tensor:
    """The distance of features after a projector."""
    return (projector(student) - teacher).square().mean() / teacher.square().mean()


def bare_attention(student: Tensor, teacher: Tensor) -> Tensor:
    """The distance of attention maps."""
    maps = [F.normalize(one.square().sum(1).flatten(1), dim=1) for one in (student, teacher)]
    return (maps[0] - maps[1]).square().sum(1).mean()
