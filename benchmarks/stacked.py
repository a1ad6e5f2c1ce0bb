"""K equal networks fitted one by one over the same fitted together."""

import torch
from torch import nn

from benchmarks.timing import Seconds, Way, in_turns, ratio, write_result
from instar.data import as_dataset
from instar.distillation import StoredLogits
from instar.networks import build_network
from instar.stacked import fit_stacked
from instar.training import fit

K = 10
BATCH_SIZE = 128
STEPS = {"mlp:30x2": 96, "mlp:128x2": 32, "mlp:300x2": 16, "mlp:800x2": 4}  # a tenth to half a second of each way
ROUNDS = 15


def main() -> None:
    """Measure, and write `results/bench-stacked.json`."""
    seconds: Seconds = {}
    ratios = {}
    for name, kind in [(name, "labels") for name in STEPS] + [("mlp:30x2", "soft targets and labels")]:
        case = f"{name}, {kind}"
        alone, together = _ways(name, has_targets=kind != "labels")
        measured = in_turns({"one by one": alone, "stacked": together}, rounds=ROUNDS)
        ratios[case] = ratio(measured["one by one"], measured["stacked"])
        seconds |= {f"{case}: {way}": values for way, values in measured.items()}
    config = {
        "data": "random, 1x28x28 float32, 10 classes, in memory",
        "K": K,
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "optimiser": "SGD, momentum 0.9, fused, float32",
        "temperatures": "1 to K, one for each member; soft_weight 1, hard_weight 0.5",
        "ratio": f"seconds of {K} networks fitted one by one over seconds of the same fitted together",
    }
    write_result("stacked", config=config, seconds=seconds, ratios=ratios)


def _ways(name: str, *, has_targets: bool) -> tuple[Way, Way]:
    generator = torch.Generator().manual_seed(0)
    num_examples = STEPS[name] * BATCH_SIZE
    inputs = torch.rand(num_examples, 1, 28, 28, generator=generator)
    data = as_dataset((inputs, torch.arange(num_examples) % 10))
    logits = torch.randn(num_examples, 10, generator=generator)
    options = {"epochs": 1, "batch_size": BATCH_SIZE, "learning_rate": 0.01, "schedule": "constant"}
    targets = [StoredLogits(data.ids, logits, temperature=1.0 + k) for k in range(K)] if has_targets else None
    if has_targets:
        options |= {"soft_weight": 1.0, "hard_weight": 0.5}
    networks, same = (_networks(name) for _ in range(2))

    def alone() -> None:
        for k, network in enumerate(networks):
            fit(network, data, seed=k, targets=targets and targets[k], precision="float32", **options)

    def together() -> object:
        return fit_stacked(same, data, seeds=range(K), targets=targets, **options)

    return alone, together


def _networks(name: str) -> list[nn.Module]:
    return [build_network(name, input_shape=(1, 28, 28), num_classes=10, seed=k) for k in range(K)]


if __name__ == "__main__":
    main()
