"""Time and memory to a student's first step under a teacher of each kind, each in a fresh process."""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks.timing import Seconds, figure, in_turns, ratio, resident_bytes, write_result

ROUNDS = 3
TRAINED = ("forest", "lightgbm", "xgboost", "onnx", "timm", "transformers")
KINDS = ("mlp:64x1", *TRAINED)
SIDE, EXAMPLES = 32, 256


def main() -> None:
    """Measure, and write `results/bench-first-step.json`."""
    memory: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        _write_teachers(Path(folder))

        def way(kind: str) -> Any:
            def run() -> None:
                memory[kind].append(_in_a_process(kind, folder))

            return run

        seconds: Seconds = in_turns({kind: way(kind) for kind in KINDS}, rounds=ROUNDS, at_most_seconds=300)
    own = KINDS[0]
    ratios = {kind: ratio(seconds[kind], seconds[own]) for kind in TRAINED}
    figures = {kind: figure(values, unit="seconds") for kind, values in seconds.items()}
    figures |= {f"{kind}, most memory": figure(values[1:], unit="GiB") for kind, values in memory.items()}
    config = {
        "task": "a fresh process imports instar, reads the teacher, asks it, and makes the student's first step",
        "data": f"{EXAMPLES} pictures of 3x{SIDE}x{SIDE} numbers, in memory",
        "student": "mlp:64x1, one batch of all examples",
        "timm": f"timm:test_vit:{SIDE}",
        "transformers": "ViT of four layers, 64 wide, from a folder",
        "ratio": f"seconds of the whole process over those under our own {own}",
    }
    write_result("first-step", config=config, seconds=seconds, ratios=ratios, figures=figures)


def _in_a_process(kind: str, folder: str) -> float:
    command = [sys.executable, "-m", "benchmarks.first_step", kind, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    gib: float = json.loads(done.stdout)
    return gib


def first_step(kind: str, folder: Path) -> float:
    """One step of a student under a teacher of a kind; the most memory that this process had, in GiB."""
    import torch

    from instar.data import as_dataset
    from instar.distillation import Teacher
    from instar.networks import build_network, read_teacher
    from instar.training import fit

    warnings.simplefilter("ignore")  # that the teacher guesses
    inputs, labels = torch.rand(EXAMPLES, 3, SIDE, SIDE), torch.arange(EXAMPLES) % 10
    data = as_dataset((inputs, labels))
    about = {"input_shape": data.example_shape, "num_classes": data.num_classes, "seed": 0}
    specs = {
        "forest": f"sklearn:{folder}/forest.skops",
        "lightgbm": f"lightgbm:{folder}/lightgbm.txt",
        "xgboost": f"xgboost:{folder}/xgboost.json",
        "onnx": f"onnx:{folder}/net.onnx",
        "timm": f"timm:test_vit:{SIDE}",
        "transformers": f"transformers:{folder}/vit",
    }
    spec = specs.get(kind, kind)
    if kind in ("forest", "lightgbm", "xgboost", "onnx"):
        teacher = read_teacher(spec, class_names=data.class_names, example_shape=data.example_shape)
    else:
        teacher = build_network(spec, **about).eval()
    student = build_network("mlp:64x1", **about)
    targets = Teacher(teacher, data, temperature=2.0)
    fit(student, data, epochs=1, targets=targets, batch_size=EXAMPLES, learning_rate=0.01)
    return resident_bytes(most=True) / 2**30


def _write_teachers(folder: Path) -> None:
    import lightgbm
    import skops.io
    import torch
    import xgboost
    from sklearn.ensemble import RandomForestClassifier

    from instar.deploy.to_onnx import write_onnx
    from instar.networks import build_network
    from instar.networks.libraries.of_transformers import transformers

    inputs, labels = torch.rand(EXAMPLES, 3, SIDE, SIDE), torch.arange(EXAMPLES) % 10
    rows = inputs.flatten(1).numpy()
    skops.io.dump(RandomForestClassifier(100, random_state=0).fit(rows, labels.numpy()), folder / "forest.skops")
    few: dict[str, Any] = {"n_estimators": 10, "n_jobs": 1}
    boosted = lightgbm.LGBMClassifier(verbose=-1, **few).fit(rows, labels.numpy())
    boosted.booster_.save_model(folder / "lightgbm.txt")
    xgboost.XGBClassifier(**few).fit(rows, labels.numpy()).save_model(folder / "xgboost.json")
    network = build_network("mlp:64x1", input_shape=(3, SIDE, SIDE), num_classes=10, seed=0).eval()
    write_onnx(network, inputs[:2], folder / "net.onnx")
    package = transformers()
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = package.ViTConfig(**sizes, image_size=SIDE, patch_size=4, num_labels=10)
    package.ViTForImageClassification(config).save_pretrained(folder / "vit")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(first_step(sys.argv[1], Path(sys.argv[2])))
    else:
        main()
