"""A step of small networks in float32 over one in bfloat16: where `precision="auto"` should change over."""

import torch

from benchmarks.timing import Seconds, Way, in_turns, ratio, write_result
from instar.data import as_dataset
from instar.deploy import cost_of
from instar.networks import build_network
from instar.optimisation import decide_precision
from instar.training import fit

ROUNDS, STEPS = 7, 25
CASES = [  # network, shape of a picture, classes, batch size
    ("convnet:4x4", (1, 8, 8), 10, 32),
    ("convnet:4x8", (1, 28, 28), 10, 64),
    ("convnet:5x4", (3, 32, 32), 50, 64),
    ("convnet:8x4", (3, 32, 32), 100, 64),
    ("resnet:8x4", (1, 28, 28), 10, 64),
    ("convnet:8x8", (3, 32, 32), 100, 64),
    ("convnet:8x16", (3, 32, 32), 50, 64),
    ("resnet:8x16", (1, 20, 20), 1623, 32),
    ("resnet:8", (3, 32, 32), 50, 64),
    ("mlp:100x2", (1, 28, 28), 10, 128),
    ("mlp:200x2", (1, 28, 28), 10, 128),
    ("mlp:300x2", (1, 28, 28), 10, 128),
]


def main() -> None:
    """Measure, and write `results/bench-precision.json`."""
    torch.set_num_threads(1)
    seconds: Seconds = {}
    ratios = {}
    about = {}
    for name, shape, classes, batch_size in CASES:
        network = build_network(name, input_shape=shape, num_classes=classes, seed=0)
        ways = {kind: _fit(network, shape, classes, batch_size, kind) for kind in ("float32", "bfloat16")}
        measured = in_turns(ways, rounds=ROUNDS)
        case = f"{name} on {'x'.join(map(str, shape))}, auto: {decide_precision('auto', network, 'cpu')}"
        ratios[case] = ratio(measured["float32"], measured["bfloat16"])
        seconds |= {f"{case}: {kind}": values for kind, values in measured.items()}
        about[case] = {
            "batch_size": batch_size,
            "weights": sum(value.numel() for value in network.parameters()),
            "multiplications": cost_of(network, shape, repeats=3).multiplications,
        }
    config = {
        "steps": STEPS,
        "threads": 1,
        "cases": about,
        "ratio": "seconds of the steps of fit in float32 over those in bfloat16",
    }
    write_result("precision", config=config, seconds=seconds, ratios=ratios)


def _fit(network: torch.nn.Module, shape: tuple[int, ...], classes: int, batch_size: int, precision: str) -> Way:
    num_examples = STEPS * batch_size
    inputs = torch.rand(num_examples, *shape, generator=torch.Generator().manual_seed(0))
    names = [str(number) for number in range(classes)]  # more of them than examples, with Omniglot's
    data = as_dataset((inputs, torch.arange(num_examples) % classes), class_names=names)
    return lambda: fit(network, data, epochs=1, batch_size=batch_size, learning_rate=0.01, precision=precision)


if __name__ == "__main__":
    main()
