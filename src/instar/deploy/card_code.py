"""The code in the card of an exported network, which loads it in its folder."""

import pprint
from collections.abc import Mapping
from typing import Any

from instar.data.records.cells import NOTHING
from instar.deploy.exported import MODELS
from instar.export_record import ABOUT
from instar.structures import by_name, examples_in, is_plain, read_form

Facts = Mapping[str, Any]


def snippet(facts: Facts) -> str:
    """Code that loads the network and asks it; for ONNX without instar and without torch.

    Args:
        facts: as for `card_text`.
    """
    write = {"safetensors": _of_instar, "transformers": _of_transformers, "timm": _of_timm}
    return write.get(facts["to"], _of_file)(facts)


def is_picture(facts: Facts) -> bool:
    """Whether its examples are pictures."""
    form = read_form(facts["input_shape"])
    return is_plain(form) and len(form) == 3 and form[0] in (1, 3) and not is_sound(facts)


def is_text(facts: Facts) -> bool:
    """Whether its examples are texts, whose tokenizer is in the folder."""
    return (facts.get("rows") or {}).get("kind") == "text"


def is_table(facts: Facts) -> bool:
    """Whether its examples are rows of numbers and categories, whose means and categories are in the folder."""
    return (facts.get("rows") or {}).get("kind") == "table"


def is_sound(facts: Facts) -> bool:
    """Whether its examples are sounds: their filterbanks, or what a feature extractor makes of them."""
    return (facts.get("rows") or {}).get("kind") == "sound"


def _of_instar(facts: Facts) -> str:
    if is_text(facts):
        given = ", ".join(_texts(facts))
        given = f"[{given}]" if len(_texts(facts)) == 1 else f"[({given})]"
        return f'import instar\n\nmodel = instar.load(".")\nprint(model.predict({given}))\n'
    if is_picture(facts) or is_sound(facts):
        return f'import instar\n\nmodel = instar.load(".")\nprint(model.predict(["{facts["example"]}"]))\n'
    if is_table(facts):
        return f'import instar\n\nmodel = instar.load(".")\n{_rows(facts)}\nprint(model.predict(rows))\n'
    form = read_form(facts["input_shape"])
    given = f"[{_zeros(facts)['inputs']}[0]]" if is_plain(form) else _in_code(facts)
    imports = "import numpy as np\nimport instar\n\n"
    return f'{imports}model = instar.load(".")\nprint(model.predict({given}))  # yours here\n'


def _of_file(facts: Facts) -> str:
    """Of an ONNX file or a program of torch."""
    is_onnx, form = facts["to"] == "onnx", read_form(facts["input_shape"])
    packages = ["numpy as np", "onnxruntime" if is_onnx else "torch"]
    packages += ["tokenizers"] if is_text(facts) else _OF_SOUNDS if is_sound(facts) and is_plain(form) else []
    lines = ["import json", "", *(f"import {package}" for package in sorted(packages))]
    lines += [*(["from PIL import Image, ImageOps"] if is_picture(facts) else []), ""]
    lines.append(f'class_names = json.load(open("{ABOUT}", encoding="utf-8"))["class_names"]')
    if is_onnx:
        opening = f'session = onnxruntime.InferenceSession("{MODELS["onnx"]}", providers=["CPUExecutionProvider"])'
    else:
        opening = f'network = torch.export.load("{MODELS["torch"]}").module()'
    lines.append(opening)
    if is_picture(facts):
        lines += [_PIXELS.format(*form, mode="L" if form[0] == 1 else "RGB")]
        given = f'np.stack([pixels(path) for path in ["{facts["example"]}"]])'
    elif is_text(facts):
        lines += [_TOKENIZER.format(", ".join(_texts(facts)))]
        given = "{" + ", ".join(f'"{name}": np.array([encoded.{_IDS[name]}])' for name in _zeros(facts)) + "}"
    elif is_table(facts):
        lines += [_VECTOR, _rows(facts)]
        given = "np.stack([vector(row) for row in rows])"
    elif is_sound(facts) and is_plain(form):
        lines += [_FILTERBANK]
        given = f'np.stack([filterbank(path) for path in ["{facts["example"]}"]])'
    elif is_plain(form):
        given = f"{_zeros(facts)['inputs']}  # yours here"
    else:
        given = f"{_in_code(facts)}  # yours here"
    lines.append(f"inputs = {given}")
    if is_onnx:
        names = ", ".join(f'"{name}": inputs[{place}]' for place, name in enumerate(_zeros(facts)))
        asked = (
            '{"inputs": inputs}' if is_plain(form) else "inputs" if isinstance(form, Mapping) else f"{{{names}}}"
        )
        lines.append(f'logits = session.run(["logits"], {asked})[0]')
    else:
        tensors = "torch.from_numpy(inputs)"
        if isinstance(form, Mapping):
            tensors = "{name: torch.from_numpy(one) for name, one in inputs.items()}"
        elif not is_plain(form):
            tensors = "tuple(torch.from_numpy(one) for one in inputs)"
        lines.append(f"logits = network({tensors}).detach().numpy()")
    return "\n".join([*lines, _ANSWER])


def _of_transformers(facts: Facts) -> str:
    kind = "Image" if is_picture(facts) else "Audio" if is_sound(facts) else "Sequence"
    lines = ["import torch"]
    if is_sound(facts):
        lines += ["import soundfile", "from transformers import AutoFeatureExtractor"]
        lines += ["from transformers import AutoModelForAudioClassification", ""]
        lines += ['extractor = AutoFeatureExtractor.from_pretrained(".")']
        lines += ["# one channel, at the extractor's sampling_rate"]
        lines += ['samples, rate = soundfile.read("clip.wav", dtype="float32")']
        ((name, (length, *_)),) = list(read_form(facts["input_shape"]).items())[:1]
        given = 'extractor(samples, sampling_rate=rate, return_tensors="pt")'
        if isinstance(length, int):  # as in training: shorter clips get zeros behind their end
            lines += [f"inputs = {given}", f'values = inputs["{name}"][:, :{length}]']
            lines += [
                f"padded = torch.zeros(1, {length}, *values.shape[2:])",
                "padded[:, : values.shape[1]] = values",
            ]
            given = f'{{"{name}": padded}}'
    elif is_picture(facts):
        mode = "L" if facts["input_shape"][0] == 1 else "RGB"
        lines += ["from PIL import Image", "from transformers import AutoImageProcessor"]
        lines += ["from transformers import AutoModelForImageClassification", ""]
        lines += ['processor = AutoImageProcessor.from_pretrained(".")']
        given = f'processor(images=Image.open("{facts["example"]}").convert("{mode}"), return_tensors="pt")'
    elif facts["tokenizer"]:
        lines += ["from transformers import AutoModelForSequenceClassification, AutoTokenizer", ""]
        lines += ['tokenizer = AutoTokenizer.from_pretrained(".")']
        given = 'tokenizer(["a text of yours"], return_tensors="pt")'
    else:
        lines += ["from transformers import AutoModelForSequenceClassification", ""]
        parts = ", ".join(
            f'"{name}": torch.{_filled(one)}({tuple(one.shape)}, dtype={one.dtype})'
            for name, one in by_name(examples_in(read_form(facts["input_shape"]), 1)).items()
        )
        given = f"{{{parts}}}  # yours here"
    lines += [f'network = AutoModelFor{kind}Classification.from_pretrained(".").eval()', f"inputs = {given}"]
    return "\n".join(
        [*lines, "with torch.no_grad():", "    probabilities = network(**inputs).logits.softmax(-1)", _NAMED]
    ).replace("NAMES", "network.config.id2label")


def _of_timm(facts: Facts) -> str:
    mode = "L" if facts["input_shape"][0] == 1 else "RGB"
    return _TIMM.format(facts["example"], mode=mode) + _NAMED.replace(
        "NAMES", 'network.pretrained_cfg["label_names"]'
    )


def _zeros(facts: Facts) -> dict[str, str]:
    """Examples in the code of numpy, by name."""
    found = by_name(examples_in(read_form(facts["input_shape"]), 1))
    return {
        name: f"np.{_filled(one)}({tuple(one.shape)}, np.{str(one.dtype).removeprefix('torch.')})"
        for name, one in found.items()
    }


def _texts(facts: Facts) -> list[str]:
    """A text for each column of texts."""
    return ['"a text of yours"', '"and its second part"'][: len(facts["rows"]["columns"])]


def _rows(facts: Facts) -> str:
    """A row in code, with the columns of the data."""
    rows = pprint.pformat([facts["rows"]["row"]], width=_WIDTH, compact=True, sort_dicts=False)
    return f"rows = {rows}  # yours here; None where a value is missing"


def _filled(tensor: Any) -> str:
    return "ones" if bool((tensor == 1).all()) else "zeros"


def _in_code(facts: Facts) -> str:
    """A batch of a structure in the code of numpy."""
    if isinstance(facts["input_shape"], Mapping):
        return "{" + ", ".join(f'"{name}": {one}' for name, one in _zeros(facts).items()) + "}"
    return "(" + ", ".join(_zeros(facts).values()) + ",)"


_WIDTH = 100  # characters of a line
_OF_SOUNDS = ["kaldi_native_fbank", "soundfile"]

_PIXELS = """
def pixels(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:  # on white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = ImageOps.fit(image.convert("{mode}"), ({2}, {1}), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32).reshape({1}, {2}, {0}).transpose(2, 0, 1) / 255

"""

_IDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}

_TOKENIZER = """
about = json.load(open("preparation.json", encoding="utf-8"))["preparation"]
tokenizer = tokenizers.Tokenizer.from_str(json.dumps(about["tokenizer"]))
tokenizer.enable_truncation(about["max_length"])
tokenizer.no_padding()
encoded = tokenizer.encode({0})
"""

_VECTOR = f"""columns = json.load(open("preparation.json", encoding="utf-8"))["preparation"]["columns"]
NOTHING = {NOTHING!r}


def vector(row):
    \"\"\"Numbers standardised, a missing one as the mean; of a category 1 at its place, 0 elsewhere.\"\"\"
    found = []
    for column in columns:
        value = row[column["name"]]
        is_missing = value is None or value != value or value == ""
        if "values" in column:
            text = str(int(value) if isinstance(value, float) and value % 1 == 0 else value)
            if isinstance(value, bool):
                text = next((one for one in column["values"] if one.lower() == text.lower()), text)
            found += [float(text == one and not is_missing) for one in column["values"]]
            if column["others"]:
                found.append(float(text not in column["values"] and not is_missing))
        else:
            if isinstance(value, str):
                value = value.strip()
                is_missing = value in NOTHING
                if column.get("is_boolean"):
                    value = {{"true": 1, "false": 0}}.get(value.lower(), value)
            if column["is_date"] and not is_missing:  # in days
                value = np.datetime64(value, "us").astype(np.int64) / 86_400e6
            found.append(0.0 if is_missing else (float(value) - column["mean"]) / column["sd"])
        if column["missing"]:
            found.append(float(is_missing))
    return np.array(found, np.float32)

"""

_FILTERBANK = """about = json.load(open("preparation.json", encoding="utf-8"))["preparation"]


def filterbank(path):
    \"\"\"The log-mel filterbank of a clip, standardised: in the middle of zeros, or the middle of it.\"\"\"
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(1)
    if rate != about["sample_rate"]:
        from scipy.signal import resample_poly

        common = np.gcd(rate, about["sample_rate"])
        samples = resample_poly(samples, about["sample_rate"] // common, rate // common)
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = about["sample_rate"]
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = len(about["mean"])
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(about["sample_rate"], (samples * 2**15).astype(np.float32))
    bank.input_finished()
    frames = np.stack([bank.get_frame(number) for number in range(bank.num_frames_ready)]).clip(min=0)
    frames = (frames - frames.mean() - np.array(about["mean"])) / np.array(about["std"])
    found = np.zeros((1, frames.shape[1], about["num_frames"]), np.float32)
    spare = about["num_frames"] - len(frames)
    if spare >= 0:
        found[0, :, spare // 2 : spare // 2 + len(frames)] = frames.T
    else:
        found[0] = frames.T[:, -spare // 2 : -spare // 2 + about["num_frames"]]
    return found

"""

_ANSWER = """probabilities = np.exp(logits - logits.max(1, keepdims=True))
probabilities /= probabilities.sum(1, keepdims=True)
for row in probabilities:
    print(class_names[row.argmax()], round(float(row.max()), 4))
"""

_TIMM = """import timm
import torch
from PIL import Image

network = timm.create_model("local-dir:.", pretrained=True).eval()  # without pretrained its weights are random
transform = timm.data.create_transform(**timm.data.resolve_data_config({{}}, model=network))
inputs = transform(Image.open("{0}").convert("{mode}"))[None]
with torch.no_grad():
    probabilities = network(inputs).softmax(-1)
"""

_NAMED = """for row in probabilities:
    print(NAMES[int(row.argmax())], round(float(row.max()), 4))
"""
