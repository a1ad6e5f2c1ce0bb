"""The card of an exported network: a README that Hugging Face can read, written from the run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from instar.deploy.card_code import is_picture, is_sound, is_text, snippet
from instar.deploy.exporting import Proven
from instar.deploy.parity import INT8_BOUND
from instar.deploy.rows import PREPARATION
from instar.deploy.to_libraries import LIBRARY_FORMATS
from instar.export_record import ABOUT
from instar.networks.libraries.folders import PREPROCESSOR
from instar.structures import by_name, form_in_words, is_plain, mask_place, read_form

Facts = Mapping[str, Any]
_MOST_CLASSES = 20


def card_text(facts: Facts, files: Sequence[Proven], said: Sequence[str]) -> str:
    """The card.

    Args:
        facts: `title`, `network`, `data`, `training` and `results` in sentences; `to`, `run`, `class_names`,
            `input_shape`, `scale`, `versions`; `test` with `errors`, `num_examples`, `accuracy`, `low`, `high`,
            `calibration_error`.
        files: the model files.
        said: of them, in sentences.
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
        f"## How to load it\n\n```python\n{snippet(facts)}```\n\n{_loading(facts)}",
        _section("Limits", _limits(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, sentences: Sequence[str]) -> str:
    return f"## {title}\n\n" + " ".join(sentences)


def _metadata(facts: Facts) -> str:
    """The metadata in YAML, of which JSON is a part."""
    task = "image-classification" if is_picture(facts) else "tabular-classification"
    task = "audio-classification" if is_sound(facts) else task
    task = "text-classification" if "input_ids" in by_name(read_form(facts["input_shape"])) else task
    test = facts["test"]
    metrics = [{"type": "accuracy", "name": "accuracy on test", "value": round(test["accuracy"], 6)}]
    dataset = {"type": facts["data_name"], "name": facts["data_name"], "split": "test"}
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    about = {
        "library_name": {"torch": "pytorch", "safetensors": "instar"}.get(facts["to"], facts["to"]),
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
        f"batches of 64 and one by one; the network of the run makes {first.run_errors} "
        f"error{'s' * (first.run_errors != 1)} on them.",
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
    if not is_plain(read_form(shape)):
        return f"{_structure(facts)} It gives {_gives(names)}."
    if is_picture(facts):
        channels, height, width = shape
        colours = "grey" if channels == 1 else "red, green, blue"
        values = f"pixels as float32 from 0 (black) to 1: integers of eight bits divided by 255; {colours}, "
        values += f"{height} high and {width} wide"
    elif is_sound(facts):
        values = (
            "the log-mel filterbank of a clip, as `preparation.json` says, as float32; the code below makes it"
        )
    elif facts["rows"] is not None:
        values = "what `preparation.json` says of the columns of a row, as float32: numbers are standardised, "
        values += "categories are columns of 0 and 1; the code below makes it of a row"
    elif facts["scale"] == 1:
        values = "the values of the data as float32"
    else:
        values = f"the integers of the data times {facts['scale']:.6g}, as float32"
    own = "normalisation is part of the file" if facts["normalisation"] else "there is no normalisation"
    if facts["to"] in LIBRARY_FORMATS:
        own = "size and normalisation stand in the file that the library reads"
    takes = f"`inputs`, (batch, {', '.join(map(str, shape))}): {values}. A batch has any size; {own}."
    return f"{takes} It gives {_gives(names)}."


def _gives(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_CLASSES])
    more = f" and {len(names) - _MOST_CLASSES:,} more" if len(names) > _MOST_CLASSES else ""
    gives = f"`logits`, (batch, {len(names)}), one for each class, in the order of `class_names` in `{ABOUT}`: "
    return gives + shown + more


def _structure(facts: Facts) -> str:
    """What a network of several tensors, or of integers, takes."""
    form = read_form(facts["input_shape"])
    sentences = [f"An example is {form_in_words(form)}; a batch has any size, and is as long as its longest."]
    if mask_place(form) is not None:
        sentences.append("The mask is 1 for a value and 0 behind the end of a shorter example.")
    if is_text(facts) and facts["to"] not in LIBRARY_FORMATS:
        sentences.append("The tokenizer that makes ids of texts is in `preparation.json`; the code below uses it.")
    elif is_sound(facts):
        sentences.append(
            f"It is what {_extractor(facts)} makes of a clip, cut, or with zeros behind the end of a shorter one."
        )
    elif "input_ids" in by_name(form) and not facts["tokenizer"]:
        sentences.append(
            "The run was given ids: the tokenizer that made them is not in this folder, and belongs beside it."
        )
    return " ".join(sentences)


def _extractor(facts: Facts) -> str:
    file = PREPROCESSOR if facts["to"] in LIBRARY_FORMATS else PREPARATION
    return f"the feature extractor of transformers in `{file}`"


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
    if is_sound(facts) and facts["to"] in ("onnx", "safetensors"):
        return f"With instar: `instar predict FOLDER {facts['example']}`."
    if facts["rows"] is not None and facts["to"] in ("onnx", "safetensors"):
        columns = facts["rows"]["columns"]
        what = f"the column{'s' * (len(columns) > 1)} {', '.join(f'`{name}`' for name in columns)}"
        return f"With instar: `instar predict FOLDER {facts['example']}`, a file with {what}."
    if facts["to"] == "torch" or not is_plain(read_form(facts["input_shape"])):
        return ""
    return f"With instar: `instar.load(FOLDER)`, or `instar predict FOLDER {facts['example']}`."
