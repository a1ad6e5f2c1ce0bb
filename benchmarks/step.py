"""A training step of `fit` over the same step of a bare PyTorch loop."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Seconds, Way, has_bfloat16, in_turns, ratio, write_result
from instar.data import as_dataset
from instar.distillation import StoredLogits
from instar.networks import build_network
from instar.training import fit

BATCH_SIZE = 128
TEMPERATURE = 4.0
LEARNING_RATE = 0.01
GOAL = "<= 1.05"
STEPS = {"mlp:30x2": 256, "mlp:800x2": 48, "mlp:1200x2": 24}  # about a third of a second each
ROUNDS = 21


def main() -> None:
    """Measure, and write `results/bench-step.json`."""
    cases = [(name, "labels", "float32") for name in STEPS] + [("mlp:800x2", "soft targets", "float32")]
    if has_bfloat16():
        cases.append(("mlp:800x2", "labels", "bfloat16"))
    seconds: Seconds = {}
    ratios = {}
    for name, kind, precision in cases:
        case = f"{name}, {kind}, {precision}"
        ours, bare = _ways(name, kind, precision)
        measured = in_turns({"fit": ours, "bare": bare}, rounds=ROUNDS)
        ratios[case] = ratio(measured["fit"], measured["bare"], goal=None if name == "mlp:30x2" else GOAL)
        seconds |= {f"{case}: {way}": values for way, values in measured.items()}
    config = {
        "data": "random, 1x28x28 float32, 10 classes, in memory",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "optimiser": "SGD, momentum 0.9, fused",
        "temperature": TEMPERATURE,
        "ratio": "seconds of fit over seconds of the bare loop",
    }
    write_result("step", config=config, seconds=seconds, ratios=ratios)


def _ways(name: str, kind: str, precision: str) -> tuple[Way, Way]:
    generator = torch.Generator().manual_seed(0)
    num_examples = STEPS[name] * BATCH_SIZE
    inputs = torch.rand(num_examples, 1, 28, 28, generator=generator)
    labels = torch.arange(num_examples) % 10
    data = as_dataset((inputs, labels))
    logits = torch.randn(num_examples, 10, generator=generator)
    targets = StoredLogits(data.ids, logits, temperature=TEMPERATURE) if kind == "soft targets" else None
    probs = torch.softmax(logits / TEMPERATURE, 1) if kind == "soft targets" else None
    network, same = (build_network(name, input_shape=(1, 28, 28), num_classes=10, seed=0) for _ in range(2))

    def ours() -> object:
        return fit(
            network,
            data,
            epochs=1,
            targets=targets,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            schedule="constant",
            precision=precision,
        )

    def bare() -> None:
        bare_epoch(same, inputs, labels, probs, bfloat16=precision == "bfloat16")

    return ours, bare


def bare_epoch(
    network: nn.Module, inputs: Tensor, labels: Tensor, probs: Tensor | None, *, bfloat16: bool
) -> None:
    """What somebody would write who wants this one training and nothing else."""
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
    network.train()
    for rows in torch.split(torch.randperm(len(inputs)), BATCH_SIZE):
        batch = inputs.index_select(0, rows)
        if bfloat16:
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch)
            logits = logits.float()
        else:
            logits = network(batch)
        if probs is None:
            loss = F.cross_entropy(logits, labels[rows])
        else:
            log_probs = torch.log_softmax(logits / TEMPERATURE, 1)
            loss = -(TEMPERATURE**2) * (log_probs * probs[rows]).sum(1).mean()
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
