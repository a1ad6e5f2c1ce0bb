"""Sounds as the networks of transformers take them: by the feature extractor that a network was trained with.

What is known of a feature extractor is JSON alone, `Listening.record`, so that a run can keep it.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import DataError, UsageError, first_line
from instar.naming import import_extra

EXTRACTOR, CONFIG = "preprocessor_config.json", "config.json"
VALUES = ("input_values", "input_features")
"""The names that networks have for what a feature extractor gives."""

_TYPE = "feature_extractor_type"
_LEAST_SECONDS = 0.1  # shorter clips get zeros behind their end: no frame fits into them
_SAMPLE_RATES_HZ = (1_000, 400_000)


@dataclass(frozen=True)
class Listening:
    """A feature extractor of transformers.

    Args:
        content: of its `preprocessor_config.json`, with `feature_extractor_type`.
    """

    content: str

    @property
    def record(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return dict(json.loads(self.content))

    @functools.cached_property
    def name(self) -> str:
        """Eight hex digits that identify it."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:8]

    @property
    def sample_rate(self) -> int:
        """Hz, of the sounds that it takes."""
        return int(self.record["sampling_rate"])

    @functools.cached_property
    def extractor(self) -> Any:
        """The feature extractor of the library.

        Raises:
            UsageError: the library is not installed, or has no feature extractor of this type.
            DataError: the file describes none.
        """
        library = import_extra("transformers", "transformers")
        kind = str(self.record[_TYPE])
        found = getattr(library, kind, None)
        base = library.feature_extraction_sequence_utils.SequenceFeatureExtractor
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(f"{EXTRACTOR}: {kind} is no feature extractor of sounds of transformers")
        try:
            return found.from_dict(self.record)  # type: ignore[attr-defined]
        except Exception as error:  # of what the file says: many types
            raise DataError(f"{EXTRACTOR} describes no {kind}: {first_line(error)}") from error

    @property
    def input_name(self) -> str:
        """The name that its network has for what it gives."""
        return str(self.extractor.model_input_names[0])

    @property
    def is_masked(self) -> bool:
        """Whether its network is told where a shorter sound ends (`attention_mask`)."""
        return bool(getattr(self.extractor, "return_attention_mask", False))

    def features(self, samples: NDArray[np.float32]) -> Tensor:
        """What it makes of one sound by itself, which nothing is appended to: (length, ...) float32.

        Args:
            samples: (n,) from -1 to 1, at `sample_rate`.

        Raises:
            DataError: it makes nothing of this sound.
        """
        least = int(_LEAST_SECONDS * self.sample_rate)
        if len(samples) < least:
            samples = np.pad(samples, (0, least - len(samples)))
        try:
            found = self.extractor([samples], sampling_rate=self.sample_rate, return_tensors="np")
        except Exception as error:  # of the library
            raise DataError(f"{self.record[_TYPE]} makes nothing of it: {first_line(error)}") from error
        return torch.from_numpy(np.asarray(found[self.input_name][0], np.float32))


def read_listening(path: Path) -> Listening:
    """The feature extractor of a folder, as transformers saves it.

    Raises:
        UsageError: there is none.
        DataError: it cannot be read.
    """
    try:
        files = {name: (path / name).read_text() for name in (EXTRACTOR, CONFIG) if (path / name).is_file()}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"feature extractor {path} cannot be read: {first_line(error)}") from error
    return listening_of(files, where=str(path))


def listening_of(files: Mapping[str, str], *, where: str) -> Listening:
    """The feature extractor that files describe, `preprocessor_config.json` and perhaps `config.json`, by name.

    Raises:
        UsageError: there is none, or none of sounds.
        DataError: the file cannot be read; `where` names it.
    """
    if EXTRACTOR not in files:
        cure = "AutoFeatureExtractor.from_pretrained(...).save_pretrained(FOLDER) writes it"
        raise UsageError(f"feature extractor {where}: there is no {EXTRACTOR}; {cure}")
    try:
        about, config = (json.loads(files.get(name, "{}")) for name in (EXTRACTOR, CONFIG))
        if not isinstance(about, dict) or not isinstance(config, dict):
            raise ValueError("expected an object")
    except ValueError as error:
        raise DataError(f"feature extractor {where}: {EXTRACTOR} is not JSON of one: {error}") from error
    if _TYPE not in about:
        library = import_extra("transformers", "transformers")
        known = library.models.auto.feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES
        about[_TYPE] = known.get(config.get("model_type"), "a file without feature_extractor_type")
    rate, (low, high) = about.get("sampling_rate"), _SAMPLE_RATES_HZ
    if not isinstance(rate, int) or not low <= rate <= high:
        raise DataError(f"feature extractor {where}: sampling_rate is {rate!r}, expected {low} to {high} Hz")
    found = Listening(json.dumps(about, sort_keys=True))
    try:
        _ = found.input_name
    except (DataError, UsageError) as error:
        raise type(error)(f"feature extractor {where}: {error}") from error
    return found
