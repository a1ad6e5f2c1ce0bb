"""A curve of training that must not move: part-labelled digits, soft targets and labels, SGD.

`digits-sgd.json` comes from `bare_curve`, a loop in float64 that knows nothing of `fit`, its optimiser, its
schedule, its loss or its sums; only the order of the examples is the library's. To write it anew, after a change
of that order: `PYTHONPATH=tests python tests/golden/test_golden_curve.py`. SGD and not Adam, which would hide a
loss of another scale.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instar.data import shuffled
from instar.distillation import StoredLogits
from instar.training import fit
from small_fits import digits, part_labelled

GOLDEN = Path(__file__).with_name("digits-sgd.json")
TRAIN, VALIDATION = part_labelled(digits(300)), digits(200, start=300)
EPOCHS, BATCH, RATE, WARMUP, DECAY, T, SOFT, HARD = 8, 32, 0.1, 1.5, 1e-3, 3.0, 0.8, 0.4


def weights() -> list[Tensor]:
    """Of 64 inputs, 16 hidden units, 10 classes, in float64: no random numbers of any library."""
    shapes = [(16, 64), (16,), (10, 16), (10,)]
    return [
        (1 + 7.1 * torch.arange(math.prod(shape)).double()).sin().view(shape) / 8 * (len(shape) - 1)
        for shape in shapes
    ]


def teacher_logits() -> Tensor:
    """(examples, 10) in the order of the data: the right class, and an opinion on the wrong ones."""
    classes = digits(300).labels(TRAIN.ids)
    return 5 * torch.eye(10)[classes] + (torch.arange(3000.0) * 1.3).cos().view(300, 10)


def bare_curve() -> list[dict[str, float]]:
    """What the equations say, epoch by epoch."""
    w1, b1, w2, b2 = parameters = [value.requires_grad_() for value in weights()]
    x, y, z = TRAIN.gather(TRAIN.ids, 0).flatten(1).double(), TRAIN.labels(TRAIN.ids), teacher_logits().double()
    velocity, curve = [torch.zeros_like(value) for value in parameters], []
    for epoch in range(EPOCHS):
        row_of = {int(key): row for row, key in enumerate(TRAIN.ids)}
        order = [row_of[int(key)] for key in shuffled(TRAIN.ids, seed=11, epoch=epoch)]
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        total = soft_total = hard_total = wrong = 0.0
        for number, rows in enumerate(batches):
            logits = (x[rows] @ w1.T + b1).relu() @ w2.T + b2
            p = (z[rows] / T).exp() / (z[rows] / T).exp().sum(1, keepdim=True)
            soft = -(T**2) * (p * (logits / T).log_softmax(1)).sum() / len(rows)
            has_label = y[rows] >= 0
            picked = logits.log_softmax(1)[has_label, y[rows][has_label]]
            hard = -picked.sum() / max(len(picked), 1)
            loss = SOFT * soft + HARD * hard
            time = epoch + number / len(batches)
            cosine = 0.5 * (1 + math.cos(math.pi * (time - WARMUP) / (EPOCHS - WARMUP)))
            rate = RATE * (time / WARMUP if time < WARMUP else cosine)
            for value, v, g in zip(parameters, velocity, torch.autograd.grad(loss, parameters), strict=True):
                v.mul_(0.9).add_(g + (DECAY * value.detach() if value.ndim > 1 else 0))
                value.data -= rate * v
            total, soft_total = total + loss.item() * len(rows), soft_total + soft.item() * len(rows)
            hard_total, wrong = hard_total - picked.sum().item(), wrong + mistakes(logits, y[rows])
        tested, truth = VALIDATION.gather(VALIDATION.ids, 0).flatten(1).double(), VALIDATION.labels(VALIDATION.ids)
        logits = (tested @ w1.T + b1).relu() @ w2.T + b2
        curve.append(
            {
                "epoch": epoch + 1,
                "step": (epoch + 1) * len(batches),
                "train_loss": total / 300,
                "train_errors": wrong,
                "train_soft_loss": soft_total / 300,
                "train_hard_loss": hard_total / int((y >= 0).sum()),
                "validation_errors": mistakes(logits, truth),
                "validation_nll": -logits.log_softmax(1)[range(200), truth].mean().item(),
            }
        )
    return curve


def mistakes(logits: Tensor, labels: Tensor) -> int:
    return int(((logits.argmax(1) != labels) & (labels >= 0)).sum())


def test_the_curve_is_that_of_the_equations() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    for parameter, value in zip(network.parameters(), weights(), strict=True):
        parameter.data.copy_(value)
    result = fit(
        network,
        TRAIN,
        epochs=EPOCHS,
        targets=StoredLogits(TRAIN.ids, teacher_logits(), temperature=T),
        soft_weight=SOFT,
        hard_weight=HARD,
        validation=VALIDATION,
        batch_size=BATCH,
        learning_rate=RATE,
        warmup_epochs=WARMUP,
        weight_decay=DECAY,
        seed=11,
    )
    golden = json.loads(GOLDEN.read_text())
    assert len(result.metrics) == len(golden) == EPOCHS
    for ours, expected in zip(result.metrics, golden, strict=True):
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            # Other machines round otherwise, and an example on the border may fall to the other side.
            tolerance = {"abs": 1} if key.endswith("errors") else {"rel": 1e-4}
            assert ours[key] == pytest.approx(value, **tolerance), (key, ours)
    assert golden[-1]["validation_errors"] < golden[0]["validation_errors"] / 2


def test_the_golden_file_is_what_the_bare_loop_gives() -> None:
    for ours, expected in zip(bare_curve(), json.loads(GOLDEN.read_text()), strict=True):
        assert ours == pytest.approx(expected, rel=1e-9)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(bare_curve(), indent=1) + "\n")
