"""Targets and class bias against second opinions in plain Python, float64."""

import itertools
import math
import random

import pytest
import second_opinion
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


@pytest.mark.parametrize("num_soft", [None, 7])
@pytest.mark.parametrize("where", [[True] * 4, [True, False, True, True]], ids=["everywhere", "somewhere"])
def test_the_soft_term_of_logits_and_its_gradient_follow_the_equations(
    where: list[bool], num_soft: int | None
) -> None:
    student, teacher = logits_of(4, 5, seed=1).requires_grad_(), logits_of(4, 5, seed=2)
    loss = distillation_loss(student, LogitTargets(teacher), where=torch.tensor(where), num_soft=num_soft)
    loss.total.backward()
    count = num_soft or sum(where)
    kept = [(z, v) for z, v, counts in zip(student.tolist(), teacher.tolist(), where, strict=True) if counts]
    summed = sum(second_opinion.logit_matching([z], [v]) for z, v in kept)
    assert loss.soft.item() == pytest.approx(summed / count, rel=1e-12)
    rows = zip(student.tolist(), teacher.tolist(), where, student.grad.tolist(), strict=True)
    for z, v, counts, gradient in rows:
        means = sum(z) / 5, sum(v) / 5
        expected = [counts * ((z[i] - means[0]) - (v[i] - means[1])) / 5 / count for i in range(5)]
        assert gradient == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_soft_term_is_the_soft_cross_entropy_at_a_high_temperature_up_to_a_constant() -> None:
    student, teacher = logits_of(4, 5, seed=1), logits_of(4, 5, seed=2)
    limit = distillation_loss(student, LogitTargets(teacher)).soft.item()
    distances = []
    for temperature in (1e1, 1e2, 1e3):
        probs = [softmax(row, temperature) for row in teacher.tolist()]
        at_the_student, at_the_teacher = (
            second_opinion.soft_term(logits.tolist(), probs, temperature, [True] * 4)
            for logits in (student, teacher)
        )
        distances.append(abs(at_the_student - at_the_teacher - limit))
    for near, far in zip(distances[1:], distances, strict=False):
        assert near < 0.2 * far  # the next term of the expansion is of order 1/T
    assert distances[-1] < 1e-2 * limit


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
    # Where a named class overtakes another, and so, between two such shifts, all that a shift can do.
    steps = sorted({row[j] - row[k] for row in rows for k in classes for j in range(4) if j not in classes})
    shifts = [steps[0] - 1, *((low + high) / 2 for low, high in itertools.pairwise(steps)), steps[-1] + 1]
    fewest = min(errors(rows, names, [s if k in classes else 0.0 for k in range(4)]) for s in shifts)
    found = errors(rows, names, shared.tolist())
    assert found == fewest
    assert errors(rows, names, each.tolist()) <= found
    assert all(shared[k] == each[k] == 0 for k in range(4) if k not in classes)
    moved = fit_class_bias(logits + 7.0, labels, classes=classes)
    torch.testing.assert_close(moved, shared)
