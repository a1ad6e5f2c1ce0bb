"""A model file's logits and latency, in a process of its own that, but for weights alone, knows nothing of instar.

A script: `python -P answering.py KIND FILE FOLDER LOGITS.npz`; KIND is onnx, torch, safetensors, transformers or
timm. FOLDER has an array for each input, NAME.npy, and about.json: their `names`, whether they are a tuple, and of
padded examples the `mask` by which those in `varying` are cut.
"""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BATCH, ALONE = 64, 64  # examples of a batch; how many are asked one by one too
_SECONDS, _MOST = 0.5, 200  # for each latency


def main() -> None:
    """Write the logits in batches and one by one; print the median latencies in milliseconds as JSON."""
    kind, file, folder, logits_file = sys.argv[1:]
    about = json.loads(Path(folder, "about.json").read_text())
    arrays = {
        name: np.load(Path(folder, f"{name}.npy"), mmap_mode="r", allow_pickle=False) for name in about["names"]
    }
    answer, number = _opened(kind, Path(file), about), len(arrays[about["names"][0]])

    def asked(rows: Any) -> dict[str, Any]:
        return _cut({name: np.array(one[rows]) for name, one in arrays.items()}, about)

    batches = [answer(asked(slice(at, at + BATCH))) for at in range(0, number, BATCH)]
    singles = [answer(asked(slice(at, at + 1))) for at in range(min(ALONE, number))]
    np.savez(logits_file, batches=np.concatenate(batches), singles=np.concatenate(singles))
    whole = np.arange(BATCH) % number
    sys.stdout.write(json.dumps([_latency_ms(answer, asked(whole[:1])), _latency_ms(answer, asked(whole))]))


def _cut(inputs: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Examples that were padded with many, padded to the longest of these few."""
    if about["mask"] is None:
        return inputs
    longest = int(inputs[about["mask"]].sum(1).max())
    return {name: one[:, :longest].copy() if name in about["varying"] else one for name, one in inputs.items()}


def _opened(kind: str, file: Path, about: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A function from inputs by name to logits; one thread."""
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(["logits"], inputs)[0]
    import torch

    torch.set_num_threads(1)
    network: Callable[[dict[str, Any]], Any]
    if kind == "transformers":
        network = _of_transformers(file.parent)
    elif kind == "timm":
        network = _of_timm(file.parent)
    elif kind == "torch":
        network = _as_given(torch.export.load(file).module(), about)
    else:
        from instar.deploy import load

        network = _as_given(load(file), about)

    def answer(inputs: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return network({name: torch.from_numpy(one) for name, one in inputs.items()}).numpy()

    return answer


def _as_given(network: Any, about: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """A network that takes the structure of the data as one argument, as a function of inputs by name."""
    if about["is_tuple"]:
        return lambda inputs: network(tuple(inputs.values()))
    if about["names"] == ["inputs"]:
        return lambda inputs: network(inputs["inputs"])
    return lambda inputs: network(inputs)


def _of_transformers(folder: Path) -> Callable[[dict[str, Any]], Any]:
    """The network that `from_pretrained` loads; it is shown pictures by the folder's own preprocessing."""
    _repair_torchvision()
    transformers: Any = importlib.import_module("transformers")
    shown = folder / "preprocessor_config.json"
    about = json.loads(shown.read_text()) if shown.is_file() else {}
    kind = "Audio" if "sampling_rate" in about else "Image" if about else "Sequence"
    model = getattr(transformers, f"AutoModelFor{kind}Classification")
    network = model.from_pretrained(folder, local_files_only=True).eval()
    if kind != "Image":
        return lambda inputs: network(**inputs).logits
    if importlib.util.find_spec("torchvision") is None:  # its other backend shows pictures of bytes alone
        crop, kind = about["crop_size"], {2: "bilinear", 3: "bicubic"}[about["resample"]]
        size = crop["height"], crop["width"]
        return lambda inputs: (
            network(_shown(inputs["inputs"], size, kind, about["image_mean"], about["image_std"])).logits
        )
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)

    def answer(inputs: dict[str, Any]) -> Any:
        given = {"do_rescale": False, "input_data_format": "channels_first", "return_tensors": "pt"}
        return network(processor(images=list(inputs["inputs"]), **given)["pixel_values"]).logits

    return answer


def _of_timm(folder: Path) -> Callable[[dict[str, Any]], Any]:
    """The network that `create_model` loads; it is shown pictures as its data configuration says."""
    _repair_torchvision()
    timm: Any = importlib.import_module("timm")
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    about = timm.data.resolve_data_config({}, model=network)
    size, kind = about["input_size"][1:], about["interpolation"]
    return lambda inputs: network(_shown(inputs["inputs"], size, kind, about["mean"], about["std"]))


def _shown(
    pixels: Any, size: Sequence[int], interpolation: str, mean: Sequence[float], std: Sequence[float]
) -> Any:
    """Pixels of 0 to 1 in the size and normalisation that a folder states."""
    import torch

    if tuple(pixels.shape[-2:]) != tuple(size):
        pixels = torch.nn.functional.interpolate(pixels, size=tuple(size), mode=interpolation, antialias=True)
    shift, scale = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (mean, std))
    return (pixels - shift) / scale


def _repair_torchvision() -> None:
    """Make a torchvision of another build importable, by a file of instar that knows nothing of it."""
    path = Path(__file__).parents[1] / "networks" / "libraries" / "operators.py"
    described = importlib.util.spec_from_file_location("operators", path)
    if described is not None and described.loader is not None:
        module = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
        module.repair_torchvision()


def _latency_ms(answer: Callable[[Any], Any], inputs: Any) -> float:
    """The median of the processor's time, which other processes do not lengthen: there is one thread."""
    for _ in range(3):
        answer(inputs)
    seconds: list[float] = []
    while len(seconds) < 5 or (len(seconds) < _MOST and sum(seconds) < _SECONDS):
        started = time.process_time()
        answer(inputs)
        seconds.append(time.process_time() - started)
    return round(1000 * statistics.median(seconds), 4)


if __name__ == "__main__":
    main()
