"""Whether a model file answers as the network that it was made from: a fresh process opens it and is asked."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from instar import metrics
from instar.errors import RunError
from instar.structures import Form, Inputs, by_name, mask_place, varies

BOUND = 1e-4
"""How far a logit may be off, as a share of the largest logit, or of 1 where all are smaller."""

INT8_BOUND = 0.5
"""Points of validation errors that int8 may lose before it is said that it lost too many."""


class Examples(NamedTuple):
    """What a file is judged by: inputs before normalisation, labels, and the true answers."""

    inputs: Inputs
    """(examples, *shape) float32, or of the structure of the data"""
    labels: Tensor
    logits: Tensor
    """of the network that is exported, in its run"""
    form: Form | None = None
    """of an example; None for a single tensor of numbers"""


class Answers(NamedTuple):
    """What a fresh process found."""

    batches: Tensor
    """(examples, classes), in batches of 64"""
    singles: Tensor
    """of the first ones, one by one"""
    latency_1_ms: float
    latency_64_ms: float


class Parity(NamedTuple):
    """A row of the table: a model file beside the network of the run."""

    file: str
    bytes: int
    num_examples: int
    errors: int
    """on validation"""
    run_errors: int
    agreement: float
    """share of the examples with the same class"""
    largest_difference: float
    """of a logit, over batches of 64 and of 1"""
    largest_logit: float
    latency_1_ms: float
    """one thread; so is the next"""
    latency_64_ms: float

    @property
    def points_lost(self) -> float:
        """More errors than the run has, in points."""
        return 100 * (self.errors - self.run_errors) / max(self.num_examples, 1)

    @property
    def is_within_bound(self) -> bool:
        """Whether all logits are those of the run; false for a NaN."""
        return self.largest_difference <= BOUND * max(1.0, self.largest_logit)


def answers(kind: str, file: Path, inputs: Inputs, form: Form | None = None) -> Answers:
    """The answers of a model file in a fresh process.

    Args:
        kind: onnx, torch, safetensors, transformers or timm.
        file: the model file.
        inputs: (examples, *shape) float32, or of the structure of the data. Padded examples are asked as they
            would be alone: a batch is cut to its longest.
        form: of an example; None for a single tensor of numbers.

    Raises:
        RunError: the process failed; quotes its last line.
    """
    with TemporaryDirectory() as folder:
        asked, answered = Path(folder), Path(folder, "logits.npz")
        for name, one in by_name(inputs).items():
            np.save(asked / f"{name}.npy", one.numpy())
        (asked / "about.json").write_text(json.dumps(_about(inputs, form)))
        script = Path(__file__).with_name("answering.py")
        command = [sys.executable, "-P", str(script), kind, str(file), str(asked), str(answered)]
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, env=paths)
        if done.returncode:
            words = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise RunError(f"{file.name} cannot be used by a fresh process: {words}")
        with np.load(answered, allow_pickle=False) as logits:
            batches, singles = (torch.from_numpy(logits[name]) for name in ("batches", "singles"))
        return Answers(batches, singles, *json.loads(done.stdout.splitlines()[-1]))


def _about(inputs: Inputs, form: Form | None) -> dict[str, Any]:
    """What a fresh process has to know of the inputs: their names and structure, and how they are cut."""
    names = list(by_name(inputs))
    about = {"names": names, "is_tuple": isinstance(inputs, tuple), "mask": None, "varying": []}
    place = None if form is None else mask_place(form)
    if form is not None and place is not None:
        parts = list(form.values()) if isinstance(form, Mapping) else form
        varying = [name for name, part in zip(names, parts, strict=True) if varies(part)]
        about |= {"mask": place if isinstance(place, str) else names[place], "varying": varying}
    return about


def parity(file: Path, found: Answers, examples: Examples) -> Parity:
    """A model file's answers beside those of the network that it was made from."""
    expected = examples.logits
    apart = [_largest(found.batches - expected), _largest(found.singles - expected[: len(found.singles)])]
    return Parity(
        file.name,
        file.stat().st_size,
        len(expected),
        int(metrics.errors(found.batches, examples.labels)),
        int(metrics.errors(expected, examples.labels)),
        metrics.agreement(found.batches, expected),
        float("nan") if any(map(np.isnan, apart)) else max(apart),
        _largest(expected),
        found.latency_1_ms,
        found.latency_64_ms,
    )


def check(row: Parity, source: object) -> None:
    """Refuse a file whose logits are not those of the run.

    Raises:
        RunError: says what differed.
    """
    if not row.is_within_bound:
        raise RunError(
            f"{source}: {row.file} does not answer as the run does: a logit differs by "
            f"{row.largest_difference:.3g} (at most {BOUND * max(1.0, row.largest_logit):.3g} is let through), "
            f"{row.agreement:.1%} of {row.num_examples:,} validation examples get the same class; nothing was kept"
        )


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
