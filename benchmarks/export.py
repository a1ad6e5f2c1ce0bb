"""What an exported network costs: its latency in four forms, its first answer, and `predict` beside a bare loop.

Seconds are those of the processor, one thread: a busy machine is measured like an idle one. From files they are
those of the clock: the next pictures are read while the network computes.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from benchmarks.timing import Way, figure, in_turns, ratio, write_result
from instar.deploy import Model
from instar.deploy.to_onnx import LOGITS, Session, write_int8, write_onnx
from instar.evaluation import batch_size_on
from instar.networks import build_network, forward_logits
from instar.networks.libraries.of_transformers import transformers
from instar.recipes.fitting import fit_job
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.shipping.predictions import answers
from instar.runs import Run
from instar.structures import Form, Inputs, examples_in, form_in_words

LENGTH, VOCABULARY = 12, 4000  # of a question of CLINC150, on average
BERT = "BERT 2x128"
NETWORKS: dict[str, Form] = {
    "mlp:800x2": (1, 28, 28),
    "convnet:8": (3, 32, 32),
    "resnet:20": (3, 32, 32),
    "timm:vit_tiny_patch16_224:128": (3, 128, 128),
    BERT: {"input_ids": ("int64", LENGTH), "attention_mask": ("int64", LENGTH)},
}
KINDS = ("torch", "torch.compile", "ONNX", "ONNX int8")
CALLS = {"mlp:800x2": 100, BERT: 20, "timm:vit_tiny_patch16_224:128": 3}  # in a round
USUAL_CALLS = 10
PREDICTED = "convnet:8"
CLASSES = 10
EXAMPLES = 1024
ROUNDS, FIRST_ROUNDS, MOST_SECONDS = 9, 3, 40.0
FROM_MEMORY, FROM_FILES = ">= 0.9", ">= 1"


def main() -> None:
    """Measure with one thread, and write `results/bench-export.json`."""
    torch.set_num_threads(1)
    latencies: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in NETWORKS:
            inputs = _inputs(NETWORKS[network], 1)
            count = CALLS.get(network, USUAL_CALLS)
            ways = {kind: _calls(answer, inputs, count) for kind, answer in _models(network, folder).items()}
            for kind, values in _measured(ways).items():
                latencies[f"{network}, {kind}"] = [one / count for one in values]
        ways = _predictions(folder)
        from_files = {way: ways.pop(way) for way in list(ways) if "files" in way}
        predicted = _measured(ways) | _measured(from_files, clock=time.perf_counter)
        first = _measured(_first_answers(folder), rounds=FIRST_ROUNDS, clock=_seconds_of_children)
    figures = {way: figure(values, unit="seconds") for way, values in (latencies | first).items()}
    figures |= {
        way: figure([EXAMPLES / one for one in values], unit="examples/s") for way, values in predicted.items()
    }
    ratios = {
        f"{network}, {kind}": ratio(latencies[f"{network}, torch"], latencies[f"{network}, {kind}"])
        for network in NETWORKS
        for kind in KINDS[1:]
    }
    for how, goal in (
        ("ONNX from memory", FROM_MEMORY),
        ("torch from memory", FROM_MEMORY),
        ("ONNX from files", FROM_FILES),
    ):
        ratios[f"predict, {how}"] = ratio(predicted[f"bare loop, {how}"], predicted[f"predict, {how}"], goal=goal)
    config = {
        "networks": {network: form_in_words(form) for network, form in NETWORKS.items()},
        "weights": "random",
        "threads": 1,
        "seconds": "of the processor; from files of the clock",
        "batch": 1,
        "predict": f"{PREDICTED}: {EXAMPLES} arrays, {EXAMPLES} PNG files of 40x36 pixels",
        "first answer": "of mlp:800x2 on the digits, from the start of the process, imports included",
        "ratio": "how many times as fast as torch in float32, for one example; predict: as a bare loop over the "
        "same session or module",
    }
    write_result("export", config=config, seconds=latencies | predicted | first, ratios=ratios, figures=figures)


def _measured(
    ways: Mapping[str, Way], *, rounds: int = ROUNDS, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    return in_turns(ways, rounds=rounds, at_most_seconds=MOST_SECONDS, clock=clock)


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Logits(nn.Module):
    """A network that gives logits, whatever it takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Inputs) -> Tensor:
        return forward_logits(self.network, inputs)


def _built(network: str) -> nn.Module:
    if network == BERT:
        package = transformers()
        config = package.BertConfig(
            vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=512, max_position_embeddings=64, num_labels=CLASSES,
        )  # fmt: skip
        torch.manual_seed(0)
        built: nn.Module = package.BertForSequenceClassification(config).eval()
        return built
    return build_network(network, input_shape=NETWORKS[network], num_classes=CLASSES, seed=0).eval()


def _inputs(form: Form, number: int) -> Inputs:
    inputs = examples_in(form, number, torch.rand)
    if isinstance(inputs, Mapping):
        ids = torch.randint(1, VOCABULARY, inputs["input_ids"].shape)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs


def _models(network: str, folder: Path) -> dict[str, Callable[[Any], Any]]:
    """A network in each of its forms."""
    model, form = _built(network), NETWORKS[network]
    slug = network.replace(":", "-").replace(" ", "-")
    file, int8 = folder / f"{slug}.onnx", folder / f"{slug}.int8.onnx"
    write_onnx(_Logits(model), _inputs(form, 2), file, form)
    write_int8(file, _inputs(form, 64), int8, per_channel=False)
    if not isinstance(form, Mapping):
        compiled = torch.compile(model)
        return {"torch": model, "torch.compile": compiled, "ONNX": Session(file), "ONNX int8": Session(int8)}
    one: dict[str, nn.Module] = {
        "torch": model,
        "torch.compile": torch.compile(model),  # type: ignore[dict-item]
        "ONNX": Session(file),
        "ONNX int8": Session(int8),
    }
    return {kind: lambda inputs, called=called: called(**inputs) for kind, called in one.items()}


def _calls(answer: Callable[[Any], Any], inputs: Inputs, count: int) -> Way:
    def way() -> None:
        with torch.inference_mode():
            for _ in range(count):
                answer(inputs)

    return way


def _predictions(folder: Path) -> dict[str, Way]:
    """`predict` and a bare loop over the same session or module, from memory and from files."""
    shape, names = NETWORKS[PREDICTED], [str(number) for number in range(CLASSES)]
    session, module = Session(folder / f"{PREDICTED.replace(':', '-')}.onnx"), _built(PREDICTED)
    of_onnx, of_torch = (Model(network, names, shape) for network in (session, module))
    inputs, size = torch.rand(EXAMPLES, *shape), batch_size_on("cpu")
    files = [str(folder / f"{number}.png") for number in range(EXAMPLES)]
    random = np.random.default_rng(0)
    for file in files:
        Image.fromarray(random.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(file)

    def ask(batch: np.ndarray) -> np.ndarray:
        logits = session.session.run([LOGITS], {"inputs": batch})[0]
        return np.exp(logits - logits.max(1, keepdims=True))

    def ask_torch() -> None:
        with torch.inference_mode():
            for start in range(0, EXAMPLES, size):
                torch.softmax(module(inputs[start : start + size]), -1)

    def read(file: str) -> np.ndarray:
        """As the code in the card of an export does it."""
        image = ImageOps.exif_transpose(Image.open(file))
        if image.has_transparency_data:
            raise ValueError(f"{file} is transparent")
        image = ImageOps.fit(image.convert("RGB"), shape[:0:-1], Image.Resampling.BICUBIC)
        return np.asarray(image, np.float32).transpose(2, 0, 1) / 255

    def bare(given: Callable[[int], np.ndarray], count: int) -> Way:
        return lambda: [ask(given(start)) for start in range(0, count, size)]

    return {
        "predict, ONNX from memory": lambda: of_onnx.predict_proba(inputs),
        "bare loop, ONNX from memory": bare(lambda start: inputs[start : start + size].numpy(), EXAMPLES),
        "predict, torch from memory": lambda: of_torch.predict_proba(inputs),
        "bare loop, torch from memory": ask_torch,
        "predict, ONNX from files": lambda: list(answers(of_onnx, files, refused=[], quiet=True)),
        "bare loop, ONNX from files": bare(
            lambda start: np.stack([read(file) for file in files[start : start + size]]), EXAMPLES
        ),
    }


def _first_answers(folder: Path) -> dict[str, Way]:
    """Processes that answer once and end; beside them one that imports torch alone."""
    settings = FitSettings(network="mlp:800x2", epochs=1)
    job = fit_job(folder, "student", settings, DataSettings(name="digits"), seed=0)
    with Run(folder / "jobs" / job.name, recipe="fit", config=job.config) as run:
        run.finish(job.function(run, {}))
    array = folder / "digit.npy"
    np.save(array, np.zeros((1, 1, 8, 8), np.float32))
    load = f"import instar, numpy; print(instar.load({str(run.path)!r}).predict(numpy.load({str(array)!r})))"
    commands = {
        "first answer of instar.load": ["-c", load],
        "first answer of instar predict": ["-m", "instar", "predict", str(run.path), str(array), "--quiet"],
        "import torch": ["-c", "import torch"],
    }

    def way(command: list[str]) -> Way:
        return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)

    return {name: way(command) for name, command in commands.items()}


if __name__ == "__main__":
    main()
