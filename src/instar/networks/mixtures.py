"""A mixture of experts: networks for all classes, and a gate that weights them for each example."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MixtureOfExperts(nn.Module):
    """Logits log p, with p = sum_k g_k p_k: experts p_k and gate g see the same example and are trained together.

    Args:
        experts: networks that return logits of all classes.
        gate: a network that returns one logit for each expert.

    Example:
        >>> mixture = MixtureOfExperts([nn.Linear(4, 3), nn.Linear(4, 3)], nn.Linear(4, 2))
        >>> torch.allclose(mixture(torch.randn(5, 4)).exp().sum(1), torch.ones(5))
        True

    References:
        Jacobs, Jordan, Nowlan and Hinton 1991; Hinton, Vinyals and Dean 2015, section 6.1, argues against it.
    """

    def __init__(self, experts: Sequence[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gate = gate

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, ...) -> (batch, classes)."""
        log_gate = torch.log_softmax(self.gate(inputs).float(), 1)
        logits = torch.stack([torch.log_softmax(expert(inputs).float(), 1) for expert in self.experts], 1)
        return torch.logsumexp(log_gate[:, :, None] + logits, 1)
