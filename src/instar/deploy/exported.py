"""The folder that `instar export` writes: model files, `instar.json` that says what they are, and a card.

`instar.json` has a checksum of its own and those of the other files. The card is its owner's to edit.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from instar.deploy.calibration import Calibration
from instar.deploy.loading import network_with
from instar.deploy.to_libraries import library_weights
from instar.deploy.to_onnx import Session
from instar.errors import RunError, UsageError
from instar.files import load_tensors

ABOUT, CARD = "instar.json", "README.md"
VERSION = 1
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


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write `instar.json` of a folder, with the checksums of the files that are there."""
    files = {file.name: _checksum(file.read_bytes()) for file in sorted(folder.iterdir()) if file.name != ABOUT}
    content = {"format": "instar-export", "version": VERSION, **about, "sha256": files}
    text = json.dumps({**content, "checksum": _checksum(_canonical(content))}, indent=2, allow_nan=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def find_export(path: Path) -> Path | None:
    """The model file that a folder, or the path of a file in it, means; None where it is no export."""
    folder = path.parent if path.is_file() else path
    if not (folder / ABOUT).is_file() or path.name == ABOUT:
        return None
    return path if path.is_file() else folder / MODELS.get(str(read_about(folder).get("to")), "")


def read_about(folder: Path) -> dict[str, Any]:
    """The content of `instar.json`.

    Raises:
        RunError: it is damaged, or was written by a newer instar.
    """
    try:
        content = json.loads((folder / ABOUT).read_bytes())
        stated = content.pop("checksum")
        if stated != _checksum(_canonical(content)):
            raise ValueError("its checksum is another one")
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise RunError(f"{folder / ABOUT} is damaged ({error}): export the run again") from error
    if content["version"] > VERSION:
        raise RunError(f"{folder} has format version {content['version']}, this instar reads {VERSION}: update it")
    return dict(content)


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
        if read.name in about["sha256"] and about["sha256"][read.name] != _checksum(_content(read)):
            raise RunError(
                f"{read} is not the file that was exported, its checksum is another one: export the run again"
            )
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


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}; export the run again") from error


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
