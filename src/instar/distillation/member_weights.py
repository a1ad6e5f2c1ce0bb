"""Weights of the members of an ensemble, chosen on validation."""

from collections.abc import Sequence
from typing import Any

import torch

from instar.data import GivenData, as_dataset
from instar.distillation.teachers import as_networks, member_logits, members_of
from instar.errors import UsageError

_STEPS, _ENOUGH = 1000, 1e-9


def choose_ensemble_weights(
    teachers: Sequence[Any], validation: GivenData, *, device: str | torch.device = "cpu"
) -> list[float]:
    """The weights with which the mean of the members' probabilities is likeliest on validation.

    max_w  sum_n log sum_m w_m q^m(label_n),  w_m >= 0,  sum_m w_m = 1

    The problem is concave, and expectation maximisation climbs to its one maximum.

    Args:
        teachers: the members, as `distill` takes them, of any kinds; none was trained on the validation examples.
        validation: examples with labels.
        device: where the teachers run.

    Returns:
        One weight for each member, with a sum of 1: `ensemble_weights` of `distill`.

    Raises:
        UsageError: fewer than two members, members with different numbers of classes, or no example has a label.

    Example:
        >>> inputs = torch.randn(50, 2); labels = (inputs[:, 0] > 0).long()
        >>> good, bad = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> with torch.no_grad():
        ...     _ = good.weight.copy_(torch.tensor([[-9.0, 0.0], [9.0, 0.0]])), good.bias.zero_()
        ...     _ = bad.weight.copy_(-good.weight), bad.bias.zero_()
        >>> [round(weight, 2) for weight in choose_ensemble_weights([good, bad], (inputs, labels))]
        [1.0, 0.0]

    References:
        Dempster, Laird and Rubin 1977, section 4.3: the weights of a mixture whose components are fixed.
    """
    data = as_dataset(validation)
    members = members_of(as_networks(list(teachers), data))
    if len(members) < 2:
        raise UsageError(f"choose_ensemble_weights: {len(members)} teachers, expected two or more")
    data = data.subset(data.ids[data.labels(data.ids).to(data.ids.device) >= 0]).to(torch.device(device))
    logits = member_logits([one.to(device) for one in members], data, device=device)
    labels = data.labels(data.ids)
    log_probs = logits.double().log_softmax(-1)
    likelihoods = log_probs[:, torch.arange(len(labels), device=log_probs.device), labels].T  # (examples, members)
    weights = torch.full_like(likelihoods[0], 1 / len(members))
    for _ in range(_STEPS):
        shares = (likelihoods + weights.log()).softmax(-1)
        moved = shares.mean(0)
        done = float((moved - weights).abs().max()) < _ENOUGH
        weights = moved
        if done:
            break
    return [float(weight) for weight in weights]
