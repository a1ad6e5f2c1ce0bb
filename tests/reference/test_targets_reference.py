"""Targets and class bias against second opinions in plain Python, float64."""

import math
import random

import pytest
import torch

from instar.distillation import fit_class_bias
from instar.losses import (
    LogitTargets,
    SoftTargets,
    distillation_loss,
    logit_matching_loss,
    mix_in_labels,
    soft_targets,
    targets_of_members,
)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp((value - max(values)) / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def logits_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_mixed_in_labels_are_the_weighted_sum() -> None:
    probs = torch.softmax(logits_of(4, 5), -1)
    labels = [2, -1, 0, 4]
    mixed = mix_in_labels(SoftTargets(probs, 4.0), torch.tensor(labels), 0.3).probs.tolist()
    for row, label, found in zip(probs.tolist(), labels, mixed, strict=True):
        expected = row if label < 0 else [0.7 * p + 0.3 * (i == label) for i, p in enumerate(row)]
        assert found == pytest.approx(expected, abs=1e-12)
        assert sum(found) == pytest.approx(1.0)


def test_means_of_members() -> None:
    members = logits_of(3, 2, 4)
    rows = members.tolist()
    for example in range(2):
        each = [softmax(member[example], 2.0) for member in rows]
        arithmetic = [sum(column) / 3 for column in zip(*each, strict=True)]
        products = [math.prod(column) ** (1 / 3) for column in zip(*each, strict=True)]
        geometric = [product / sum(products) for product in products]
        for mean, expected in (("arithmetic", arithmetic), ("geometric", geometric)):
            found = targets_of_members(members, 2.0, mean=mean)
            assert isinstance(found, SoftTargets)
            assert found.probs[example].tolist() == pytest.approx(expected, abs=1e-12)
    limit = targets_of_members(members, math.inf)
    assert isinstance(limit, LogitTargets)
    torch.testing.assert_close(limit.logits, members.mean(0))


def test_logits_as_targets_are_the_limit_of_a_high_temperature() -> None:
    student, teacher = logits_of(6, 5, seed=1).requires_grad_(), logits_of(6, 5, seed=2)
    (limit,) = torch.autograd.grad(distillation_loss(student, LogitTargets(teacher)).total, student)
    (hot,) = torch.autograd.grad(distillation_loss(student, soft_targets(teacher, 1e4)).total, student)
    torch.testing.assert_close(limit, hot, atol=1e-4, rtol=1e-3)
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    torch.testing.assert_close(limit, (centred / 5 / 6).detach())
    torch.testing.assert_close(
        distillation_loss(student, LogitTargets(teacher)).soft, logit_matching_loss(student, teacher)
    )


def test_masked_logit_targets_leave_examples_out() -> None:
    student, teacher = logits_of(4, 3, seed=3).requires_grad_(), logits_of(4, 3, seed=4)
    where = torch.tensor([True, False, True, False])
    masked = distillation_loss(student, LogitTargets(teacher), where=where)
    torch.testing.assert_close(masked.soft, logit_matching_loss(student[where], teacher[where]))
    nothing = distillation_loss(student, LogitTargets(teacher), where=torch.zeros(4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(nothing.total, student)
    assert nothing.total == 0
    assert not gradient.any()
    assert torch.autograd.gradcheck(lambda z: distillation_loss(z, LogitTargets(teacher)).total, (student,))


def errors(logits: list[list[float]], labels: list[int], bias: list[float]) -> int:
    wrong = 0
    for row, label in zip(logits, labels, strict=True):
        moved = [value + shift for value, shift in zip(row, bias, strict=True)]
        wrong += moved.index(max(moved)) != label
    return wrong


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("classes", [[2], [0, 3]])
def test_shared_bias_makes_the_fewest_errors_of_any_shift(seed: int, classes: list[int]) -> None:
    logits = logits_of(60, 4, seed=seed)
    labels = torch.tensor([random.Random(seed).choices(range(4), k=60)])[0]
    labels[:4] = torch.arange(4)
    shared = fit_class_bias(logits, labels, classes=classes)
    each = fit_class_bias(logits, labels, classes=classes, shared=False)
    rows, names = logits.tolist(), labels.tolist()
    grid = [step / 50 for step in range(-1000, 1001)]
    fewest = min(errors(rows, names, [s if k in classes else 0.0 for k in range(4)]) for s in grid[::10])
    found = errors(rows, names, shared.tolist())
    assert found <= fewest
    assert errors(rows, names, each.tolist()) <= found
    assert all(shared[k] == each[k] == 0 for k in range(4) if k not in classes)
    moved = fit_class_bias(logits + 7.0, labels, classes=classes)
    torch.testing.assert_close(moved, shared)
