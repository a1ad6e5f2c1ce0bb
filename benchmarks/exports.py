"""Every kind of network in every format of `instar export`, proven: writes `results/exports.json`."""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import instar
from benchmarks.timing import RESULTS, provenance
from instar.data import InMemoryDataset
from instar.errors import UsageError
from instar.files import write_bytes
from instar.networks.libraries.of_transformers import transformers
from instar.recipes.fitting import fit_job
from instar.recipes.settings import DataSettings, FitSettings
from instar.runs import Run

FORMATS = ("onnx", "torch", "safetensors", "transformers", "timm")
DIGITS = {"name": "digits", "validation_fraction": 0.3}
SMALL, LARGE, LARGEST = ({**DIGITS, "image_size": size} for size in (16, 32, 67))
WORDS = {"name": "python:benchmarks.exports:questions", "validation_fraction": 0.3}
SGD = {"epochs": 5, "learning_rate": 0.05}
ADAM = {"epochs": 5, "learning_rate": 0.001, "optimiser": "adamw"}
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp:800x2": (DIGITS, SGD),
    "convnet:8": (SMALL, SGD),
    "resnet:20": (SMALL, SGD),
    "caffenet": (LARGEST, {**ADAM, "epochs": 3, "learning_rate": 0.0003}),
    "mixture:4/convnet:8x8/convnet:8x4": (SMALL, SGD),
    "python:benchmarks.exports:users": (DIGITS, SGD),
    "timm:resnet18": (LARGE, {**SGD, "epochs": 6}),
    "timm:vit_tiny_patch16_224:64": (LARGE, {**ADAM, "epochs": 2}),
    "python:benchmarks.exports:bert": (WORDS, {**ADAM, "epochs": 15}),
}
INTENTS, WORD_IDS = 10, 2000


def main() -> None:
    """Train each network for a few epochs, export it, and write what its files answer after each of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__)
    parser.add_argument(
        "networks", nargs="*", help="by default all; rows of others stay in the file where they are of this commit"
    )
    torch.set_num_threads(1)
    for network in parser.parse_args().networks or NETWORKS:
        with tempfile.TemporaryDirectory() as name:
            run = _trained(Path(name), network, *NETWORKS[network])
            _write(network, [row for to in FORMATS for row in _exported(network, run, to, Path(name))])


def _write(network: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a network in place of those that it had; rows of another commit do not stay."""
    file, about = RESULTS / "exports.json", provenance("exports", "exports")
    there = json.loads(file.read_text()) if file.exists() else about
    rows_there = there["exports"] if there["commit"] == about["commit"] else []
    kept = {name: [row for row in rows_there if row["network"] == name] for name in NETWORKS} | {network: rows}
    about["exports"] = [row for several in kept.values() for row in several]
    write_bytes(file, json.dumps(about, indent=2).encode() + b"\n")


def _trained(folder: Path, network: str, data: Mapping[str, Any], fit: Mapping[str, Any]) -> Path:
    """The run directory of a fit."""
    job = fit_job(folder, "network", FitSettings(network=network, **fit), DataSettings(**data), seed=0)
    with Run(folder / "jobs" / job.name, recipe="fit", config=job.config) as run:
        run.finish(job.function(run, {}))
    return run.path


def _exported(network: str, run: Path, to: str, folder: Path) -> list[dict[str, Any]]:
    """A row for each file that is written; one that says so where the format is not for this network."""
    print(network, to, flush=True)
    try:
        done = instar.export(run, to=to, int8=to == "onnx", out=folder / to)
    except UsageError as error:
        if "is no network of" not in str(error):
            raise
        return [{"network": network, "format": to, "refused": "of another library"}]
    formats = [to, f"{to} int8"]
    return [
        {"network": network, "format": written, **one.row._asdict()}
        for written, one in zip(formats, done.files, strict=False)
    ]


def users(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A user's own module."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(),
        nn.LazyLinear(num_classes),
    )  # fmt: skip


def bert(num_classes: int) -> nn.Module:
    """A BERT of two layers of 64 units."""
    package = transformers()
    config = package.BertConfig(
        vocab_size=WORD_IDS, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64, num_labels=num_classes,
    )  # fmt: skip
    network: nn.Module = package.BertForSequenceClassification(config)
    return network


def questions() -> tuple[InMemoryDataset, InMemoryDataset]:
    """Training and test questions of CLINC150 of ten intents, a number for each word."""
    whole = json.loads((Path(os.environ["INSTAR_DATA"]) / "clinc150" / "data_full.json").read_text())
    names = sorted({intent for _, intent in whole["train"]})[:INTENTS]
    parts = [
        [(text.lower().split(), intent) for text, intent in whole[part] if intent in names]
        for part in ("train", "test")
    ]
    words = sorted({word for text, _ in parts[0] for word in text})[: WORD_IDS - 2]
    number_of = {word: number for number, word in enumerate(words, 2)}
    train, test = (
        InMemoryDataset(
            {"input_ids": [[number_of.get(word, 1) for word in text] for text, _ in rows]},
            torch.tensor([names.index(intent) for _, intent in rows]),
            class_names=names,
        )
        for rows in parts
    )
    return train, test.subset(test.ids[~torch.isin(test.ids, train.ids)])


if __name__ == "__main__":
    main()
