"""EfficientNet-lite0, fine-tuned on twenty classes of CIFAR-100, teaches two small networks.

pip install efficientnet-lite-pytorch 'instar[timm]'
python examples/pictures.py efficientnet-lite0-57934424.pth

The teacher sees the pictures at 64 x 64 pixels and in its own normalisation, the students as they are and in
theirs. First five losses beside each other, into a residual network; then `kd` alone into a network of timm, from
the same teacher and from two. Scaled to ten minutes of one core: 49 pictures of each class, five epochs.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

import instar
from instar.recipes.efficientnet import lite0
from instar.recipes.publishing import publish

CLASSES = 20  # the first of CIFAR-100, in the order of the alphabet
SIZE = 64
WEIGHTS = "LITE0_WEIGHTS"  # in the environment, for the processes that build the teacher
RUNS = Path("runs/pictures")


def main() -> None:
    """Run the studies, print their rows and their differences."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("weights", type=Path, help="of EfficientNet-lite0, trained on ImageNet")
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--publish", action="store_true")
    given = arguments.parse_args()
    os.environ[WEIGHTS] = str(given.weights.resolve())

    names = instar.load_data("cifar100").class_names[:CLASSES]
    data = {"name": "cifar100", "classes": names, "fraction": 0.13, "validation_fraction": 0.25}
    common: dict[str, Any] = {"data": data, "temperature": 4, "tuning_seeds": 1, "seeds": given.seeds}
    tuned = {"network": "python:examples.pictures:tuned_lite0", "learning_rate": 0.02}
    losses = instar.distill_study(
        **common,
        teacher={**tuned, "batch_size": 32, "epochs": 5},
        student={"network": "resnet:8", "batch_size": 32, "epochs": given.epochs},
        loss=["kd", "dkd", "dist", "standardised", "hints"],
        run_dir=RUNS / "losses",
    )
    show("teachers-lite0-losses", losses, given.publish)
    student = {"network": "timm:test_resnet", "batch_size": 32, "epochs": given.epochs}
    one = f"{RUNS}/losses:teacher"
    two = {"network": f"{one},resnet:8", "learning_rate": 0.1, "batch_size": 32, "epochs": 15}
    for name, teacher in {"teachers-lite0-timm": {"network": one}, "teachers-lite0-and-another": two}.items():
        result = instar.distill_study(**common, teacher=teacher, student=student, run_dir=RUNS / name)
        show(name, result, given.publish)


def tuned_lite0(num_classes: int, seed: int) -> nn.Module:
    """EfficientNet-lite0 with ImageNet's weights, a new head, and pictures of 64 x 64 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = lite0(num_classes)
    weights = torch.load(os.environ[WEIGHTS], weights_only=True)
    network.load_state_dict({name: value for name, value in weights.items() if "_fc" not in name}, strict=False)
    network.input_size = SIZE  # type: ignore[assignment]
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1  # with its own 0.01 the statistics are those of ImageNet still after 150 steps
    return network


def show(name: str, result: dict[str, Any], published: bool) -> None:
    """Print a result, and publish it."""
    print(name)
    for row in result["rows"]:
        print(f"  {row['name']}: {row['mean']:.1f} errors of {result['num_test']:,}")
    for row in result["differences"]:
        interval = f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}], n = {row['n']}"
        print(f"  {row['name']} - {row['minus']}: {interval}")
    if published:
        publish(result, name)


if __name__ == "__main__":
    main()
