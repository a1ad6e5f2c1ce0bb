"""A network that ends in a linear head over many classes: `fit` computes the head together with its loss.

The logits of a batch, and their gradient, are then never laid out: less memory, in about the same time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from instar.linear_loss import linear_distillation_loss
from instar.losses import AnyTargets, DistillationLoss
from instar.metrics import predicted_classes
from instar.networks import as_logits, call, evaluation_mode, input_type, is_compiled
from instar.structures import Inputs, in_type

PAYS = 2**22
"""From this many logits in a batch on, 16 MiB of them: with fewer there is little memory to save."""


def wide_head(
    network: nn.Module, inputs: Inputs, num_classes: int, *, batch_size: int, num_positions: int | None = None
) -> nn.Linear | None:
    """The linear layer whose output is a network's logits, where computing it with the loss pays.

    Args:
        network: to be trained.
        inputs: two examples, by which the layer is found (`opened_head`): the network is run on them.
        num_classes: of the data.
        batch_size: of its training.
        num_positions: of an example, where the network has logits at each.

    Returns:
        None where there are few logits in a batch, where they are anything else than the output of an `nn.Linear`
        with this many outputs, where something listens to this layer, and where the network is compiled.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 100_000))
        >>> wide_head(network, torch.zeros(2, 4), 100_000, batch_size=64)
        Linear(in_features=8, out_features=100000, bias=True)
        >>> wide_head(network, torch.zeros(2, 4), 100_000, batch_size=8) is None
        True
    """
    if batch_size * (num_positions or 1) * num_classes < PAYS:
        return None
    found = opened_head(network, inputs, num_classes)
    return found[0] if found is not None and found[1].dim() == (2 if num_positions is None else 3) else None


@contextmanager
def opened(head: nn.Linear) -> Iterator[None]:
    """Within it the layer gives what it is given, and so its network gives the hidden states before the head."""
    head.forward = _as_given  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward


def fused_loss(
    head: nn.Linear,
    hidden: Tensor,
    targets: AnyTargets | None,
    labels: Tensor,
    *,
    soft_weight: float,
    hard_weight: float,
    num_hard: int,
) -> tuple[DistillationLoss, Tensor]:
    """The loss of hidden states (batch, width) with the head, and the predicted classes (batch,)."""
    predicted = torch.empty_like(labels)

    def watch(rows: slice, logits: Tensor) -> None:
        predicted[rows] = predicted_classes(logits)

    loss = linear_distillation_loss(
        hidden,
        head.weight,
        targets,
        labels,
        bias=head.bias,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
        num_hard=num_hard,
        watch=watch,
    )
    return loss, predicted


def opened_head(network: nn.Module, inputs: Inputs, num_classes: int) -> tuple[nn.Linear, Tensor] | None:
    """The linear layer whose output is a network's logits, of any shape, found without laying these out.

    Args:
        network: any.
        inputs: some examples, on which the network is run with the layer opened.
        num_classes: of its logits.

    Returns:
        The layer, and the hidden states that it is given, (..., width); None where the logits are anything else
        than its output, and where the network is compiled.

    Example:
        >>> network = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
        >>> head, hidden = opened_head(network, torch.tensor([[1, 2, 3]]), 9)
        >>> head, hidden.shape
        (Linear(in_features=8, out_features=9, bias=True), torch.Size([1, 3, 8]))
    """
    if is_compiled(network):
        return None
    for head in [one for one in network.modules() if isinstance(one, nn.Linear) and _is_plain(one)]:
        if head.out_features != num_classes:
            continue
        given: list[Tensor] = []

        def keep(hidden: Tensor, given: list[Tensor] = given) -> Tensor:
            given.append(hidden.view_as(hidden))
            return given[-1]

        head.forward = keep  # type: ignore[method-assign, assignment]
        try:
            with evaluation_mode(network), torch.no_grad(), torch.random.fork_rng():
                found = _answer(network, inputs)
        except Exception:  # a user's forward may want to see logits
            continue
        finally:
            del head.forward
        if len(given) == 1 and found is given[0]:
            return head, found
    return None


def _as_given(hidden: Tensor) -> Tensor:
    return hidden


def _is_plain(module: nn.Module) -> Any:
    """Whether a module is a linear layer that computes nothing else."""
    return type(module) is nn.Linear and not any(
        (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    )


def _answer(network: nn.Module, inputs: Inputs) -> Tensor:
    return as_logits(call(network, in_type(inputs, input_type(network))), network)
