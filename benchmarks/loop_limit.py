"""Examples/s through the training loop over the limit that the matrix products alone would set."""

from itertools import pairwise

import torch

from benchmarks.step import BATCH_SIZE, LEARNING_RATE, STEPS
from benchmarks.timing import Seconds, Way, figure, has_bfloat16, in_turns, one_epoch, ratio, write_result
from instar.data import as_dataset
from instar.networks import build_network

ROUNDS = 15
WIDTHS = {"mlp:800x2": (784, 800, 800, 10), "mlp:1200x2": (784, 1200, 1200, 10)}


def main() -> None:
    """Measure, and write `results/bench-loop-limit.json`."""
    seconds: Seconds = {}
    ratios, figures = {}, {}
    for name, widths in WIDTHS.items():
        for precision in ["float32", "bfloat16"] if has_bfloat16() else ["float32"]:
            case = f"{name}, {precision}"
            ways = {"fit": _fit(name, precision), "products": products(widths, precision, STEPS[name])}
            measured = in_turns(ways, rounds=ROUNDS)
            ratios[case] = ratio(measured["products"], measured["fit"])
            for way, values in measured.items():
                seconds[f"{case}: {way}"] = values
                rates = [STEPS[name] * BATCH_SIZE / value for value in values]
                figures[f"{case}: {way} alone" if way == "products" else f"{case}: {way}"] = figure(
                    rates, unit="examples/s"
                )
    config = {
        "data": "random, 1x28x28 float32, 10 classes, in memory",
        "batch_size": BATCH_SIZE,
        "steps": {name: STEPS[name] for name in WIDTHS},
        "ratio": "examples/s of fit over examples/s of the products of its forward and backward pass alone",
    }
    write_result("loop-limit", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _fit(name: str, precision: str) -> Way:
    num_examples = STEPS[name] * BATCH_SIZE
    inputs = torch.rand(num_examples, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    data = as_dataset((inputs, torch.arange(num_examples) % 10))
    network = build_network(name, input_shape=(1, 28, 28), num_classes=10, seed=0)
    return one_epoch(network, data, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, precision=precision)


def products(widths: tuple[int, ...], precision: str, steps: int, *, batch_size: int = BATCH_SIZE) -> Way:
    """Of each layer: outputs, gradient of the weights and, but for the first, gradient of the inputs."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    layers = [
        (
            torch.randn(batch_size, width_in).to(kind),
            torch.randn(width_out, width_in).to(kind),
            torch.randn(batch_size, width_out).to(kind),
        )
        for width_in, width_out in pairwise(widths)
    ]

    def compute() -> None:
        for _ in range(steps):
            for inputs, weights, _ in layers:
                torch.mm(inputs, weights.t())
            for number, (inputs, weights, gradient) in enumerate(layers):
                torch.mm(gradient.t(), inputs)
                if number > 0:
                    torch.mm(gradient, weights)

    return compute


if __name__ == "__main__":
    main()
