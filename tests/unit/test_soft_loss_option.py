"""`soft_loss`: the option of a fit."""

import pytest
import torch
from torch import nn

from instar import distill, fit
from instar.data import as_dataset
from instar.errors import UsageError
from instar.losses import LogitTargets, soft_targets
from instar.soft_losses import SOFT_LOSSES, decoupled_loss, named_soft_loss

INPUTS = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(96) % 3


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 3))


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_each_brings_the_student_to_its_teacher(name: str) -> None:
    teacher, student = network(1), network(2)
    with torch.no_grad():
        teacher[0].weight.mul_(4)  # type: ignore[union-attr]
    weight = 9.0 if name == "standardised" else 1.0

    def agreement() -> float:
        with torch.no_grad():
            return float((teacher(INPUTS).argmax(-1) == student(INPUTS).argmax(-1)).float().mean())

    before = agreement()
    result = distill(
        teacher, student, (INPUTS, LABELS), epochs=30, temperature=2.0, soft_loss=name, soft_weight=weight
    )
    assert before < 0.7 < 0.9 < agreement()
    assert result.metrics[-1]["train_loss"] < result.metrics[0]["train_loss"]


def test_wrong_uses_are_one_clear_error() -> None:
    data = as_dataset((INPUTS, LABELS))
    targets = soft_targets(torch.randn(96, 3), 2.0)
    with pytest.raises(UsageError, match=r"'dkdd'.*dkd"):
        fit(network(0), data, epochs=1, targets=lambda ids, views: targets[: len(ids)], soft_loss="dkdd")
    with pytest.raises(UsageError, match="no soft targets"):
        fit(network(0), data, epochs=1, soft_loss="dist")
    half, matched = data.without_labels(data.ids[:48]), LogitTargets(torch.randn(96, 3))
    with pytest.raises(UsageError, match=r"about the true class.*48 training examples have no label"):
        fit(network(0), half, epochs=1, targets=lambda ids, views: targets[: len(ids)], soft_loss="dkd")
    with pytest.raises(UsageError, match="finite temperature"):
        fit(network(0), data, epochs=1, targets=lambda ids, views: matched[: len(ids)], soft_loss="dist")


def test_the_weight_of_the_other_classes_goes_with_the_name() -> None:
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    targets = soft_targets(torch.randn(6, 5), 3.0)
    loss = named_soft_loss("dkd:0.5")
    assert loss is not None
    assert torch.equal(loss(logits, targets, labels), decoupled_loss(logits, targets, labels, other_weight=0.5))
    for wrong in ("dkd:", "dkd:much", "dist:2", "kd:1"):
        with pytest.raises(UsageError, match="expected a name, or dkd:WEIGHT"):
            named_soft_loss(wrong)
    data = as_dataset((INPUTS, LABELS))
    half = data.without_labels(data.ids[:3])
    with pytest.raises(UsageError, match="3 training examples have no label"):
        fit(network(0), half, epochs=1, targets=lambda ids, views: targets[: len(ids)], soft_loss="dkd:2")
