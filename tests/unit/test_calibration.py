"""A temperature is offered where validation shows that it helps, and not where it only may."""

import pytest
import torch
from torch import Tensor

from instar import metrics
from instar.deploy.calibration import Calibration


def drawn(num: int, *, sharpness: float, seed: int) -> tuple[Tensor, Tensor]:
    """Logits of three classes that are `sharpness` times too large, and labels from the right ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num, 3, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return sharpness * logits, labels


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_is_too_sure_gets_its_temperature(seed: int) -> None:
    found = Calibration.fitted(*drawn(4000, sharpness=3.0, seed=seed))
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.calibrated_nll < found.nll


def test_where_all_is_right_none_is_made_surer() -> None:
    """80 examples of a network that is right on 97 % of others: the surest answers are the likeliest on these."""
    logits, _ = drawn(80, sharpness=1.0, seed=0)
    found = Calibration.fitted(logits, logits.argmax(-1))
    assert found.temperature == 1.0
    assert found.calibrated_nll == found.nll
    assert "do not show that one helps" in found.in_words()


@pytest.mark.parametrize("seed", range(5))
def test_a_gain_within_its_noise_is_none(seed: int) -> None:
    """A calibrated network on few examples: what is offered makes it no worse on new ones."""
    found = Calibration.fitted(*drawn(60, sharpness=1.0, seed=seed))
    logits, labels = drawn(4000, sharpness=1.0, seed=100 + seed)
    at_one, at_found = (metrics.negative_log_likelihood(logits / T, labels) for T in (1.0, found.temperature))
    assert at_found <= at_one + 0.02
