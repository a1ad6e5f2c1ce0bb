"""The card of an exported network: a README that Hugging Face can read, written from the run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instar.deploy.exported import MODELS
from instar.deploy.exporting import Proven
from instar.deploy.parity import INT8_BOUND
from instar.export_record import ABOUT

Facts = Mapping[str, Any]
_MOST_CLASSES = 20


def card_text(facts: Facts, files: Sequence[Proven], said: Sequence[str]) -> str:
    """The card.

    Args:
        facts: `title`, `network`, `data`, `training` and `results` in sentences; `to`, `run`, `class_names`,
            `input_shape`, `scale`, `versions`; `test` with `errors`, `num_examples`, `accuracy`, `low`, `high`,
            `calibration_error`.
        files: the model files.
        said: of int8.
    """
    parts = [
        _metadata(facts),
        f"# {facts['title']}",
        f"`{facts['network']}`, exported by instar from the run `{facts['run']}`.",
        _section("Data", facts["data"]),
        _section("Training", facts["training"]),
        _section("Results", facts["results"]),
        f"## Files\n\n{_table(files)}\n\n{_about_files(facts, files, said)}",
        f"## Calibration\n\n{_calibration(files)}",
        f"## What it takes and gives\n\n{_inputs(facts)}",
        f"## How to load it\n\n```python\n{_snippet(facts)}```\n\n{_loading(facts)}",
        _section("Limits", _limits(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, sentences: Sequence[str]) -> str:
    return f"## {title}\n\n" + " ".join(sentences)


def _metadata(facts: Facts) -> str:
    """The metadata in YAML, of which JSON is a part."""
    task = "image-classification" if _is_picture(facts) else "tabular-classification"
    test = facts["test"]
    metrics = [{"type": "accuracy", "name": "accuracy on test", "value": round(test["accuracy"], 6)}]
    dataset = {"type": facts["data_name"], "name": facts["data_name"], "split": "test"}
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    about = {
        "library_name": {"onnx": "onnx", "torch": "pytorch", "safetensors": "instar"}[facts["to"]],
        "pipeline_tag": task,
        "tags": ["instar", *facts["tags"]],
        "model-index": [{"name": facts["title"], "results": [result]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in about.items()]
    return "\n".join(["---", *lines, "---"])


def _table(files: Sequence[Proven]) -> str:
    heads = ["file", "bytes", "validation errors", "agreement", "largest difference", "ms, 1", "ms, 64"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for row, _ in files:
        latencies = [f"{row.latency_1_ms:.3g}", f"{row.latency_64_ms:.3g}"]
        shares = [f"{row.agreement:.2%}", f"{row.largest_difference:.2g}"]
        lines.append([f"`{row.file}`", f"{row.bytes:,}", str(row.errors), *shares, *latencies])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _about_files(facts: Facts, files: Sequence[Proven], said: Sequence[str]) -> str:
    first = files[0].row
    sentences = [
        f"Each file was opened by a fresh process and asked {first.num_examples:,} validation examples, in",
        f"batches of 64 and one by one; the network of the run makes {first.run_errors} errors on them.",
        "Agreement: the share of them with the same class; largest difference: of a logit. Milliseconds:",
        f"median for one example and for 64, one thread, on {facts['machine']}.",
    ]
    if len(files) > 1:
        sentences.append(
            "int8 is static: its ranges were found on training examples. With one scale a layer and with one a "
            f"channel it was tried; of those that lose at most {INT8_BOUND} points the faster one is here."
        )
    return " ".join([*sentences, *said])


def _calibration(files: Sequence[Proven]) -> str:
    known = [(row.file, found) for row, found in files if found is not None]
    if not known:
        return "It learned from its validation examples too, so nothing is known of its calibration."
    lines = [f"- `{file}`: {found.in_words()}." for file, found in known]
    advice = ["", "Divide the logits by the temperature before the softmax where a probability is to be believed."]
    return "\n".join([*lines, *(advice if any(found.temperature != 1.0 for _, found in known) else [])])


def _inputs(facts: Facts) -> str:
    shape, names = facts["input_shape"], facts["class_names"]
    if _is_picture(facts):
        channels, height, width = shape
        colours = "grey" if channels == 1 else "red, green, blue"
        values = f"pixels as float32 from 0 (black) to 1: integers of eight bits divided by 255; {colours}, "
        values += f"{height} high and {width} wide"
    elif facts["scale"] == 1:
        values = "the values of the data as float32"
    else:
        values = f"the integers of the data times {facts['scale']:.6g}, as float32"
    own = "normalisation is part of the file" if facts["normalisation"] else "there is no normalisation"
    takes = f"`inputs`, (batch, {', '.join(map(str, shape))}): {values}. A batch has any size; {own}."
    shown = ", ".join(names[:_MOST_CLASSES])
    more = f" and {len(names) - _MOST_CLASSES:,} more" if len(names) > _MOST_CLASSES else ""
    gives = f"`logits`, (batch, {len(names)}), one for each class, in the order of `class_names` in `{ABOUT}`: "
    return f"{takes} It gives {gives}{shown}{more}."


def _limits(facts: Facts) -> list[str]:
    sentences = [
        f"It knows {len(facts['class_names'])} classes and gives one of them to whatever it is shown.",
        "Its errors were counted on examples of the source of its training examples; elsewhere expect more.",
        "The licence of the data was not recorded: whoever shares the network looks it up.",
    ]
    if facts["to"] == "torch":
        sentences.append(
            "`torch.export.load` may read pickles: open such files only where you trust their source."
        )
    if facts["to"] == "safetensors" and "python:" in facts["network"]:
        sentences.append("The module that builds the network is not in this folder, and must be importable.")
    return sentences


def _loading(facts: Facts) -> str:
    if facts["to"] == "torch":
        return ""
    return f"With instar: `instar.load(FOLDER)`, or `instar predict FOLDER {facts['example']}`."


def _snippet(facts: Facts) -> str:
    """Code that loads the network in its folder; for ONNX without instar and without torch."""
    if facts["to"] == "safetensors":
        example = f'"{facts["example"]}"' if _is_picture(facts) else f"numpy.zeros({tuple(facts['input_shape'])})"
        first = "" if _is_picture(facts) else "import numpy\n"
        return f'{first}import instar\n\nmodel = instar.load(".")\nprint(model.predict([{example}]))\n'
    is_onnx = facts["to"] == "onnx"
    imports = ["import json", "", "import numpy as np", "import onnxruntime" if is_onnx else "import torch"]
    if is_onnx:
        opening = [
            f'session = onnxruntime.InferenceSession("{MODELS["onnx"]}", providers=["CPUExecutionProvider"])',
        ]
        asking = 'logits = session.run(["logits"], {"inputs": inputs})[0]'
    else:
        opening = [f'network = torch.export.load("{MODELS["torch"]}").module()']
        asking = "logits = network(torch.from_numpy(inputs)).detach().numpy()"
    lines = [*imports, *(["from PIL import Image, ImageOps"] if _is_picture(facts) else []), ""]
    lines += [f'class_names = json.load(open("{ABOUT}", encoding="utf-8"))["class_names"]', *opening]
    if _is_picture(facts):
        lines += [_PIXELS.format(*facts["input_shape"], mode="L" if facts["input_shape"][0] == 1 else "RGB")]
        given = f'np.stack([pixels(path) for path in ["{facts["example"]}"]])'
    else:
        given = f"np.zeros((1, {', '.join(map(str, facts['input_shape']))}), np.float32)  # yours here"
    lines += [f"inputs = {given}", asking, _ANSWER]
    return "\n".join(lines)


def _is_picture(facts: Facts) -> bool:
    shape = facts["input_shape"]
    return len(shape) == 3 and shape[0] in (1, 3)


_PIXELS = """
def pixels(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:  # on white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = ImageOps.fit(image.convert("{mode}"), ({2}, {1}), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32).reshape({1}, {2}, {0}).transpose(2, 0, 1) / 255

"""

_ANSWER = """probabilities = np.exp(logits - logits.max(1, keepdims=True))
probabilities /= probabilities.sum(1, keepdims=True)
for row in probabilities:
    print(class_names[row.argmax()], round(float(row.max()), 4))
"""
