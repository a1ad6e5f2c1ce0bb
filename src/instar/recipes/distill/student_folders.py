"""What the folder of a student of transformers says of the data that it is trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tokenizer_of(content: Mapping[str, Any]) -> dict[str, str]:
    """The tokenizer of a student of transformers: it is trained on the ids that its embeddings are for."""
    folder = _students_folder(content)
    return {"tokenizer": str(folder)} if folder and (folder / "tokenizer.json").is_file() else {}


def extractor_of(content: Mapping[str, Any]) -> dict[str, str]:
    """The feature extractor of a student of transformers that hears sounds: it is trained on what that makes."""
    folder = _students_folder(content)
    file = None if folder is None else folder / "preprocessor_config.json"
    is_of_sounds = file is not None and file.is_file() and "sampling_rate" in file.read_text(errors="replace")
    return {"feature_extractor": str(folder)} if is_of_sounds else {}


def _students_folder(content: Mapping[str, Any]) -> Path | None:
    """The folder of a student of transformers; None of another student."""
    student = content.get("student")
    network = student.get("network") if isinstance(student, Mapping) else None
    if not isinstance(network, str) or not network.startswith("transformers:"):
        return None
    return Path(network.removeprefix("transformers:").partition("@")[0]).expanduser()
