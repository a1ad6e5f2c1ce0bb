"""Classes that the student finds impossible (a logit of -inf) and to which the teacher gives no probability."""

import math
from collections.abc import Callable

import pytest
import second_opinion
import torch
from torch import Tensor

from instar import row_pieces
from instar.linear_loss import HeadTargets, linear_distillation_loss
from instar.losses import SoftTargets, distillation_loss, ensemble_soft_targets, mix_in_labels, soft_targets
from instar.metrics import kl_from_teacher
from instar.soft_losses import correlation_loss, decoupled_loss, standardised_loss
from instar.sparse_targets import SparseTargets

T = 2.0
CLASSES = 6
IMPOSSIBLE = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]]).bool()
LABELS = torch.tensor(
    [0, -1, 1, 2]
)  # the row without a label comes with possible classes, the next without class 0
WHERE = torch.tensor([True, True, True, False])

SoftTerm = Callable[[Tensor], Tensor]


def rows(seed: int) -> Tensor:
    values = 2 * torch.randn(*IMPOSSIBLE.shape, generator=torch.Generator().manual_seed(seed))
    return values.masked_fill(IMPOSSIBLE, -math.inf)


STUDENT, TEACHER = rows(0), rows(1)
PROBS = soft_targets(TEACHER, T).probs


def sparse(reading: str, top_k: int) -> SparseTargets:
    generator = torch.Generator().manual_seed(0)
    return SparseTargets.of_logits(TEACHER, T, top_k=top_k, num_draws=9, reading=reading, generator=generator)


def value_and_gradient(loss: SoftTerm) -> tuple[float, Tensor]:
    logits = STUDENT.clone().requires_grad_()
    found = loss(logits)
    (gradient,) = torch.autograd.grad(found, logits)
    return float(found.detach()), gradient


@pytest.mark.parametrize("wide", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("where", [None, WHERE], ids=["no mask", "mask"])
@pytest.mark.parametrize("kind", ["probs", "teacher", "ensemble", "geometric"])
def test_they_add_nothing_to_the_soft_term(
    kind: str, where: Tensor | None, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pieces, "WIDE", 0 if wide else 2**60)
    monkeypatch.setattr(row_pieces, "PIECE", 2 * CLASSES)
    two = torch.stack([TEACHER, TEACHER])
    targets = {
        "probs": lambda: SoftTargets(PROBS, T),
        "teacher": lambda: soft_targets(TEACHER, T),
        "ensemble": lambda: ensemble_soft_targets(two, T),
        "geometric": lambda: ensemble_soft_targets(two, T, mean="geometric"),
    }[kind]()
    value, gradient = value_and_gradient(lambda z: distillation_loss(z, targets, where=where).soft)
    counts = [True] * len(STUDENT) if where is None else where.tolist()
    given = STUDENT.double().tolist(), PROBS.double().tolist(), T, counts
    assert value == pytest.approx(second_opinion.soft_term(*given), rel=1e-6)
    torch.testing.assert_close(gradient, torch.tensor(second_opinion.soft_gradient(*given)), rtol=1e-5, atol=1e-6)


def test_under_a_transform_of_torch_which_may_not_look_at_the_loss_too() -> None:
    def loss(logits: Tensor) -> Tensor:
        return distillation_loss(logits, SoftTargets(PROBS, T)).soft

    value, gradient = value_and_gradient(loss)
    again, found = torch.func.grad_and_value(loss)(STUDENT)[::-1]
    assert float(again) == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(found, gradient)


def test_labels_mixed_in_and_a_row_without_a_label_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = mix_in_labels(SoftTargets(PROBS, T), LABELS, 0.3)
    value, _ = value_and_gradient(lambda z: distillation_loss(z, targets).soft)
    given = STUDENT.double().tolist(), targets.probs.double().tolist(), T, [True] * len(STUDENT)
    assert value == pytest.approx(second_opinion.soft_term(*given), rel=1e-6)

    monkeypatch.setattr(row_pieces, "WIDE", 0)
    labels = torch.tensor([0, 1, -1, 2])  # class 0, of which a row without a label is asked, is impossible there
    hard = value_and_gradient(lambda z: distillation_loss(z, None, labels, soft_weight=0, hard_weight=1).hard)
    expected = second_opinion.hard_term(STUDENT.double().tolist(), labels.tolist(), [True] * len(labels))
    assert hard[0] == pytest.approx(expected, rel=1e-6)
    assert bool(hard[1].isfinite().all())


@pytest.mark.parametrize("top_k", [2, 4, 5])
@pytest.mark.parametrize("reading", ["tail", "drawn"])
def test_they_add_nothing_to_sparse_targets(reading: str, top_k: int) -> None:
    targets = sparse(reading, top_k)
    value, gradient = value_and_gradient(lambda z: distillation_loss(z, targets).soft)
    total = 0.0
    for z, classes, p, rest, drawn in zip(
        STUDENT.double().tolist(),
        targets.classes.tolist(),
        targets.probs.double().tolist(),
        targets.rest.tolist(),
        targets.drawn.tolist() if targets.drawn is not None else [],
        strict=True,
    ):
        log_q = second_opinion.log_softmax(z, T)
        total -= math.fsum(p[k] * log_q[i] for k, i in enumerate(classes) if p[k] > 0)
        others = [log_q[i] for i in range(CLASSES) if i not in classes]
        if rest > 0 and reading == "tail":
            total -= rest * math.log(math.fsum(map(math.exp, others)))
        elif rest > 0:
            total -= rest * math.fsum(log_q[i] for i in drawn) / len(drawn)
    assert value == pytest.approx(T**2 * total / len(STUDENT), rel=1e-5)
    assert bool(gradient.isfinite().all())


def test_the_even_reading_gives_a_class_that_is_impossible_in_the_top_no_mass() -> None:
    """Of the others each has mass: there an impossible class costs infinitely much, as its equation says."""
    targets = SparseTargets(torch.tensor([[0, 2]]), torch.tensor([[0.7, 0.0]]), torch.tensor([0.3]), T)
    even = SparseTargets(targets.classes, targets.probs, targets.rest, T, reading="even")
    log_q = second_opinion.log_softmax(STUDENT[0].double().tolist(), T)
    expected = -0.7 * log_q[0] - 0.3 / 4 * math.fsum(log_q[i] for i in (1, 3, 4, 5))
    found = distillation_loss(STUDENT[:1], even).soft
    assert float(found) == pytest.approx(T**2 * expected, rel=1e-6)
    other = SparseTargets(torch.tensor([[0, 1]]), targets.probs, targets.rest, T, reading="even")
    assert float(distillation_loss(STUDENT[:1], other).soft) == math.inf


def test_a_head_with_a_bias_of_minus_infinity() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(4, 3, generator=generator), torch.randn(CLASSES, 3, generator=generator)
    bias = torch.zeros(CLASSES).index_fill_(0, torch.tensor([2]), -math.inf)
    hidden.requires_grad_()
    heads = torch.randn(4, 2, generator=generator), torch.randn(CLASSES, 2, generator=generator)
    targets = HeadTargets(*heads, T, bias)
    loss = linear_distillation_loss(hidden, weight, targets, bias=bias)
    loss.total.backward()  # type: ignore[no-untyped-call]
    logits = (hidden.detach() @ weight.T + bias).double().tolist()
    probs = soft_targets(targets.hidden @ targets.weight.T + bias, T).probs.double().tolist()
    assert float(loss.soft) == pytest.approx(second_opinion.soft_term(logits, probs, T, [True] * 4), rel=1e-5)
    assert hidden.grad is not None
    assert bool(hidden.grad.isfinite().all())


def test_the_decoupled_loss_is_that_of_the_other_classes() -> None:
    row, left = 2, [1, 2, 3, 4]  # without the two that are impossible there
    label = torch.tensor([1])
    value, gradient = value_and_gradient(lambda z: decoupled_loss(z[row : row + 1], _row(PROBS, row), label))
    without = decoupled_loss(STUDENT[row : row + 1, left], _row(PROBS[:, left], row), label - 1)
    assert value == pytest.approx(float(without), rel=1e-5)
    assert bool(gradient.isfinite().all())
    sure = SoftTargets(torch.tensor([[0.0, 1.0, 0.0]]), T)  # all others are impossible to both
    logits = torch.tensor([[-math.inf, 2.0, -math.inf]], requires_grad=True)
    loss = decoupled_loss(logits, sure, label)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_the_standardised_loss_takes_them_for_the_smallest_number() -> None:
    targets = SoftTargets(PROBS, T)
    value, gradient = value_and_gradient(lambda z: standardised_loss(z, targets))
    least = STUDENT.logsumexp(-1, keepdim=True) + math.log(torch.finfo(torch.float32).tiny)
    finite = torch.where(IMPOSSIBLE, least, STUDENT)
    assert value == pytest.approx(float(standardised_loss(finite, targets)), rel=1e-6)
    assert bool(gradient.isfinite().all())
    agrees = standardised_loss(PROBS.log(), targets)
    assert float(agrees) < value
    clamped = PROBS.clamp(min=torch.finfo(torch.float32).tiny).log()
    assert float(agrees) == pytest.approx(float(standardised_loss(clamped, targets)), rel=1e-4)


def test_the_correlation_loss_and_the_divergence_from_the_teacher() -> None:
    value, gradient = value_and_gradient(lambda z: correlation_loss(z, SoftTargets(PROBS, T)))
    assert math.isfinite(value)
    assert bool(gradient.isfinite().all())
    total = 0.0
    for z, v in zip(STUDENT.double().tolist(), TEACHER.double().tolist(), strict=True):
        p, log_p, log_q = second_opinion.softmax(v), second_opinion.log_softmax(v), second_opinion.log_softmax(z)
        total += math.fsum(p[i] * (log_p[i] - log_q[i]) for i in range(CLASSES) if p[i] > 0)
    assert kl_from_teacher(STUDENT, TEACHER) == pytest.approx(total / len(STUDENT), rel=1e-5)
    assert kl_from_teacher(STUDENT[:1].roll(1), TEACHER[:1]) == math.inf


def test_a_class_with_a_probability_that_is_impossible_costs_infinitely_much_and_nan_stays_nan() -> None:
    targets = SoftTargets(torch.full((1, 3), 1 / 3), T)
    assert float(distillation_loss(torch.tensor([[0.0, -math.inf, 1.0]]), targets).soft) == math.inf
    sure = SoftTargets(torch.tensor([[1.0, 0.0, 0.0]]), T)
    broken = torch.tensor([[0.0, math.nan, 1.0]])
    assert math.isnan(float(distillation_loss(broken, sure).soft))
    assert math.isnan(float(decoupled_loss(broken, sure, torch.tensor([0]))))
    assert math.isnan(float(standardised_loss(broken, sure)))


def _row(probs: Tensor, row: int) -> SoftTargets:
    return SoftTargets(probs[row : row + 1], T)
