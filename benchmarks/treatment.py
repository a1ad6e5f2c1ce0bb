"""An epoch of AnB, n layers frozen, over one of the part that trains, and over one of the whole network."""

import torch
from torch import nn

from benchmarks.step import BATCH_SIZE, LEARNING_RATE, bare_epoch
from benchmarks.timing import Seconds, has_bfloat16, in_turns, ratio, write_result
from instar.data import InMemoryDataset, as_dataset
from instar.evaluation import predict_logits
from instar.networks import build_network, cut, freeze_
from instar.training import fit

NETWORK, SHAPE, NUM_CLASSES = "convnet:8x16", (3, 32, 32), 50
STEPS = {
    2: 16,
    5: 96,
    7: 192,
}  # by cut: the deeper, the less there is to train, and the more shows of what is fixed
ROUNDS = 7
GOAL = "<= 1.1"


def main() -> None:
    """Measure, and write `results/bench-treatment.json`."""
    precision = "bfloat16" if has_bfloat16() else "float32"
    seconds: Seconds = {}
    ratios = {}
    for n in STEPS:
        measured = _epochs(n, precision)
        ratios[f"n = {n}, over the part that trains"] = ratio(measured["AnB"], measured["rest"], goal=GOAL)
        ratios[f"n = {n}, over a plain epoch"] = ratio(measured["AnB"], measured["plain"])
        seconds |= {f"n = {n}: {way}": values for way, values in measured.items()}
    config = {
        "network": NETWORK,
        "data": "random, 3x32x32 float32, 50 classes, in memory",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "precision": precision,
        "once": "what the frozen layers give of all examples, computed before the first epoch, does not count",
        "ratio": "seconds of fit with n layers frozen over seconds of a bare loop",
    }
    write_result("treatment", config=config, seconds=seconds, ratios=ratios)


def _epochs(n: int, precision: str) -> Seconds:
    inputs = torch.rand(STEPS[n] * BATCH_SIZE, *SHAPE, generator=torch.Generator().manual_seed(0))
    data = as_dataset((inputs, torch.arange(len(inputs)) % NUM_CLASSES))
    labels = data.labels(data.ids)
    plain, treated, bare = (_network() for _ in range(3))
    freeze_(treated, n)
    treated_parts, bare_parts = cut(treated, n, inputs[:2]), cut(bare, n, inputs[:2])
    features = predict_logits(treated_parts.prefix, data)
    cached = InMemoryDataset(features, labels, class_names=data.class_names, ids=data.ids)
    return in_turns(
        {
            "AnB": lambda: fit(
                treated_parts.rest,
                cached,
                epochs=1,
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                schedule="constant",
                precision=precision,
            ),
            "rest": lambda: bare_epoch(bare_parts.rest, features, labels, None, bfloat16=precision == "bfloat16"),
            "plain": lambda: bare_epoch(plain, inputs, labels, None, bfloat16=precision == "bfloat16"),
        },
        rounds=ROUNDS,
    )


def _network() -> nn.Module:
    network = build_network(NETWORK, input_shape=SHAPE, num_classes=NUM_CLASSES, seed=0)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
