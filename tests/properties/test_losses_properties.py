"""What holds of the losses for any logits."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from instar.losses import (
    SoftTargets,
    cross_entropy,
    distillation_loss,
    ensemble_soft_targets,
    logit_matching_loss,
    mix_in_labels,
    soft_targets,
)

quick = settings(deadline=None, max_examples=60)
temperatures = st.floats(0.1, 100.0)
weights = st.floats(0.01, 10.0)
close = {"rtol": 1e-7, "atol": 1e-7}


@st.composite
def batches(draw: st.DrawFn, largest: float = 30.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student's and teacher's logits, (examples, classes), labels with -1 among them, and a mask."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 7)))
    logits = arrays("float64", shape, elements=st.floats(-largest, largest))
    labels = arrays("int64", shape[0], elements=st.integers(-1, shape[1] - 1))
    where = arrays("bool", shape[0])
    student, teacher, label, mask = (torch.from_numpy(draw(each)) for each in (logits, logits, labels, where))
    return student, teacher, label, mask


@quick
@given(batches(), temperatures)
def test_soft_targets_are_distributions_in_the_order_of_the_logits(batch: tuple[Tensor, ...], T: float) -> None:
    logits = batch[0]
    probs = soft_targets(logits, T).probs
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs), dtype=torch.float64))
    assert (probs.gather(-1, logits.argsort(-1)).diff(dim=-1) >= 0).all()
    torch.testing.assert_close(soft_targets(logits + 7, T).probs, probs, **close)


@quick
@given(batches(), temperatures, st.floats(1.0, 10.0))
def test_a_higher_temperature_never_lowers_the_entropy(batch: tuple[Tensor, ...], T: float, factor: float) -> None:
    cold, hot = (torch.special.entr(soft_targets(batch[0], t).probs).sum(-1) for t in (T, factor * T))
    assert (hot >= cold - 1e-9).all()


@quick
@given(batches(), temperatures)
def test_the_soft_loss_is_least_for_the_teachers_own_logits(batch: tuple[Tensor, ...], T: float) -> None:
    student, teacher, *_ = batch
    targets = soft_targets(teacher, T)
    least, found = distillation_loss(teacher, targets).soft, distillation_loss(student, targets).soft
    assert found >= least - 1e-9 * (1 + least)
    entropy = torch.special.entr(targets.probs).sum(-1).mean()
    torch.testing.assert_close(least, T**2 * entropy, **close)


@quick
@given(batches(), temperatures, weights, weights)
def test_the_loss_depends_on_neither_a_shift_of_the_logits_nor_the_order_of_examples_and_classes(
    batch: tuple[Tensor, ...], T: float, soft_weight: float, hard_weight: float
) -> None:
    student, teacher, labels, where = batch
    both = {"soft_weight": soft_weight, "hard_weight": hard_weight}
    expected = distillation_loss(student, soft_targets(teacher, T), labels, where=where, **both)
    shifted = distillation_loss(student + 5, soft_targets(teacher - 3, T), labels, where=where, **both)
    torch.testing.assert_close(shifted, expected, **close)
    reordered = distillation_loss(
        student.flip(0), soft_targets(teacher.flip(0), T), labels.flip(0), where=where.flip(0), **both
    )
    torch.testing.assert_close(reordered, expected, **close)
    renamed = torch.where(labels == -1, -1, student.shape[1] - 1 - labels)
    other_classes = distillation_loss(
        student.flip(1), soft_targets(teacher.flip(1), T), renamed, where=where, **both
    )
    torch.testing.assert_close(other_classes, expected, **close)


@quick
@given(batches(), temperatures)
def test_a_mask_does_what_leaving_the_examples_out_does(batch: tuple[Tensor, ...], T: float) -> None:
    student, teacher, labels, where = batch
    targets = soft_targets(teacher, T)
    masked = distillation_loss(student, targets, labels, hard_weight=1.0, where=where)
    left = distillation_loss(student[where], targets[where], labels[where], hard_weight=1.0)
    torch.testing.assert_close(masked, left, **close)


@quick
@given(batches())
def test_an_unlabelled_example_is_left_out_of_the_cross_entropy(batch: tuple[Tensor, ...]) -> None:
    logits, _, labels, _ = batch
    has_label = labels != -1
    torch.testing.assert_close(
        cross_entropy(logits, labels), cross_entropy(logits[has_label], labels[has_label]), **close
    )
    assert cross_entropy(logits, labels) >= 0


@quick
@given(batches(largest=1e4), st.floats(0.5, 1000.0), st.sampled_from([torch.float32, torch.float64]))
def test_losses_and_gradients_are_finite_up_to_ten_thousand(
    batch: tuple[Tensor, ...], T: float, dtype: torch.dtype
) -> None:
    student, teacher, labels, where = batch
    student = student.to(dtype).requires_grad_()
    loss = distillation_loss(student, soft_targets(teacher.to(dtype), T), labels, hard_weight=1.0, where=where)
    (gradient,) = torch.autograd.grad(loss.total, student)
    assert all(term.isfinite() for term in loss)
    assert gradient.isfinite().all()
    assert not gradient[~where].any()


@quick
@given(batches(), temperatures, st.sampled_from(["arithmetic", "geometric"]))
def test_ensembles_know_no_order_and_agree_with_members_who_agree(
    batch: tuple[Tensor, ...], T: float, mean: str
) -> None:
    members = torch.stack(batch[:2])
    found = ensemble_soft_targets(members, T, mean=mean).probs
    torch.testing.assert_close(ensemble_soft_targets(members.flip(0), T, mean=mean).probs, found)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(found), dtype=torch.float64))
    twice = ensemble_soft_targets(torch.stack([batch[0], batch[0]]), T, mean=mean).probs
    torch.testing.assert_close(twice, soft_targets(batch[0], T).probs)


@quick
@given(batches())
def test_logit_matching_is_a_squared_distance_of_centred_logits(batch: tuple[Tensor, ...]) -> None:
    student, teacher, *_ = batch
    found = logit_matching_loss(student, teacher)
    assert found >= 0
    torch.testing.assert_close(logit_matching_loss(teacher, student), found)
    torch.testing.assert_close(logit_matching_loss(student + 3, teacher - 4), found, **close)
    torch.testing.assert_close(logit_matching_loss(2 * student, 2 * teacher), 4 * found)
    assert logit_matching_loss(student, student) == 0


@quick
@given(batches(), temperatures, st.floats(0.0, 1.0))
def test_labels_in_the_targets_leave_distributions_and_the_unlabelled(
    batch: tuple[Tensor, ...], T: float, label_weight: float
) -> None:
    _, teacher, labels, _ = batch
    targets = soft_targets(teacher, T)
    mixed = mix_in_labels(targets, labels, label_weight)
    assert mixed.temperature == T
    assert (mixed.probs >= 0).all()
    torch.testing.assert_close(mixed.probs.sum(-1), torch.ones(len(labels), dtype=torch.float64))
    has_label = labels != -1
    assert torch.equal(mixed.probs[~has_label], targets.probs[~has_label])
    of_labels = [
        probs.gather(-1, labels.clamp(min=0)[:, None])[has_label] for probs in (mixed.probs, targets.probs)
    ]
    assert (of_labels[0] >= of_labels[1] - 1e-12).all()
    # The loss is linear in the targets: what the labels add is their cross-entropy at T.
    at_the_labels = mix_in_labels(targets, labels, 1.0)
    found, plain, pure = (distillation_loss(teacher, each).soft for each in (mixed, targets, at_the_labels))
    torch.testing.assert_close(found, (1 - label_weight) * plain + label_weight * pure, **close)


@quick
@given(batches(), temperatures, weights)
def test_doubling_the_weights_doubles_the_total_alone(batch: tuple[Tensor, ...], T: float, weight: float) -> None:
    student, teacher, labels, _ = batch
    targets = SoftTargets(teacher.softmax(-1), T)
    once, twice = (
        distillation_loss(student, targets, labels, soft_weight=factor * weight, hard_weight=factor)
        for factor in (1, 2)
    )
    torch.testing.assert_close(twice.total, 2 * once.total)
    assert (twice.soft, twice.hard) == (once.soft, once.hard)
