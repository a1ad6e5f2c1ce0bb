"""The networks of `distill.py`, trained by `instar.train` and `instar.distill`: the same numbers.

python examples/distill_with_instar.py

`instar distill` on the command line adds the search for learning rate and temperature on validation, an interval
for the difference, and a page.
"""

from distill import (
    BATCH_SIZE,
    EPOCHS,
    HARD_WEIGHT,
    LEARNING_RATE,
    SEEDS,
    TEMPERATURE,
    digits,
    order_of,
    perceptron,
)
from torch import Tensor

import instar
from instar.data import as_dataset


def main() -> None:
    """Train the networks, and print their test errors."""
    inputs, labels, test_inputs, test_labels = digits()
    data, test = as_dataset((inputs, labels)), as_dataset((test_inputs, test_labels))

    def in_order(ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        return data.ids[order_of(epoch, len(ids))]

    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "sampler": in_order}
    teacher = instar.train(perceptron(300, seed=0), data, **options).network
    loss = {"temperature": TEMPERATURE, "hard_weight": HARD_WEIGHT}
    networks = {
        "teacher": [teacher],
        "students alone": [instar.train(perceptron(8, seed), data, **options).network for seed in SEEDS],
        "students distilled": [
            instar.distill(teacher, perceptron(8, seed), data, **loss, **options).network for seed in SEEDS
        ],
    }
    for name, several in networks.items():
        errors = [instar.evaluate(network, test)["errors"] for network in several]
        print(f"{name}: {errors}, mean {sum(errors) / len(errors):.1f} errors on {len(test)} test images")


if __name__ == "__main__":
    main()
