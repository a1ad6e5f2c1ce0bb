"""BatchNorm whose running averages a short fit does not reach."""

import warnings

import pytest
import torch
from torch import nn

from instar.errors import LearningWarning
from instar.networks import freeze_
from instar.training import fit


def network(momentum: float | None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4, momentum=momentum), nn.ReLU(), nn.Linear(4, 2))


def data(number: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = 50 + 10 * torch.randn(number, 2, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] > 50).long()


def test_a_fit_that_is_too_short_for_its_momentum_is_said_and_is_far_worse_in_evaluation() -> None:
    short = network(0.01)
    with pytest.warns(LearningWarning, match=r"momentum 0.01: after 80 steps 45 % of its statistics are those"):
        result = fit(short, data(), epochs=20, batch_size=16, learning_rate=0.1)
    inputs, labels = data()
    wrong = int((short.eval()(inputs).argmax(-1) != labels).sum())
    assert result.metrics[-1]["train_errors"] < 10
    assert wrong > 20


@pytest.mark.parametrize(("momentum", "epochs"), [(0.1, 20), (None, 20), (0.01, 60)])
def test_others_are_not(momentum: float | None, epochs: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", LearningWarning)
        fit(network(momentum), data(), epochs=epochs, batch_size=16, learning_rate=0.1)


def test_frozen_layers_keep_theirs() -> None:
    frozen = network(0.01)
    freeze_(frozen, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LearningWarning)
        fit(frozen, data(), epochs=20, batch_size=16, learning_rate=0.1)
    assert torch.equal(frozen[1].running_mean, torch.zeros(4))
