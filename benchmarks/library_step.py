"""A step of `fit` through a network of timm or transformers over a bare loop over the library's own module."""

import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.timing import Seconds, Way, in_turns, one_epoch, ratio, write_result
from instar.data import as_dataset
from instar.networks import build_network
from instar.networks.libraries.of_timm import timm
from instar.networks.libraries.of_transformers import transformers

BATCH_SIZE = 64
SIDE, CLASSES = 32, 10
LEARNING_RATE = 0.01
GOAL = "<= 1.05"
STEPS = {
    "timm:test_resnet": 16,
    "timm:resnet18": 3,
    "timm:test_vit:32": 24,
    "transformers": 24,
}  # under a second each
ROUNDS = 15
MEAN, SD = 0.5, 0.5  # of all of them but resnet18
VIT = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 4,
}


def main() -> None:
    """Measure, and write `results/bench-library-step.json`."""
    torch.set_num_threads(1)
    seconds: Seconds = {}
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            ours, bare = _ways(name, Path(folder))
            measured = in_turns({"fit": ours, "bare": bare}, rounds=ROUNDS, clock=time.process_time)
            ratios[name] = ratio(measured["fit"], measured["bare"], goal=GOAL)
            seconds |= {f"{name}: {way}": values for way, values in measured.items()}
    config = {
        "data": f"pixels whose brightness is the class, 3x{SIDE}x{SIDE} float32, {CLASSES} classes, in memory",
        "batch_size": BATCH_SIZE,
        "steps": STEPS,
        "optimiser": "SGD, momentum 0.9, fused",
        "threads": 1,
        "precision": "float32, channels last for convolutions in both",
        "ratio": "processor time of fit over that of the bare loop; both normalise the pixels of each batch",
    }
    write_result("library-step", config=config, seconds=seconds, ratios=ratios)


def _ways(name: str, folder: Path) -> tuple[Way, Way]:
    number = STEPS[name] * BATCH_SIZE
    labels = torch.arange(number) % CLASSES
    noise = torch.rand(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    # Brightness shows the class: a fit that learns nothing is looked at once more, which is no part of a step.
    inputs = 0.1 * noise + 0.9 * labels[:, None, None, None] / CLASSES
    data = as_dataset((inputs, labels))
    spec, bare = _networks(name, folder)
    network = build_network(spec, input_shape=(3, SIDE, SIDE), num_classes=CLASSES, seed=0)
    if any(isinstance(module, nn.Conv2d) for module in bare.modules()):
        bare.to(memory_format=torch.channels_last)

    def loop() -> None:
        optimiser = torch.optim.SGD(bare.parameters(), lr=LEARNING_RATE, momentum=0.9, fused=True)
        bare.train()
        for rows in torch.split(torch.randperm(number), BATCH_SIZE):
            output = bare((inputs.index_select(0, rows) - MEAN) / SD)
            loss = F.cross_entropy(getattr(output, "logits", output), labels[rows])
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return one_epoch(network, data, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE), loop


def _networks(name: str, folder: Path) -> tuple[str, nn.Module]:
    """The name, and the module as its library makes it."""
    if name != "transformers":
        _, architecture, *size = name.split(":")
        options = {"img_size": SIDE} if size else {}
        return name, timm().create_model(architecture, num_classes=CLASSES, **options)
    package = transformers()
    config = package.ViTConfig(**VIT, num_labels=CLASSES)
    config.save_pretrained(folder)
    return f"transformers:{folder}", package.ViTForImageClassification(config)


if __name__ == "__main__":
    main()
