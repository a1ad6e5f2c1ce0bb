"""The losses against the equations written out in plain Python, in float64."""

import pytest
import second_opinion
import torch

from instar.losses import (
    SoftTargets,
    cross_entropy,
    distillation_loss,
    ensemble_soft_targets,
    logit_matching_loss,
    soft_targets,
)

TEMPERATURES = [0.5, 1.0, 2.5, 20.0, 1000.0]
LABELS = torch.tensor([3, -1, 0, 4, -1, 2])
EVERYWHERE = torch.ones(6, dtype=torch.bool)
SOMEWHERE = torch.tensor([True, True, False, True, False, True])


def random_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_targets_are_the_softmax_at_the_temperature(temperature: float) -> None:
    logits = random_logits(6, 5)
    expected = [second_opinion.softmax(row, temperature) for row in logits.tolist()]
    torch.testing.assert_close(soft_targets(logits, temperature).probs, torch.tensor(expected).double())


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_ensemble_soft_targets_are_the_mean_of_the_members_distributions(mean: str, temperature: float) -> None:
    member_logits = random_logits(3, 6, 5)
    mean_of = {"arithmetic": second_opinion.arithmetic_mean, "geometric": second_opinion.geometric_mean}[mean]
    expected = [
        mean_of([second_opinion.softmax(member[example], temperature) for member in member_logits.tolist()])
        for example in range(6)
    ]
    found = ensemble_soft_targets(member_logits, temperature, mean=mean)
    torch.testing.assert_close(found.probs, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("where", [None, EVERYWHERE, SOMEWHERE], ids=["no mask", "everywhere", "somewhere"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_distillation_loss_and_its_gradient_follow_the_equations(
    temperature: float, where: torch.Tensor | None
) -> None:
    logits = random_logits(6, 5).requires_grad_()
    targets = soft_targets(random_logits(6, 5, seed=1), temperature)
    loss = distillation_loss(logits, targets, LABELS, soft_weight=0.7, hard_weight=0.3, where=where)
    loss.total.backward()

    rows, probs, labels = logits.tolist(), targets.probs.tolist(), LABELS.tolist()
    counts = (EVERYWHERE if where is None else where).tolist()
    soft = second_opinion.soft_term(rows, probs, temperature, counts)
    hard = second_opinion.hard_term(rows, labels, counts)
    assert loss.soft.item() == pytest.approx(soft, rel=1e-12)
    assert loss.hard.item() == pytest.approx(hard, rel=1e-12)
    assert loss.total.item() == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-12)
    gradient = 0.7 * torch.tensor(
        second_opinion.soft_gradient(rows, probs, temperature, counts), dtype=torch.float64
    ) + 0.3 * torch.tensor(second_opinion.hard_gradient(rows, labels, counts), dtype=torch.float64)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("where", [None, SOMEWHERE], ids=["no mask", "somewhere"])
def test_cross_entropy_is_the_mean_over_the_labelled(where: torch.Tensor | None) -> None:
    logits = random_logits(6, 5)
    counts = (EVERYWHERE if where is None else where).tolist()
    expected = second_opinion.hard_term(logits.tolist(), LABELS.tolist(), counts)
    assert cross_entropy(logits, LABELS, where=where).item() == pytest.approx(expected, rel=1e-12)


def test_logit_matching_is_the_squared_distance_of_the_centred_logits() -> None:
    student, teacher = random_logits(6, 5), random_logits(6, 5, seed=1)
    expected = second_opinion.logit_matching(student.tolist(), teacher.tolist())
    assert logit_matching_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_huge_logits_follow_the_equations_too() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=torch.float64)
    targets = SoftTargets(torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float64), 2.0)
    expected = second_opinion.soft_term(logits.tolist(), targets.probs.tolist(), 2.0, [True, True])
    assert distillation_loss(logits, targets).soft.item() == pytest.approx(expected, rel=1e-12)
