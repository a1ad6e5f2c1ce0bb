"""Distillation in one sitting: a flat loop that needs only `distillation_loss` of instar.

python examples/distill.py

A perceptron with 300 hidden units learns the digits of scikit-learn; five with 8 learn from it, and five alone.
The test set is read at the end. `distill_with_instar.py` gives the same numbers with `instar.train` and
`instar.distill`.
"""

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from instar import distillation_loss, soft_targets

EPOCHS, BATCH_SIZE, LEARNING_RATE = 30, 64, 0.1
TEMPERATURE, HARD_WEIGHT = 4.0, 0.1  # of the soft targets; of the labels, below that of the soft targets (1)
SEEDS = range(1, 6)  # of the students: one seed says nothing


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of training and test, (n, 64) from 0 to 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    inputs, classes = torch.from_numpy(images).float() / 16, torch.from_numpy(labels)
    return inputs[:1300], classes[:1300], inputs[1300:], classes[1300:]


def perceptron(hidden: int, seed: int) -> nn.Sequential:
    """One hidden layer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def order_of(epoch: int, num_examples: int) -> Tensor:
    """The order of the examples in an epoch."""
    return torch.randperm(num_examples, generator=torch.Generator().manual_seed(epoch))


def fit(network: nn.Module, inputs: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> nn.Module:
    """Train on the labels, or on a teacher's soft targets as well."""
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
    with torch.no_grad():  # the teacher is asked once: each epoch sees the same images
        teacher_logits = None if teacher is None else teacher(inputs)
    for epoch in range(EPOCHS):
        batches = order_of(epoch, len(inputs)).split(BATCH_SIZE)
        for number, rows in enumerate(batches):
            progress = (epoch + number / len(batches)) / EPOCHS
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * progress))
            if teacher_logits is None:
                loss = distillation_loss(network(inputs[rows]), None, labels[rows], soft_weight=0, hard_weight=1)
            else:
                targets = soft_targets(teacher_logits[rows], TEMPERATURE)
                loss = distillation_loss(network(inputs[rows]), targets, labels[rows], hard_weight=HARD_WEIGHT)
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
    return network


def main() -> None:
    """Train the networks, and print their test errors."""
    inputs, labels, test_inputs, test_labels = digits()
    teacher = fit(perceptron(300, seed=0), inputs, labels)
    networks = {
        "teacher": [teacher],
        "students alone": [fit(perceptron(8, seed), inputs, labels) for seed in SEEDS],
        "students distilled": [fit(perceptron(8, seed), inputs, labels, teacher) for seed in SEEDS],
    }
    for name, several in networks.items():
        errors = [int((network(test_inputs).argmax(-1) != test_labels).sum()) for network in several]
        print(f"{name}: {errors}, mean {sum(errors) / len(errors):.1f} errors on {len(test_labels)} test images")


if __name__ == "__main__":
    main()
