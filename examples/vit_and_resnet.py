"""Which layers of a ViT and of a residual network of timm are worth keeping, and how transferable each is.

pip install 'instar[timm]'
python examples/vit_and_resnet.py

Both are trained on one half of CIFAR-100's classes. `advise` chooses the layers to keep for the other half, with
ten pictures of each class; `transfer` copies layers between halves of twenty classes. Scaled to fifteen minutes of
one core: timm's `test_vit`, to which pictures of twice their size give 16 patches, few pictures, few epochs.
"""

import argparse
from pathlib import Path
from typing import Any

import instar
from instar.recipes.publishing import publish

NETWORKS = {"vit": ("timm:test_vit:64", [2, 5]), "resnet": ("timm:test_resnet", [1, 3])}
"""Each network, and the numbers of layers that are copied."""


def main() -> None:
    """Run the studies, print the advice and the rows of transfer."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--publish", action="store_true")
    given = arguments.parse_args()
    names = instar.load_data("cifar100").class_names
    for short, (network, cuts) in NETWORKS.items():
        advice = instar.advise(
            network=network,
            source={"name": "cifar100", "classes": names[::2], "fraction": 0.2},
            data={"name": "cifar100", "classes": names[1::2]},
            examples=10,
            base={"epochs": 8, "learning_rate": 0.05},
            epochs=10,
            controls=True,
            seeds=given.seeds,
            run_dir=Path("runs/halves") / f"advise-{short}",
        )
        show(f"advise-{short}-cifar100-half", advice, given.publish)
        study = instar.transfer_study(
            network={"network": network, "batch_size": 32},
            data={"name": "cifar100", "fraction": 0.15},
            halves={"classes_per_half": 10},
            treatments=["BnB", "AnB", "AnB+"],
            cuts=cuts,
            targets=["B"],
            longer=False,
            epochs=8,
            learning_rate=0.05,
            splits=given.seeds,
            run_dir=Path("runs/halves") / f"transfer-{short}",
        )
        show(f"transfer-{short}-cifar100-half", study, given.publish)


def show(name: str, result: dict[str, Any], published: bool) -> None:
    """Print the rows of a result, and publish it."""
    print(name)
    for row in result["rows"]:
        label = " ".join(str(row[key]) for key in ("name", "treatment", "cut") if key in row)
        chosen = " (the advice)" if row.get("chosen") else ""
        print(f"  {label}: {row['mean']:.1f}, n = {row['n']}{chosen}")
    if published:
        publish(result, name)


if __name__ == "__main__":
    main()
