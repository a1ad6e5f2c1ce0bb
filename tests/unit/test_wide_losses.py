"""The losses over a vocabulary: in pieces of rows, fused with the head, with sparse targets."""

import copy
import dataclasses
import math
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from instar import row_pieces
from instar.errors import UsageError
from instar.linear_loss import HeadTargets, _rows_at_once, linear_distillation_loss
from instar.losses import (
    DistillationLoss,
    LogitTargets,
    SoftTargets,
    distillation_loss,
    ensemble_soft_targets,
    soft_targets,
)
from instar.sparse_targets import SparseTargets

N, WIDTH, CLASSES = 9, 6, 50
LABELS = torch.tensor([3, -1, 0, 49, -1, 2, 7, 7, 8])
WHERE = torch.tensor([True, True, False, True, False, True, True, True, True])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Switches between pieces of two rows and whole tensors."""
    monkeypatch.setattr(row_pieces, "PIECE", 2 * CLASSES)
    return lambda wanted: monkeypatch.setattr(row_pieces, "WIDE", 0 if wanted else 2**60)


def dense_targets(kind: str, temperature: float) -> SoftTargets | LogitTargets:
    teacher = normal(3, N, CLASSES, seed=1)
    if kind == "logits":
        return LogitTargets(teacher[0])
    if kind == "probs":
        return SoftTargets(torch.softmax(teacher[0] / temperature, -1), temperature)
    if kind == "ensemble":
        return ensemble_soft_targets(teacher, temperature)
    return soft_targets(teacher[0], temperature)


@pytest.mark.parametrize("where", [None, WHERE], ids=["no mask", "mask"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["teacher", "probs", "ensemble", "logits"])
def test_pieces_give_the_loss_and_the_gradients_of_whole_tensors(
    kind: str, temperature: float, where: Tensor | None, in_pieces: Callable[[bool], None]
) -> None:
    found = []
    for wanted in (False, True):
        in_pieces(wanted)
        logits = normal(N, CLASSES)
        if where is not None:
            logits[~where] = math.nan  # a masked row counts nowhere, whatever it holds
        logits.requires_grad_()
        loss = distillation_loss(
            logits, dense_targets(kind, temperature), LABELS, soft_weight=0.7, hard_weight=0.3, where=where
        )
        gradients = [torch.autograd.grad(term, logits, retain_graph=True)[0] for term in loss]
        found.append((torch.stack([term.detach() for term in loss]), torch.stack(gradients)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("where", [None, WHERE], ids=["no mask", "mask"])
def test_hidden_states_with_a_head_are_targets_of_given_logits_too(where: Tensor | None) -> None:
    head, bias = normal(CLASSES, WIDTH, seed=2), normal(CLASSES, seed=3)
    targets = HeadTargets(normal(N, WIDTH, seed=1), head, 2.0, bias)
    dense = soft_targets(targets.hidden @ head.T + bias, 2.0)
    found = []
    for one in (targets, dense):
        logits = normal(N, CLASSES).requires_grad_()
        loss = distillation_loss(logits, one, LABELS, hard_weight=0.3, where=where)
        found.append((loss.total, torch.autograd.grad(loss.total, logits)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-13)
    with pytest.raises(UsageError, match=r"expected hidden states and a head that give \(9, 49\)"):
        distillation_loss(normal(N, CLASSES)[:, 1:], targets)


@pytest.mark.parametrize("likeliest", [0, 40])
def test_the_tail_of_a_student_that_gives_it_less_than_float32_holds(likeliest: int) -> None:
    logits = torch.zeros(1, CLASSES, requires_grad=True)
    with torch.no_grad():
        logits[0, likeliest] = 1e4
    top = SparseTargets(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3]]), torch.tensor([0.1]), 1.0)
    whole = top.cross_entropies(torch.log_softmax(logits.double(), -1)).sum()
    expected = torch.autograd.grad(whole, logits)[0]
    values, gradient = top.both_(torch.log_softmax(logits.detach(), -1))
    torch.testing.assert_close(values.double(), whole.detach()[None], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("num_soft", "num_hard"), [(20, 30), (None, None)])
def test_pieces_divide_as_whole_tensors_do(
    num_soft: int | None, num_hard: int | None, in_pieces: Callable[[bool], None]
) -> None:
    losses = []
    for wanted in (False, True):
        in_pieces(wanted)
        counts = {"num_soft": num_soft, "num_hard": num_hard}
        losses.append(
            distillation_loss(normal(N, CLASSES), dense_targets("teacher", 2.0), LABELS, hard_weight=1.0, **counts)
        )
    torch.testing.assert_close(tuple(losses[0]), tuple(losses[1]))


def test_a_mask_that_hides_everything_gives_no_loss_and_no_gradient(in_pieces: Callable[[bool], None]) -> None:
    in_pieces(True)
    logits, hidden = normal(N, CLASSES).requires_grad_(), normal(N, WIDTH).requires_grad_()
    weight, nowhere = normal(CLASSES, WIDTH).requires_grad_(), torch.zeros(N, dtype=torch.bool)
    targets = dense_targets("teacher", 2.0)
    for loss in (
        distillation_loss(logits, targets, LABELS, hard_weight=1.0, where=nowhere),
        linear_distillation_loss(hidden, weight, targets, LABELS, hard_weight=1.0, where=nowhere),
    ):
        assert [float(term.detach()) for term in loss] == [0, 0, 0]
        loss.total.backward()
    assert not any(tensor.grad.any() for tensor in (logits, hidden, weight) if tensor.grad is not None)


def test_pieces_are_as_exact_as_whole_tensors_in_float32(in_pieces: Callable[[bool], None]) -> None:
    logits, teacher = normal(8, 40_000), normal(8, 40_000, seed=1)
    labels = torch.tensor([5, -1, 2, 3, -1, 2, 7, 39_999])

    def gradient(dtype: torch.dtype, wanted: bool) -> Tensor:
        in_pieces(wanted)
        student = logits.to(dtype).requires_grad_()
        loss = distillation_loss(student, soft_targets(teacher.to(dtype), 2.0), labels, hard_weight=0.5)
        return torch.autograd.grad(loss.total, student)[0].double()

    exact = gradient(torch.float64, False)
    whole, pieces = (
        float((gradient(torch.float32, wanted) - exact).norm() / exact.norm()) for wanted in (False, True)
    )
    assert pieces < 2 * whole < 1e-5


def test_nothing_is_laid_out_beside_the_gradient() -> None:
    """Peak memory of a process: the logits' bytes once, and little else."""
    script = """
import ctypes, torch
from instar.losses import distillation_loss, soft_targets
torch.set_num_threads(1)

def status(key):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(key))) * 1024

def run(rows):
    logits, teacher = torch.randn(rows, 65_536, requires_grad=True), torch.randn(rows, 65_536)
    labels = torch.zeros(rows, dtype=torch.long)
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    start = status("VmRSS")
    distillation_loss(logits, soft_targets(teacher, 2.0), labels, hard_weight=0.5).total.backward()
    return (status("VmHWM") - start) / (logits.numel() * 4)

run(16)
print(run(256))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.4, "five times the logits on whole tensors; 1.1 in pieces, and what torch keeps"


def test_second_derivatives_are_refused(in_pieces: Callable[[bool], None]) -> None:
    in_pieces(True)
    logits = normal(N, CLASSES).requires_grad_()
    loss = distillation_loss(logits, dense_targets("teacher", 2.0))
    with pytest.raises(UsageError, match=r"no second derivatives.*create_graph"):
        torch.autograd.grad(loss.total, logits, create_graph=True)
    fused = linear_distillation_loss(
        logits, normal(4, CLASSES), None, LABELS.clamp(0, 3), soft_weight=0, hard_weight=1
    )
    with pytest.raises(UsageError, match="no second derivatives"):
        torch.autograd.grad(fused.total, logits, create_graph=True)


def test_logits_that_were_changed_after_the_targets_were_made_are_refused(
    in_pieces: Callable[[bool], None],
) -> None:
    in_pieces(True)
    teacher = normal(N, CLASSES, seed=1)
    targets = soft_targets(teacher, 2.0)
    assert targets.shape == targets[:].shape == teacher.shape
    teacher.zero_()
    with pytest.raises(UsageError, match="changed in place"):
        distillation_loss(normal(N, CLASSES), targets)


def test_under_torch_func_the_loss_is_computed_on_whole_tensors(in_pieces: Callable[[bool], None]) -> None:
    targets, logits = SoftTargets(torch.softmax(normal(N, CLASSES, seed=1), -1), 1.0), normal(3, N, CLASSES)
    in_pieces(False)
    expected = torch.stack([distillation_loss(one, targets).total for one in logits])
    in_pieces(True)
    found = torch.func.vmap(lambda one: distillation_loss(one, targets).total)(logits)
    torch.testing.assert_close(found, expected)


def all_targets(temperature: float) -> dict[str, HeadTargets | SparseTargets | SoftTargets | LogitTargets]:
    states, weight, bias = normal(N, 4, seed=2), normal(CLASSES, 4, seed=3), normal(CLASSES, seed=4)
    teacher = states @ weight.T + bias
    generator = torch.Generator().manual_seed(0)
    sparse = SparseTargets.of_logits(teacher, temperature, top_k=7, num_draws=5, generator=generator)
    read = {
        reading: SparseTargets(sparse.classes, sparse.probs, sparse.rest, temperature, sparse.drawn, reading)
        for reading in ("tail", "drawn", "even")
    }
    return {
        "head": HeadTargets(states, weight, temperature, bias),
        "dense": soft_targets(teacher, temperature),
        "logits": LogitTargets(teacher),
        **read,
    }


@pytest.mark.parametrize("where", [None, WHERE], ids=["no mask", "mask"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["head", "dense", "logits", "tail", "drawn", "even"])
def test_the_fused_head_is_the_loss_of_its_logits(kind: str, temperature: float, where: Tensor | None) -> None:
    hidden, weight, bias = normal(N, WIDTH), normal(CLASSES, WIDTH, seed=5), normal(CLASSES, seed=6)
    inputs = [value.requires_grad_() for value in (hidden, weight, bias)]
    targets = all_targets(temperature)
    dense = targets["dense"] if kind == "head" else targets[kind]
    assert not isinstance(dense, HeadTargets)

    def fused(hidden: Tensor, weight: Tensor, bias: Tensor) -> DistillationLoss:
        return linear_distillation_loss(
            hidden,
            weight,
            targets[kind],
            LABELS,
            bias=bias,
            soft_weight=0.7,
            hard_weight=0.3,
            where=where,
            rows_at_once=4,
        )

    expected = distillation_loss(
        hidden @ weight.T + bias, dense, LABELS, soft_weight=0.7, hard_weight=0.3, where=where
    )
    found = fused(*inputs)
    torch.testing.assert_close(tuple(found), tuple(expected))
    gradients = [torch.autograd.grad(loss.total, inputs) for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
    assert not found.soft.requires_grad
    assert not found.hard.requires_grad
    assert torch.autograd.gradcheck(lambda *values: fused(*values).total, inputs)


def written_out(row: list[float], targets: SparseTargets, number: int) -> float:
    """T^2 H(p, q_T) of one example, from the definition, in Python's floats."""
    T, classes = targets.temperature, targets.classes[number].tolist()
    total = math.fsum(math.exp(z / T) for z in row)
    q = [math.exp(z / T) / total for z in row]
    known = math.fsum(p * math.log(q[k]) for k, p in zip(classes, targets.probs[number].tolist(), strict=True))
    rest, others = float(targets.rest[number]), [q[k] for k in range(len(q)) if k not in classes]
    if targets.reading == "tail":
        told = rest * math.log(math.fsum(others))
    elif targets.reading == "even":
        told = rest / len(others) * math.fsum(map(math.log, others))
    else:
        assert targets.drawn is not None
        draws = targets.drawn[number].tolist()
        told = rest / len(draws) * math.fsum(math.log(q[k]) for k in draws)
    return -(T**2) * (known + told)


@pytest.mark.parametrize("reading", ["tail", "drawn", "even"])
def test_sparse_targets_follow_their_definition(reading: str) -> None:
    targets, logits = all_targets(2.0)[reading], normal(N, CLASSES)
    assert isinstance(targets, SparseTargets)
    expected = sum(written_out(row, targets, number) for number, row in enumerate(logits.tolist())) / N
    assert distillation_loss(logits, targets).soft.item() == pytest.approx(expected, rel=1e-12)


def test_the_teacher_is_a_minimum_of_the_tail_and_of_the_draws_in_the_mean_but_not_of_the_even_rest() -> None:
    teacher = normal(1, CLASSES, seed=8)

    def gradient(reading: str, num_draws: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        targets = SparseTargets.of_logits(
            teacher, 2.0, top_k=5, num_draws=num_draws, reading=reading, generator=generator
        )
        student = teacher.clone().requires_grad_()
        return torch.autograd.grad(distillation_loss(student, targets).soft, student)[0]

    assert gradient("tail").abs().max() < 1e-12
    assert gradient("even").abs().max() > 0.01
    assert gradient("drawn", 10).abs().max() > 0.01
    assert gradient("drawn", 2_000_000).abs().max() < 0.002


def test_half_precision_is_summed_in_float32() -> None:
    hidden, weight = normal(64, 16), normal(3000, 16, seed=5) / 16
    targets = soft_targets(normal(64, 3000, seed=6), 2.0)

    def gradients(dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = [value.bfloat16().to(dtype).requires_grad_() for value in (hidden, weight)]
        loss = linear_distillation_loss(*inputs, SoftTargets(targets.probs.to(dtype), 2.0)).total
        assert loss.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
        return torch.autograd.grad(loss, inputs)

    for found, exact in zip(gradients(torch.bfloat16), gradients(torch.float64), strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - exact).norm() / exact.norm() < 0.01


def test_what_is_changed_in_place_before_the_backward_pass_is_an_error(in_pieces: Callable[[bool], None]) -> None:
    in_pieces(True)
    teacher, labels = normal(N, CLASSES, seed=1), LABELS.clone()
    probs = torch.softmax(teacher, -1)
    for targets, changed in (
        (soft_targets(teacher, 2.0), teacher),
        (SoftTargets(probs, 2.0), probs),
        (LogitTargets(teacher), teacher),
        (SoftTargets(torch.softmax(normal(N, CLASSES), -1), 2.0), labels),
    ):
        loss = distillation_loss(normal(N, CLASSES).requires_grad_(), targets, labels, hard_weight=1.0)
        changed.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.total.backward()


def test_labels_that_are_no_class_are_refused_as_on_whole_tensors(in_pieces: Callable[[bool], None]) -> None:
    for wanted in (False, True):
        in_pieces(wanted)
        for wrong in (-100, CLASSES):
            labels = LABELS.clone()
            labels[1] = wrong
            with pytest.raises(IndexError, match="out of bounds"):
                distillation_loss(normal(N, CLASSES), None, labels, soft_weight=0.0, hard_weight=1.0)


def test_the_graph_of_the_fused_head_can_be_gone_through_again() -> None:
    inputs = [normal(N, WIDTH).requires_grad_(), normal(CLASSES, WIDTH, seed=5).requires_grad_()]
    loss = linear_distillation_loss(*inputs, all_targets(2.0)["head"], LABELS, hard_weight=0.3).total
    loss.backward(retain_graph=True)
    first = [value.grad.clone() for value in inputs if value.grad is not None]
    for value in inputs:
        assert value.grad is not None
        value.grad.zero_()
    for times in (1, 2, 3):
        (3 * loss).backward(retain_graph=True)
        for value, one in zip(inputs, first, strict=True):
            torch.testing.assert_close(value.grad, 3 * times * one)


def test_a_student_that_gives_the_others_nothing_is_still_told_of_them() -> None:
    teacher, student = torch.zeros(1, CLASSES), torch.full((1, CLASSES), -100.0)
    teacher[0, 0], student[0, 0] = 0.1, 100.0
    targets = SparseTargets.of_logits(teacher, 1.0, top_k=1)
    student.requires_grad_()
    loss = distillation_loss(student, targets).soft
    rest = float(targets.rest)
    assert loss.item() == pytest.approx(rest * (200 - math.log(CLASSES - 1)), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient[0, 1:], torch.full((CLASSES - 1,), -rest / (CLASSES - 1)))
    linear = linear_distillation_loss(student, torch.eye(CLASSES), targets).soft
    assert linear.item() == pytest.approx(loss.item(), rel=1e-5)


def test_targets_of_one_example_and_of_half_precision_beside_a_head_of_float32() -> None:
    one = all_targets(2.0)["tail"]
    assert isinstance(one, SparseTargets)
    logits = normal(N, CLASSES)
    several = [distillation_loss(logits[number], one[number]).soft for number in range(N)]
    torch.testing.assert_close(torch.stack(several).mean(), distillation_loss(logits, one).soft)
    hidden, weight = normal(N, WIDTH).bfloat16(), (normal(CLASSES, WIDTH, seed=5) / 16).float().requires_grad_()
    loss = linear_distillation_loss(hidden, weight, all_targets(2.0)["dense"])  # as in a loop with autocast
    loss.total.backward()
    exact = distillation_loss(hidden.double() @ weight.detach().double().T, all_targets(2.0)["dense"]).soft  # type: ignore[arg-type]
    assert loss.soft.item() == pytest.approx(exact.item(), rel=1e-3)
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_soft_targets_of_many_classes_are_like_those_of_few(in_pieces: Callable[[bool], None]) -> None:
    in_pieces(True)
    targets = soft_targets(normal(N, CLASSES), 2.0)
    expected = torch.softmax(normal(N, CLASSES) / 2, -1)
    copies = (copy.deepcopy(targets), pickle.loads(pickle.dumps(targets)), dataclasses.replace(targets))
    for other in (targets, *copies, targets.to(torch.float32)):
        torch.testing.assert_close(other.probs, expected, check_dtype=False, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(targets[..., :5].probs, expected[..., :5])  # type: ignore[index]
    assert dataclasses.replace(targets, temperature=3.0).temperature == 3


WRONG = {
    "hidden of another width": ({"hidden": normal(N, 5)}, r"hidden \(\.\.\., width\) and weight"),
    "a bias of other classes": ({"bias": normal(3)}, r"expected a bias of shape \(50,\), found \(3,\)"),
    "labels out of range": (
        {"labels": LABELS + 1, "hard_weight": 1.0},
        "labels: expected from -1 .* to 49, found 0 to 50",
    ),
    "no rows at once": ({"rows_at_once": -1}, "rows_at_once is -1, expected at least 1"),
    "a head without classes": ({"weight": normal(0, WIDTH)}, "classes"),
    "no labels": ({"labels": None, "hard_weight": 1.0}, "needs labels"),
    "no targets": ({"targets": None}, "needs soft targets"),
    "no weight": ({"soft_weight": 0.0}, "both 0"),
    "a mask of another shape": ({"where": WHERE[:3]}, "expected a bool mask"),
    "a teacher of other examples": (
        {"targets": HeadTargets(normal(3, 4), normal(CLASSES, 4), 2.0)},
        "student's shape",
    ),
    "a teacher of other classes": ({"targets": HeadTargets(normal(N, 4), normal(3, 4), 2.0)}, "student's shape"),
}


@pytest.mark.parametrize(("given", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong_calls_of_the_fused_head_are_one_clear_error(given: dict[str, object], expected: str) -> None:
    call = {
        "hidden": normal(N, WIDTH),
        "weight": normal(CLASSES, WIDTH),
        "targets": all_targets(2.0)["head"],
        "labels": LABELS,
    }
    call |= given
    with pytest.raises(UsageError, match=expected):
        linear_distillation_loss(
            call.pop("hidden"), call.pop("weight"), call.pop("targets"), call.pop("labels"), **call
        )  # type: ignore[arg-type]


def test_wrong_sparse_targets_are_one_clear_error() -> None:
    classes, probs, rest = torch.zeros(2, 3, dtype=torch.long), torch.rand(2, 3), torch.rand(2)
    with pytest.raises(UsageError, match="'drawn' needs draws"):
        SparseTargets(classes, probs, rest, 2.0, reading="drawn")
    with pytest.raises(UsageError, match="reading is one of tail, drawn, even"):
        SparseTargets(classes, probs, rest, 2.0, reading="ghost")
    with pytest.raises(UsageError, match=r"rest of shape \(2,\)"):
        SparseTargets(classes, probs, torch.rand(3), 2.0)
    with pytest.raises(UsageError, match="finite number above 0"):
        SparseTargets(classes, probs, rest, math.inf)
    with pytest.raises(UsageError, match="top_k is 5, expected from 1 to 4"):
        SparseTargets.of_logits(torch.rand(2, 5), 2.0, top_k=5)
    with pytest.raises(UsageError, match=r"targets\.classes: expected from 0 to 1, .* found 2 to 2"):
        distillation_loss(torch.rand(2, 2), SparseTargets(classes + 2, probs, rest, 2.0))
    with pytest.raises(UsageError, match="leading shape"):
        distillation_loss(torch.rand(3, 5), SparseTargets(classes, probs, rest, 2.0))


def test_logits_of_ten_thousand_leave_the_others_without_mass() -> None:
    teacher = 1e4 * torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(0))
    logits = (1e4 * torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(1))).requires_grad_()
    for reading in ("tail", "drawn", "even"):
        targets = SparseTargets.of_logits(teacher, 2.0, top_k=3, num_draws=4, reading=reading)
        loss = distillation_loss(logits, targets).total
        assert loss.isfinite()
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_torch_func_is_refused_in_one_line() -> None:
    hidden, weight = torch.randn(4, WIDTH), torch.randn(CLASSES, WIDTH)
    targets = HeadTargets(torch.randn(4, 3), torch.randn(CLASSES, 3), 2.0)
    with pytest.raises(UsageError, match=r"torch\.func cannot go through it; use distillation_loss on the logits"):
        torch.func.grad(lambda states: linear_distillation_loss(states, weight, targets).total)(hidden)


def test_pieces_are_small_enough_to_be_used_again_where_that_costs_few_rows() -> None:
    sizes = {(131_072, 256): 46, (50_000, 256): 64, (131_072, 1024): 128, (262_144, 256): 64, (3_000_000, 256): 7}
    assert {size: _rows_at_once(*size) for size in sizes} == sizes
