"""The folder that `instar export` writes: model files, `instar.json` that says what they are, and a card.

`instar.json` has a checksum of its own and those of the other files. The card is its owner's to edit.
"""

from pathlib import Path
from typing import Any

from torch import nn

from instar.deploy.calibration import Calibration
from instar.deploy.loading import network_with
from instar.deploy.to_libraries import library_weights
from instar.deploy.to_onnx import Session
from instar.errors import UsageError
from instar.export_record import ABOUT, check_content, read_about
from instar.files import load_tensors

CARD = "README.md"
WEIGHTS = "model.safetensors"
MODELS = {
    "onnx": "model.onnx",
    "torch": "model.pt2",
    "safetensors": WEIGHTS,
    "transformers": WEIGHTS,
    "timm": WEIGHTS,
}
"""The model file of each format."""
INT8 = "model.int8.onnx"


def find_export(path: Path) -> Path | None:
    """The model file that a folder, or the path of a file in it, means; None where it is no export."""
    folder = path.parent if path.is_file() else path
    if not (folder / ABOUT).is_file() or path.name == ABOUT:
        return None
    return path if path.is_file() else folder / MODELS.get(str(read_about(folder).get("to")), "")


def open_export(file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network in an exported file, which takes values before normalisation, and what `instar.json` says of it.

    Raises:
        UsageError: it is a program of `torch.export`, which only torch may open, or onnxruntime is not installed.
        RunError: a file is damaged.
    """
    about = read_about(file.parent)
    if file.name not in about["sha256"]:
        raise UsageError(f"{file} is none of the files of this export: {', '.join(about['sha256'])}")
    for read in {file, file.with_name("config.json")}:
        if read.name in about["sha256"]:
            check_content(read, about)
    if file.name == MODELS["torch"]:
        raise UsageError(
            f"{file} is for torch.export.load: it may hold pickles, of which instar reads none; what instar.load "
            "opens is written by instar export --to safetensors or onnx"
        )
    if file.suffix == ".onnx":
        return Session(file), about
    if "config" in about:  # of another library
        return network_with(about["config"], library_weights(file.parent, about["to"]), file), about
    weights, state = load_tensors(file)
    return network_with(state["config"], weights, file), about


def calibration_of(path: Path) -> Calibration | None:
    """What an exported file knows of its validation examples; None where it is no export, or learned from them."""
    file = find_export(path)
    found = None if file is None else read_about(file.parent)["calibration"].get(file.name)
    return None if found is None else Calibration(**found)
