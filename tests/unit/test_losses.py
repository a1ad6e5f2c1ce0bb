"""The losses at their limits, their gradients, their precision, and what they refuse."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from instar.errors import UsageError
from instar.losses import (
    DistillationLoss,
    LogitTargets,
    SoftTargets,
    cross_entropy,
    distillation_loss,
    ensemble_soft_targets,
    logit_matching_loss,
    mix_in_labels,
    soft_targets,
    targets_of_members,
)

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []


def random_logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gradient_of(loss: Tensor, logits: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


# The limits


def test_at_temperature_1_one_hot_targets_give_the_ordinary_cross_entropy() -> None:
    logits, labels = random_logits(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    one_hot = SoftTargets(F.one_hot(labels, 4).double(), 1.0)
    expected = F.cross_entropy(logits, labels)
    torch.testing.assert_close(distillation_loss(logits, one_hot).total, expected)
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    hard_only = distillation_loss(logits, None, labels, soft_weight=0.0, hard_weight=1.0)
    torch.testing.assert_close(hard_only.total, expected)


def test_at_temperature_1_soft_targets_give_torchs_cross_entropy_with_probabilities() -> None:
    logits, targets = random_logits(6, 4), soft_targets(random_logits(6, 4, seed=1), 1.0)
    torch.testing.assert_close(distillation_loss(logits, targets).total, F.cross_entropy(logits, targets.probs))


def test_the_soft_gradient_tends_to_logit_matching_as_the_temperature_grows() -> None:
    student, teacher = (random_logits(1, 5, seed=seed) for seed in (0, 1))
    student, teacher = (logits - logits.mean() for logits in (student, teacher))
    student.requires_grad_()
    limit = ((student - teacher) / 5).detach()
    distances = []
    for temperature in (1e1, 1e2, 1e3, 1e4):
        soft = distillation_loss(student, soft_targets(teacher, temperature)).soft
        distances.append((gradient_of(soft, student) - limit).abs().max().item())
    for near, far in zip(distances[1:], distances, strict=False):
        assert near < 0.12 * far  # the next term of the expansion is of order 1/T
    assert distances[-1] < 1e-3
    torch.testing.assert_close(gradient_of(logit_matching_loss(student, teacher), student), limit)


def test_the_soft_loss_above_its_minimum_tends_to_the_logit_matching_loss() -> None:
    student, teacher = 3 + random_logits(7, 5), random_logits(7, 5, seed=1)
    targets = soft_targets(teacher, 1e4)
    above_minimum = distillation_loss(student, targets).soft - distillation_loss(teacher, targets).soft
    torch.testing.assert_close(above_minimum, logit_matching_loss(student, teacher), rtol=1e-3, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_identical_logits_give_a_zero_gradient_and_t_squared_times_the_entropy(temperature: float) -> None:
    logits = random_logits(6, 4).requires_grad_()
    targets = soft_targets(logits, temperature)
    soft = distillation_loss(logits, targets).soft
    entropy = torch.special.entr(targets.probs).sum(-1).mean()
    torch.testing.assert_close(soft, temperature**2 * entropy)
    torch.testing.assert_close(gradient_of(soft, logits), torch.zeros_like(logits), rtol=0, atol=1e-14)


def test_a_part_labelled_batch_has_the_soft_term_everywhere_and_the_hard_term_where_labels_are() -> None:
    logits = random_logits(5, 4).requires_grad_()
    labels = torch.tensor([2, -1, 0, -1, -1])
    targets = soft_targets(random_logits(5, 4, seed=1), 3.0)
    loss = distillation_loss(logits, targets, labels, hard_weight=0.5)
    torch.testing.assert_close(loss.soft, distillation_loss(logits, targets).soft)
    labelled = labels != -1
    torch.testing.assert_close(loss.hard, F.cross_entropy(logits[labelled], labels[labelled]))
    torch.testing.assert_close(loss.total, loss.soft + 0.5 * loss.hard)
    assert not gradient_of(loss.hard, logits)[~labelled].any()
    logits_again = logits.detach().requires_grad_()
    soft = distillation_loss(logits_again, targets).soft
    assert gradient_of(soft, logits_again).abs().sum(-1).min() > 0


def test_a_batch_without_a_label_has_no_hard_loss_and_no_hard_gradient() -> None:
    logits = random_logits(3, 4).requires_grad_()
    loss = cross_entropy(logits, torch.full((3,), -1))
    assert loss.item() == 0
    assert not gradient_of(loss, logits).any()


@pytest.mark.parametrize("hidden", [0.0, math.nan, math.inf], ids=["finite", "nan", "inf"])
def test_a_mask_that_hides_everything_gives_zero_and_a_zero_gradient(hidden: float) -> None:
    logits = (random_logits(3, 4) + hidden).requires_grad_()
    labels, nothing = torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.bool)
    targets = SoftTargets(random_logits(3, 4).softmax(-1) + hidden, 4.0)
    loss = distillation_loss(logits, targets, labels, hard_weight=1.0, where=nothing)
    for term in (*loss, cross_entropy(logits, labels, where=nothing)):
        assert term.item() == 0
    assert torch.equal(gradient_of(loss.total, logits), torch.zeros_like(logits))


def test_a_batch_of_no_example_gives_zero() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.long)
    loss = distillation_loss(logits, SoftTargets(torch.zeros(0, 4), 4.0), labels, hard_weight=1.0)
    assert [term.item() for term in loss] == [0, 0, 0]
    assert gradient_of(loss.total, logits).shape == (0, 4)
    assert logit_matching_loss(logits, logits).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_logits_of_ten_thousand_stay_finite(temperature: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    targets = soft_targets(-logits, temperature)
    loss = distillation_loss(logits, targets, torch.tensor([1, 0]), hard_weight=1.0)
    matching = logit_matching_loss(logits, -logits)
    assert all(term.isfinite() for term in (*loss, matching, cross_entropy(logits, torch.tensor([1, 0]))))
    assert gradient_of(loss.total, logits).isfinite().all()


# The factor T^2, the weights and the means


def test_the_factor_t_squared_depends_on_no_other_argument() -> None:
    logits, labels = random_logits(6, 4), torch.tensor([0, 3, 1, 1, -1, 0])
    targets = soft_targets(random_logits(6, 4, seed=1), 5.0)
    expected = -25 * (targets.probs * torch.log_softmax(logits / 5, -1)).sum(-1).mean()
    for loss in (
        distillation_loss(logits, targets),
        distillation_loss(logits, targets, labels),
        distillation_loss(logits, targets, labels, soft_weight=0.3, hard_weight=0.7),
        distillation_loss(logits, targets, where=torch.ones(6, dtype=torch.bool)),
    ):
        torch.testing.assert_close(loss.soft, expected)


def test_the_gradients_size_hardly_depends_on_a_high_temperature() -> None:
    logits = random_logits(20, 10).requires_grad_()
    teacher_logits = random_logits(20, 10, seed=1)
    sizes = [
        gradient_of(distillation_loss(logits, soft_targets(teacher_logits, temperature)).soft, logits).norm()
        for temperature in (10.0, 20.0, 40.0)
    ]
    assert max(sizes) / min(sizes) < 1.1


def test_the_total_is_the_weighted_sum_of_its_terms() -> None:
    logits, labels = random_logits(6, 4), torch.tensor([0, 3, 1, 1, -1, 0])
    targets = soft_targets(random_logits(6, 4, seed=1), 5.0)
    loss = distillation_loss(logits, targets, labels, soft_weight=0.7, hard_weight=0.2)
    torch.testing.assert_close(loss.total, 0.7 * loss.soft + 0.2 * loss.hard)


def test_a_term_of_weight_zero_is_not_computed_and_reads_zero() -> None:
    logits, labels = random_logits(2, 4), torch.tensor([0, 3])
    not_computable = SoftTargets(torch.full((2, 4), math.nan), 5.0)
    hard_only = distillation_loss(logits, not_computable, labels, soft_weight=0.0, hard_weight=2.0)
    torch.testing.assert_close(hard_only.total, 2 * F.cross_entropy(logits, labels))
    assert hard_only.soft.item() == 0
    soft_only = distillation_loss(logits, soft_targets(logits, 5.0), torch.tensor([0, 99]))
    assert soft_only.hard.item() == 0


def test_leading_dimensions_are_all_examples() -> None:
    student, teacher = random_logits(2, 3, 4), random_logits(2, 3, 4, seed=1)
    labels = torch.tensor([[0, -1, 2], [3, 3, -1]])
    where = torch.tensor([[True, True, False], [True, True, True]])
    loss = distillation_loss(student, soft_targets(teacher, 2.0), labels, hard_weight=0.5, where=where)
    flat = distillation_loss(
        student.reshape(6, 4),
        soft_targets(teacher.reshape(6, 4), 2.0),
        labels.flatten(),
        hard_weight=0.5,
        where=where.flatten(),
    )
    torch.testing.assert_close(loss, flat)


def test_one_example_needs_no_leading_dimension() -> None:
    student, targets, label = random_logits(4), soft_targets(random_logits(4, seed=1), 2.0), torch.tensor(3)
    found = distillation_loss(student, targets, label, hard_weight=0.5)
    expected = distillation_loss(
        student[None], SoftTargets(targets.probs[None], 2.0), label[None], hard_weight=0.5
    )
    torch.testing.assert_close(found, expected)


def test_the_parts_of_a_batch_add_up_when_given_the_whole_batchs_counts() -> None:
    logits = random_logits(6, 4).requires_grad_()
    labels = torch.tensor([0, -1, 1, -1, -1, 2])
    targets = soft_targets(random_logits(6, 4, seed=1), 2.0)
    whole = distillation_loss(logits, targets, labels, hard_weight=0.5)
    parts = [
        distillation_loss(logits[part], targets[part], labels[part], hard_weight=0.5, num_soft=6, num_hard=3)
        for part in (slice(0, 1), slice(1, 2), slice(2, 6))  # one labelled, one not, and the rest
    ]
    for index in range(3):
        torch.testing.assert_close(torch.stack([part[index] for part in parts]).sum(), whole[index])
    torch.testing.assert_close(
        gradient_of(torch.stack([part.total for part in parts]).sum(), logits), gradient_of(whole.total, logits)
    )


def test_a_whole_batch_of_one_label_or_none_divides_by_one() -> None:
    logits, labels = random_logits(2, 4), torch.tensor([3, -1])
    targets = soft_targets(logits, 2.0)
    expected = distillation_loss(logits, targets, labels, hard_weight=1.0).hard
    given_one = distillation_loss(logits, targets, labels, hard_weight=1.0, num_hard=1).hard
    torch.testing.assert_close(given_one, expected)
    assert distillation_loss(logits, targets, torch.tensor([-1, -1]), hard_weight=1.0, num_hard=0).hard == 0


# Gradients, precision, devices


@pytest.mark.parametrize("where", [None, torch.tensor([True, False, True])], ids=["no mask", "mask"])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_gradients_agree_with_finite_differences(temperature: float, where: Tensor | None) -> None:
    logits = random_logits(3, 4).requires_grad_()
    teacher_logits = random_logits(3, 4, seed=1)
    targets, labels = soft_targets(teacher_logits, temperature), torch.tensor([2, 1, -1])

    def total(student_logits: Tensor) -> Tensor:
        return distillation_loss(student_logits, targets, labels, hard_weight=0.5, where=where).total

    assert torch.autograd.gradcheck(total, logits)
    assert torch.autograd.gradgradcheck(total, logits)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, labels, where=where), logits)
    assert torch.autograd.gradcheck(lambda z: logit_matching_loss(z, teacher_logits), logits)
    assert torch.autograd.gradcheck(lambda z: soft_targets(z, temperature).probs, logits)


def test_no_gradient_flows_into_the_teacher() -> None:
    student, teacher = random_logits(3, 4).requires_grad_(), random_logits(3, 4, seed=1).requires_grad_()
    loss = distillation_loss(student, soft_targets(teacher, 2.0)).total + logit_matching_loss(student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits = (5 * random_logits(64, 10)).to(dtype).requires_grad_()
    teacher_logits = (5 * random_logits(64, 10, seed=1)).to(dtype)
    labels = torch.arange(64) % 10
    half = distillation_loss(logits, soft_targets(teacher_logits, 20.0), labels, hard_weight=0.5)
    single = distillation_loss(logits.float(), soft_targets(teacher_logits.float(), 20.0), labels, hard_weight=0.5)
    assert all(term.dtype == torch.float32 for term in half)
    assert [term.item() for term in half] == [term.item() for term in single]
    assert gradient_of(half.total, logits).dtype == dtype
    assert logit_matching_loss(logits, teacher_logits).dtype == torch.float32
    matching = distillation_loss(logits, LogitTargets(teacher_logits))
    assert matching.total.item() == distillation_loss(logits.float(), LogitTargets(teacher_logits.float())).total
    mixed = mix_in_labels(soft_targets(teacher_logits, 20.0).to(dtype), labels, 0.1).probs
    torch.testing.assert_close(mixed.sum(-1), torch.ones(64), rtol=0, atol=1e-3 if dtype == torch.half else 1e-2)
    assert mixed.dtype == torch.float32
    geometric = ensemble_soft_targets(teacher_logits.reshape(2, 32, 10), 2.0, mean="geometric")
    assert geometric.probs.dtype == torch.float32


@pytest.mark.parametrize("temperature", [4.0, 20.0, 100.0])
def test_float32_and_stored_half_precision_logits_cost_a_bounded_error_of_the_gradient(temperature: float) -> None:
    student, teacher = 3 * random_logits(256, 10), 3 * random_logits(256, 10, seed=1)

    def gradient(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        logits = student_logits.clone().requires_grad_()
        return gradient_of(distillation_loss(logits, soft_targets(teacher_logits, temperature)).soft, logits)

    exact = gradient(student, teacher)
    in_float32 = gradient(student.float(), teacher.float())
    from_half = gradient(student.float(), teacher.half())
    assert (in_float32 - exact).norm() < 1e-7 * max(temperature, 4) * exact.norm()
    assert (from_half - exact).norm() < 1e-3 * exact.norm()


def test_probabilities_kept_in_half_precision_are_used_in_the_students() -> None:
    logits, targets = random_logits(8, 10, dtype=torch.float32), soft_targets(random_logits(8, 10, seed=1), 4.0)
    half = distillation_loss(logits, targets.to(torch.float16))
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, distillation_loss(logits, targets).total, rtol=1e-3, atol=0)


def test_under_autocast_the_loss_is_float32() -> None:
    network, inputs = torch.nn.Linear(8, 10), random_logits(4, 8, dtype=torch.float32)
    targets = soft_targets(random_logits(4, 10, seed=1, dtype=torch.float32), 20.0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(inputs)
        inside = distillation_loss(logits, targets, torch.arange(4), hard_weight=0.5)
    outside = distillation_loss(logits, targets, torch.arange(4), hard_weight=0.5)
    assert logits.dtype == torch.bfloat16
    assert [term.item() for term in inside] == [term.item() for term in outside]
    assert inside.total.dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
def test_losses_stay_on_their_device(device: str) -> None:
    logits = random_logits(4, 10, dtype=torch.float32)
    labels, where = torch.tensor([1, -1, 3, 4]), torch.tensor([True, True, False, True])
    targets = soft_targets(logits.flip(0), 3.0)
    there = distillation_loss(
        logits.to(device), targets.to(device), labels.to(device), hard_weight=1.0, where=where.to(device)
    )
    here = distillation_loss(logits, targets, labels, hard_weight=1.0, where=where)
    assert there.total.device.type == device
    torch.testing.assert_close(DistillationLoss(*(term.cpu() for term in there)), here)


def test_a_stack_of_students_is_mapped_over() -> None:
    logits, labels = random_logits(3, 8, 5), torch.randint(-1, 5, (3, 8), generator=torch.Generator())
    probs = random_logits(3, 8, 5, seed=1).softmax(-1)

    def total(student_logits: Tensor, student_labels: Tensor, teacher_probs: Tensor) -> Tensor:
        targets = SoftTargets(teacher_probs, 3.0)
        return distillation_loss(student_logits, targets, student_labels, hard_weight=0.5).total

    mapped = torch.func.vmap(torch.func.grad(total))(logits, labels, probs)
    one_by_one = [torch.func.grad(total)(*student) for student in zip(logits, labels, probs, strict=True)]
    torch.testing.assert_close(mapped, torch.stack(one_by_one))


# SoftTargets


def test_soft_targets_keep_their_temperature_when_indexed_moved_and_pickled() -> None:
    targets = soft_targets(random_logits(6, 4), 2.5)
    some = targets[torch.tensor([4, 0])]
    assert torch.equal(some.probs, targets.probs[[4, 0]])
    for pair in (
        some,
        targets[2:],
        targets.to("cpu"),
        targets.to(torch.float16),
        pickle.loads(pickle.dumps(targets)),
    ):
        assert pair.temperature == 2.5
    with pytest.raises(AttributeError):
        targets.temperature = 1.0  # type: ignore[misc]


def test_an_ensemble_of_one_is_its_member() -> None:
    logits = random_logits(1, 6, 4)
    for mean in ("arithmetic", "geometric"):
        torch.testing.assert_close(
            ensemble_soft_targets(logits, 3.0, mean=mean).probs, soft_targets(logits[0], 3.0).probs
        )


def test_each_member_has_a_veto_in_the_geometric_mean_alone() -> None:
    member_logits = torch.tensor([[50.0, 0.0, 0.0], [-50.0, 0.0, 0.0]])
    assert ensemble_soft_targets(member_logits, 1.0).probs[0] > 0.49
    assert ensemble_soft_targets(member_logits, 1.0, mean="geometric").probs[0] < 0.34


# What is refused


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_finite_and_positive_is_refused(temperature: float) -> None:
    logits = torch.zeros(2, 3, 4)
    for call in (
        lambda: SoftTargets(logits.softmax(-1), temperature),
        lambda: soft_targets(logits, temperature),
        lambda: ensemble_soft_targets(logits, temperature),
        lambda: ensemble_soft_targets(logits, temperature, mean="geometric"),
    ):
        with pytest.raises(UsageError, match=r"^[^\n]*temperature must be a finite number above 0, not [^\n]*$"):
            call()


@pytest.mark.parametrize("name", ["soft_weight", "hard_weight"])
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused(name: str, weight: float) -> None:
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(UsageError, match=rf"^distillation_loss: {name} must be [^\n]*$"):
        distillation_loss(logits, soft_targets(logits, 2.0), labels, **{name: weight})


LOGITS, LABELS = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
TARGETS = soft_targets(LOGITS, 2.0)
WRONG_CALLS = {
    "both weights zero": (lambda: distillation_loss(LOGITS, TARGETS, LABELS, soft_weight=0), "are both 0"),
    "no targets": (lambda: distillation_loss(LOGITS, None), "needs soft targets"),
    "no labels": (lambda: distillation_loss(LOGITS, TARGETS, hard_weight=1), "needs labels"),
    "other classes": (
        lambda: distillation_loss(torch.zeros(2, 4), TARGETS),
        r"expected the student's shape \(2, 4\), found \(2, 3\)",
    ),
    "other examples": (lambda: distillation_loss(torch.zeros(5, 3), TARGETS), r"\(5, 3\), found \(2, 3\)"),
    "more labels": (
        lambda: distillation_loss(LOGITS, TARGETS, torch.zeros(3, dtype=torch.long), hard_weight=1),
        r"integer labels of shape \(2,\) \(-1 means none\), found torch.int64 of shape \(3,\)",
    ),
    "labels as floats": (lambda: cross_entropy(LOGITS, torch.zeros(2)), "found torch.float32"),
    "labels as a mask": (lambda: cross_entropy(LOGITS, torch.zeros(2, dtype=torch.bool)), "found torch.bool"),
    "labels one-hot": (lambda: cross_entropy(LOGITS, torch.zeros(2, 3, dtype=torch.long)), r"shape \(2, 3\)"),
    "a mask of numbers": (
        lambda: cross_entropy(LOGITS, LABELS, where=torch.ones(2)),
        "bool mask `where`.*found torch.float32",
    ),
    "a mask of classes": (
        lambda: distillation_loss(LOGITS, TARGETS, where=torch.ones(2, 3, dtype=torch.bool)),
        r"bool mask `where` of shape \(2,\)",
    ),
    "labels for logits": (lambda: soft_targets(LABELS, 2.0), "expected floating-point values"),
    "labels for targets": (lambda: SoftTargets(LABELS, 2.0), "expected floating-point values"),
    "a scalar": (lambda: cross_entropy(torch.tensor(1.0), LABELS), r"\(..., classes\)"),
    "no class": (lambda: distillation_loss(torch.zeros(2, 0), TARGETS), r"\(..., classes\)"),
    "an unknown mean": (lambda: ensemble_soft_targets(LOGITS, 2.0, mean="median"), "not 'median'"),
    "no member": (lambda: ensemble_soft_targets(torch.zeros(0, 2, 3), 2.0), r"found \(0, 2, 3\)"),
    "no members": (lambda: ensemble_soft_targets(torch.zeros(3), 2.0), r"found \(3,\)"),
    "a mean unknown at infinity too": (
        lambda: targets_of_members(LOGITS, math.inf, mean="median"),
        "not 'median'",
    ),
    "no member at infinity": (lambda: targets_of_members(torch.zeros(0, 2, 3), math.inf), r"found \(0, 2, 3\)"),
    "no members at infinity": (lambda: targets_of_members(torch.zeros(3), math.inf), r"found \(3,\)"),
    "labels as members": (lambda: targets_of_members(LABELS[None], math.inf), "expected floating-point values"),
    "labels as logits to match": (lambda: LogitTargets(LABELS), "LogitTargets: logits: expected floating-point"),
    "other logits to match": (
        lambda: distillation_loss(LOGITS, LogitTargets(torch.zeros(2, 4))),
        r"targets: expected the student's shape \(2, 3\), found \(2, 4\)",
    ),
    "more than the labels": (lambda: mix_in_labels(TARGETS, LABELS, 1.1), "label_weight is 1.1, expected from 0"),
    "less than nothing": (lambda: mix_in_labels(TARGETS, LABELS, -0.1), "label_weight is -0.1"),
    "no number": (lambda: mix_in_labels(TARGETS, LABELS, math.nan), "label_weight is nan"),
    "labels of others": (lambda: mix_in_labels(TARGETS, LABELS[:1], 0.5), r"shape \(2,\).*found.*\(1,\)"),
    "one-hot labels": (
        lambda: mix_in_labels(TARGETS, LOGITS - 1, 0.5),
        "sum to 1, or to 0 for none; found others",
    ),
    "logits as labels": (lambda: cross_entropy(LOGITS, LOGITS - 1), "sum to 1, or to 0 for none; found others"),
    "other logits": (lambda: logit_matching_loss(LOGITS, torch.zeros(2, 4)), r"\(2, 3\), found \(2, 4\)"),
}


@pytest.mark.parametrize("what", WRONG_CALLS)
def test_a_wrong_call_is_refused_in_one_line(what: str) -> None:
    call, message = WRONG_CALLS[what]
    with pytest.raises(UsageError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_a_label_beyond_the_classes_does_not_pass_in_silence() -> None:
    for label in (3, -2, -100):
        with pytest.raises(IndexError, match="out of bounds"):
            cross_entropy(LOGITS, torch.tensor([0, label]))
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            mix_in_labels(TARGETS, torch.tensor([0, label]), 0.5)
