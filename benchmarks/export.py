"""Latency of torch, ONNX and ONNX in eight bits, and examples a second of `predict` beside a bare loop."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.deploy import Model
from instar.deploy.to_onnx import INPUTS, LOGITS, Session, write_int8, write_onnx
from instar.evaluation import batch_size_on
from instar.networks import build_network
from instar.recipes.predictions import answers

NETWORKS = {"mlp:800x2": (1, 28, 28), "convnet:8": (3, 32, 32), "resnet:20": (3, 32, 32)}
PREDICTED = "convnet:8"
BATCHES = (1, 64)
CALLS = {1: 50, 64: 5}  # in a round
CLASSES = 10
EXAMPLES, PICTURES = 2048, 512
ROUNDS = 15
FROM_MEMORY, FROM_FILES = ">= 0.9", ">= 1"


def main() -> None:
    """Measure with one thread, and write `results/bench-export.json`."""
    torch.set_num_threads(1)
    ways: dict[str, Way] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in NETWORKS:
            for kind, model in _models(network, folder).items():
                for batch in BATCHES:
                    inputs = torch.rand(batch, *NETWORKS[network])
                    ways[f"{network}, {kind}, batch {batch}"] = _calls(model, inputs, CALLS[batch])
        latencies = in_turns(ways, rounds=ROUNDS)
        predicted = in_turns(_predictions(folder), rounds=ROUNDS)
    figures = {
        way: figure([one / CALLS[int(way.rpartition(" ")[2])] for one in values], unit="seconds")
        for way, values in latencies.items()
    }
    counts = {way: PICTURES if "files" in way else EXAMPLES for way in predicted}
    figures |= {
        way: figure([counts[way] / one for one in values], unit="examples/s") for way, values in predicted.items()
    }
    ratios = {
        f"{network}, {kind}, batch {batch}": ratio(
            latencies[f"{network}, torch, batch {batch}"], latencies[f"{network}, {kind}, batch {batch}"]
        )
        for network in NETWORKS
        for kind in ("ONNX", "ONNX int8")
        for batch in BATCHES
    }
    for where, goal in (("memory", FROM_MEMORY), ("files", FROM_FILES)):
        ratios[f"predict from {where}"] = ratio(
            predicted[f"bare loop from {where}"], predicted[f"predict from {where}"], goal=goal
        )
    config = {
        "networks": NETWORKS,
        "weights": "random",
        "threads": 1,
        "predict": f"{PREDICTED} in ONNX: {EXAMPLES} arrays, {PICTURES} PNG files of 40x36 pixels",
        "ratio": "how many times as fast as torch in float32; predict: as a bare loop over the same session",
    }
    write_result("export", config=config, seconds=latencies | predicted, ratios=ratios, figures=figures)


def _models(network: str, folder: Path) -> dict[str, nn.Module]:
    """A network in torch, and its ONNX files as sessions."""
    shape = NETWORKS[network]
    model = build_network(network, input_shape=shape, num_classes=CLASSES, seed=0).eval()
    inputs, slug = torch.rand(256, *shape), network.replace(":", "-")
    file, int8 = folder / f"{slug}.onnx", folder / f"{slug}.int8.onnx"
    write_onnx(model, inputs[:2], file)
    write_int8(file, inputs, int8, per_channel=False)
    return {"torch": model, "ONNX": Session(file), "ONNX int8": Session(int8)}


def _calls(model: nn.Module, inputs: Tensor, count: int) -> Way:
    def way() -> None:
        with torch.inference_mode():
            for _ in range(count):
                model(inputs)

    return way


def _predictions(folder: Path) -> dict[str, Way]:
    """`predict` and a bare loop over the same session, from memory and from files."""
    shape = NETWORKS[PREDICTED]
    network = Session(folder / f"{PREDICTED.replace(':', '-')}.onnx")
    model = Model(network, [str(number) for number in range(CLASSES)], shape)
    inputs, size = torch.rand(EXAMPLES, *shape), batch_size_on("cpu")
    files = [str(folder / f"{number}.png") for number in range(PICTURES)]
    random = np.random.default_rng(0)
    for file in files:
        Image.fromarray(random.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(file)

    def ask(batch: np.ndarray) -> np.ndarray:
        logits = network.session.run([LOGITS], {INPUTS: batch})[0]
        return np.exp(logits - logits.max(1, keepdims=True))

    def read(file: str) -> np.ndarray:
        image = Image.open(file).convert("RGB").resize(shape[:0:-1], Image.Resampling.BICUBIC)
        return np.asarray(image, np.float32).transpose(2, 0, 1) / 255

    def bare(given: Callable[[int], np.ndarray], count: int) -> Way:
        return lambda: [ask(given(start)) for start in range(0, count, size)]

    return {
        "predict from memory": lambda: model.predict_proba(inputs),
        "bare loop from memory": bare(lambda start: inputs[start : start + size].numpy(), EXAMPLES),
        "predict from files": lambda: list(answers(model, files, refused=[], quiet=True)),
        "bare loop from files": bare(
            lambda start: np.stack([read(file) for file in files[start : start + size]]), PICTURES
        ),
    }


if __name__ == "__main__":
    main()
