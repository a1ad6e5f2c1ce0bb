"""The tensors of a fit in a checkpoint, by name: those of `network.`, `average.`, `optimiser.0.` and so on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instar.networks import load_state_

KINDS = ("network", "auxiliary", "average", "best", "optimiser")


def fit_tensors(
    network: nn.Module,
    auxiliary: nn.Module | None,
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    *,
    average: Mapping[str, Any],
    best: Mapping[str, Any],
) -> dict[str, Any]:
    """All tensors that a fit needs to go on.

    Args:
        network: that is fitted.
        auxiliary: the module of a further term of the loss.
        optimiser: of the parameters.
        parameters: in the optimiser's order.
        average: moving averages of the weights.
        best: the weights of the best epoch.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    if auxiliary is not None:
        tensors |= {f"auxiliary.{name}": value for name, value in auxiliary.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, parameter in enumerate(parameters):
        state = optimiser.state[parameter]
        tensors |= {f"optimiser.{index}.{key}": v for key, v in state.items() if v is not None}
    return tensors


def by_kind(tensors: Mapping[str, Any], device: torch.device) -> dict[str, dict[str, Any]]:
    """The tensors of a checkpoint on a device, by kind and name."""
    parts: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if rest:
            parts[part][rest] = value.to(device) if isinstance(value, Tensor) else value
    return parts


def load_modules_(
    parts: Mapping[str, Mapping[str, Any]], network: nn.Module, auxiliary: nn.Module | None, source: str
) -> None:
    """Load the weights of the modules of a fit.

    Raises:
        DataError: they are of others; `source` names the checkpoint.
    """
    load_state_(network, parts["network"], type(network).__name__, source)
    if auxiliary is not None:
        load_state_(auxiliary, parts["auxiliary"], "the auxiliary loss", source)


def load_optimiser_(
    kept: Mapping[str, Any], optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> None:
    """Load the state of an optimiser."""
    for name, value in kept.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:  # a fused step needs the memory layout of the weights
            value = torch.empty_like(parameter).copy_(value).detach()
        optimiser.state[parameter][key] = value
