"""A training step of `fit` over the same step of a bare PyTorch loop."""

import time
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.bare_losses import bare_attention, bare_features, bare_losses
from benchmarks.timing import Seconds, Way, has_bfloat16, in_turns, ratio, write_result
from instar.data import as_dataset
from instar.distillation import Hint, HintLoss, StoredLogits
from instar.networks import build_network
from instar.training import fit

BATCH_SIZE = 128
TEMPERATURE = 4.0
LEARNING_RATE = 0.01
GOAL = "<= 1.05"
STEPS = {"mlp:30x2": 256, "mlp:800x2": 48, "mlp:1200x2": 24}  # about a third of a second each
ROUNDS = 21
LOSSES = ("dkd", "dist", "standardised")
LOSS_GOAL = "<= 1.1"
LAYERS = "convnet:4x8"  # the last maps of a convnet:4x32 teach its own; its steps are short
LAYER_STEPS = 24


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
        measured = in_turns({"fit": ours, "bare": bare}, rounds=ROUNDS, clock=time.process_time)
        ratios[case] = ratio(measured["fit"], measured["bare"], goal=None if name == "mlp:30x2" else GOAL)
        seconds |= {f"{case}: {way}": values for way, values in measured.items()}
    pairs = {f"mlp:800x2, {loss}, float32": _ways("mlp:800x2", loss, "float32") for loss in LOSSES}
    pairs |= {f"{LAYERS}, {kind}, float32": _layer_ways(kind) for kind in ("features", "attention")}
    for case, (ours, bare) in pairs.items():
        measured = in_turns({"fit": ours, "bare": bare}, rounds=ROUNDS, clock=time.process_time)
        ratios[case] = ratio(measured["fit"], measured["bare"], goal=LOSS_GOAL)
        seconds |= {f"{case}: {way}": values for way, values in measured.items()}
    config = {
        "data": "two rows of pixels that are brighter say the class, 1x28x28 float32, 10 classes, in memory",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "optimiser": "SGD, momentum 0.9, fused",
        "temperature": TEMPERATURE,
        "layers": "the last maps of convnet:4x32, features with a 1x1 projector; the teacher runs in each step",
        "ratio": "processor time of fit over that of the bare loop: what else a machine does counts less",
    }
    write_result("step", config=config, seconds=seconds, ratios=ratios)


def _ways(name: str, kind: str, precision: str) -> tuple[Way, Way]:
    inputs, labels, logits = _examples(STEPS[name] * BATCH_SIZE)
    data = as_dataset((inputs, labels))
    targets = StoredLogits(data.ids, logits, temperature=TEMPERATURE) if kind != "labels" else None
    probs = torch.softmax(logits / TEMPERATURE, 1) if kind != "labels" else None
    loss = "kd" if kind in ("labels", "soft targets") else kind
    network, same = (build_network(name, input_shape=(1, 28, 28), num_classes=10, seed=0) for _ in range(2))

    def ours() -> object:
        return fit(
            network,
            data,
            epochs=1,
            targets=targets,
            soft_loss=loss,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            schedule="constant",
            precision=precision,
        )

    def bare() -> None:
        bare_epoch(same, inputs, labels, probs, bfloat16=precision == "bfloat16", loss=loss)

    return ours, bare


def _examples(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of which two rows are brighter by class, labels, and logits of a teacher that is mostly right.

    A fit that learns nothing is looked at once more, by a pass over its data, which is no part of a step.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(number) % 10
    inputs = 0.5 * torch.rand(number, 1, 28, 28, generator=generator)
    inputs.view(number, 14, 56)[torch.arange(number), labels] += 0.5
    return inputs, labels, torch.randn(number, 10, generator=generator) + 4 * F.one_hot(labels, 10)


def _layer_ways(kind: str) -> tuple[Way, Way]:
    """A student of a teacher's layer, beside its soft targets."""
    inputs, labels, logits = _examples(LAYER_STEPS * BATCH_SIZE)
    data = as_dataset((inputs, labels))
    targets, probs = (
        StoredLogits(data.ids, logits, temperature=TEMPERATURE),
        torch.softmax(logits / TEMPERATURE, 1),
    )
    about = {"input_shape": (1, 28, 28), "num_classes": 10, "seed": 0}
    teacher = build_network("convnet:4x32", **about).eval()
    network, same = (build_network(LAYERS, **about) for _ in range(2))
    assert isinstance(teacher, nn.Sequential)
    assert isinstance(same, nn.Sequential)
    hints = HintLoss(teacher, network, [Hint("conv1", "conv1", kind)], data)
    projector = nn.Conv2d(8, 32, 1, bias=False) if kind == "features" else None

    def ours() -> object:
        options = {"batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE, "schedule": "constant"}
        return fit(network, data, epochs=1, targets=targets, auxiliary=hints, precision="float32", **options)

    def bare() -> None:
        bare_layer_epoch(teacher, same, projector, inputs, probs)

    return ours, bare


def bare_layer_epoch(
    teacher: nn.Sequential, network: nn.Sequential, projector: nn.Module | None, inputs: Tensor, probs: Tensor
) -> None:
    """A student of a teacher's first layer; without a projector by its attention."""
    parameters = chain(network.parameters(), projector.parameters() if projector else ())
    optimiser = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9, fused=True)
    network.train()
    for rows in torch.split(torch.randperm(len(inputs)), BATCH_SIZE):
        batch = inputs.index_select(0, rows)
        with torch.no_grad():
            theirs = teacher[0](batch)
            teacher[1:](theirs)
        ours = network[0](batch)
        log_probs = torch.log_softmax(network[1:](ours) / TEMPERATURE, 1)
        loss = -(TEMPERATURE**2) * (log_probs * probs[rows]).sum(1).mean()
        loss = loss + (
            bare_attention(ours, theirs) if projector is None else bare_features(ours, theirs, projector)
        )
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def bare_epoch(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    probs: Tensor | None,
    *,
    bfloat16: bool,
    loss: str = "kd",
) -> None:
    """What somebody would write who wants this one training and nothing else."""
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
    soft = bare_losses(TEMPERATURE)[loss]
    network.train()
    for rows in torch.split(torch.randperm(len(inputs)), BATCH_SIZE):
        batch = inputs.index_select(0, rows)
        if bfloat16:
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch)
            logits = logits.float()
        else:
            logits = network(batch)
        value = F.cross_entropy(logits, labels[rows]) if probs is None else soft(logits, probs[rows], labels[rows])
        torch.autograd.backward(value)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
