"""The soft losses beyond the paper's, against their equations written out in plain Python, in float64."""

import math
from collections.abc import Sequence
from functools import partial

import pytest
import second_opinion
import torch

from instar.errors import UsageError
from instar.losses import SoftTargets, distillation_loss
from instar.soft_losses import attention_loss, correlation_loss, decoupled_loss, feature_loss, standardised_loss

LABELS = torch.tensor([3, 1, 0, 4, 4, 2])
Rows = Sequence[Sequence[float]]


def logits_and_targets(temperature: float) -> tuple[torch.Tensor, SoftTargets, Rows, Rows]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (4 * torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    probs = [second_opinion.softmax(row, temperature) for row in teacher.tolist()]
    q = [second_opinion.softmax(row, temperature) for row in student.tolist()]
    return student, SoftTargets(torch.tensor(probs, dtype=torch.float64), temperature), probs, q


def divergence(p: Sequence[float], q: Sequence[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_decoupled_loss_follows_its_equation(temperature: float) -> None:
    student, targets, p, q = logits_and_targets(temperature)
    expected = []
    for row_p, row_q, label in zip(p, q, LABELS.tolist(), strict=True):
        two = divergence([row_p[label], 1 - row_p[label]], [row_q[label], 1 - row_q[label]])
        others = [k for k in range(5) if k != label]
        rest = divergence(*([row[k] / (1 - row[label]) for k in others] for row in (row_p, row_q)))
        expected.append(temperature**2 * (0.7 * two + 3 * rest))
    found = decoupled_loss(student, targets, LABELS, target_weight=0.7, other_weight=3.0)
    assert found.item() == pytest.approx(math.fsum(expected) / 6, rel=1e-10)


def test_of_one_example_with_the_weights_of_the_identity_the_decoupled_loss_is_the_ordinary_divergence() -> None:
    student, targets, p, q = logits_and_targets(2.0)
    for number in range(6):
        rest = 1 - p[number][int(LABELS[number])]
        one = slice(number, number + 1)
        found = decoupled_loss(student[one], targets[one], LABELS[one], other_weight=rest)
        assert found.item() == pytest.approx(4 * divergence(p[number], q[number]), rel=1e-9)


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    products = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return products / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_correlation_loss_follows_its_equation(temperature: float) -> None:
    student, targets, p, q = logits_and_targets(temperature)
    rows = 1 - math.fsum(map(correlation, p, q)) / 6
    columns = 1 - math.fsum(map(correlation, zip(*p, strict=True), zip(*q, strict=True))) / 5
    found = correlation_loss(student, targets, within_examples=0.5, within_classes=2.0)
    assert found.item() == pytest.approx(temperature**2 * (0.5 * rows + 2 * columns), rel=1e-9)
    alone = correlation_loss(student[:1], targets[:1])
    assert alone.item() == pytest.approx(temperature**2 * (1 - correlation(p[0], q[0])), rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_standardised_loss_follows_its_equation(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (4 * torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    targets = SoftTargets(torch.softmax(teacher / temperature, -1), temperature)

    def standardised(row: Sequence[float]) -> list[float]:
        mean = math.fsum(row) / 5
        sd = math.sqrt(math.fsum((z - mean) ** 2 for z in row) / 4)
        return [(z - mean) / sd for z in row]

    p = [second_opinion.softmax(standardised(row), temperature) for row in teacher.tolist()]
    expected = second_opinion.soft_term(
        [standardised(row) for row in student.tolist()], p, temperature, [True] * 6
    )
    assert standardised_loss(student, targets).item() == pytest.approx(expected, rel=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    student, targets, _, _ = logits_and_targets(2.0)
    student.requires_grad_()
    for loss in (
        lambda logits: decoupled_loss(logits, targets, LABELS),
        lambda logits: correlation_loss(logits, targets),
        lambda logits: standardised_loss(logits, targets),
    ):
        assert torch.autograd.gradcheck(loss, student)


def test_the_gradient_is_0_at_the_teacher_also_where_it_is_sure() -> None:
    for scale in (1.0, 60.0):
        teacher = scale * torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
        targets, labels = SoftTargets(torch.softmax(teacher, -1), 1.0), teacher.argmax(-1)
        for loss in (decoupled_loss, lambda logits, targets, _: correlation_loss(logits, targets)):
            student = teacher.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(student, targets, labels), student)
            assert gradient.abs().max() < 1e-3
        student = teacher.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            standardised_loss(student, SoftTargets(torch.softmax(teacher / 20, -1), 20.0)), student
        )
        assert gradient.abs().max() < 1e-3
    assert distillation_loss(teacher, targets).total > 0


def _maps(channels: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, 2, 4, dtype=torch.float64, generator=generator)


def test_the_loss_of_features_follows_its_equation() -> None:
    student, teacher = _maps(5, 1), _maps(5, 2)
    s, t = student.flatten().tolist(), teacher.flatten().tolist()
    expected = math.fsum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / math.fsum(b**2 for b in t)
    assert feature_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_the_loss_of_attention_follows_its_equation() -> None:
    student, teacher = _maps(5, 1), _maps(3, 2)

    def unit(maps: Sequence[Sequence[Sequence[float]]]) -> list[float]:
        places = [(y, x) for y in range(2) for x in range(4)]
        a = [math.fsum(channel[y][x] ** 2 for channel in maps) for y, x in places]
        norm = math.sqrt(math.fsum(value**2 for value in a))
        return [value / norm for value in a]

    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    distances = [
        math.fsum((a - b) ** 2 for a, b in zip(unit(ours), unit(theirs), strict=True)) for ours, theirs in pairs
    ]
    assert attention_loss(student, teacher).item() == pytest.approx(math.fsum(distances) / 3, rel=1e-10)


def test_the_losses_of_layers_have_the_gradient_of_finite_differences_and_give_the_teacher_none() -> None:
    for loss in (feature_loss, attention_loss):
        student, teacher = _maps(3, 1).requires_grad_(), _maps(3, 2).requires_grad_()
        assert torch.autograd.gradcheck(partial(loss, teacher=teacher.detach()), student)
        loss(student, teacher).backward()
        assert teacher.grad is None
    with pytest.raises(UsageError, match="of one height and width"):
        attention_loss(_maps(3, 1), _maps(3, 2)[..., :2])
    with pytest.raises(UsageError, match="shape"):
        feature_loss(_maps(3, 1), _maps(5, 2))
