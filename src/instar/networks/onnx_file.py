"""A teacher in an ONNX file, run by onnxruntime."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import DataError, UsageError, first_line
from instar.files import file_hash
from instar.naming import import_extra
from instar.networks.estimator_files import named_in_file
from instar.networks.estimators import PIXELS

_EXPORT = "instar.json"  # beside the files of our own exports, which normalise their inputs themselves
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxTeacher:
    """A network in an ONNX file as a teacher.

    It sees the examples as the data gives them, with the size and the normalisation of the data; a file of `instar
    export` sees them without normalisation, which it does itself. The names of its classes are those of the
    export, or the lines of `FILE.classes.txt` beside `FILE.onnx`; else its classes are those of the data in their
    order.

    Args:
        path: the file; its external data lie where it says.
        output: the name of the output to take, where there are several.
        example_shape: of the data.
        name: of the teacher, for messages.

    Raises:
        UsageError: onnxruntime is not installed, there is no such file; several inputs or outputs; another shape
            or type of the input.
        DataError: the file or its external data cannot be read.
    """

    def __init__(
        self, path: Path, *, output: str | None = None, example_shape: Sequence[int], name: str = "the teacher"
    ) -> None:
        self._name, content = name, file_hash(path)
        onnx, runtime = import_extra("onnx", "onnx"), import_extra("onnxruntime", "onnx")
        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:  # of protobuf
            raise DataError(f"{name}: {path} is no ONNX file: {first_line(error)}") from error
        outside = [file_hash(file) for file in _external_files(name, path, model)]
        export = _export(name, path, content)
        self.class_names = export.get("class_names") or named_in_file(path)
        self.fingerprint = hashlib.sha256(" ".join([content, *outside, output or ""]).encode()).hexdigest()
        if export:
            self.input_normalisation = PIXELS
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime, which has many
            raise DataError(f"{name}: onnxruntime cannot load {path}: {first_line(error)}") from error
        self._output = self._chosen_output(output)
        self._read_input(tuple(example_shape))

    def _chosen_output(self, wanted: str | None) -> str:
        outputs = self._session.get_outputs()
        names = [one.name for one in outputs]
        if wanted is not None and wanted not in names:
            raise UsageError(f"{self._name} has no output {wanted!r}; it has {', '.join(names)}")
        if wanted is None and len(outputs) > 1:
            shown = ", ".join(f"{one.name} {_shape(one.shape)}" for one in outputs)
            raise UsageError(f"{self._name} has {len(outputs)} outputs: {shown}; say which, onnx:FILE#{names[-1]}")
        chosen = outputs[0] if wanted is None else outputs[names.index(wanted)]
        if not chosen.type.startswith("tensor("):
            raise UsageError(
                f"{self._name}: output {chosen.name} is {chosen.type}, expected a tensor of numbers; export it "
                'with options={"zipmap": False} (skl2onnx)'
            )
        return str(chosen.name)

    def _read_input(self, example_shape: tuple[int, ...]) -> None:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise UsageError(f"{self._name} takes {len(inputs)} inputs ({names}), an example of the data is one")
        (only,) = inputs
        if only.type not in _TYPES:
            raise UsageError(
                f"{self._name}: input {only.name} is {only.type}, expected one of {', '.join(_TYPES)}"
            )
        self._input, self._type = only.name, _TYPES[only.type]
        shape = list(only.shape) or [None]
        self._batch_size = shape[0] if isinstance(shape[0], int) else None
        flat = len(shape) == 2 and len(example_shape) > 1
        self._shape = (int(np.prod(example_shape)),) if flat else example_shape
        wanted = shape[1:]
        fits = len(wanted) == len(self._shape) and all(
            not isinstance(size, int) or size == own for size, own in zip(wanted, self._shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"{self._name} takes examples of shape {_shape(wanted)}, those of the data are "
                f"{_shape(example_shape)}"
                "; --image-size and --colour change pictures"
            )

    def __call__(self, examples: Tensor) -> NDArray[Any]:
        """What the file answers, (batch, classes); a batch of fixed size is filled up with copies."""
        rows = examples.reshape(len(examples), *self._shape).numpy()
        if np.issubdtype(self._type, np.integer) and not (rows == np.round(rows)).all():
            raise UsageError(f"{self._name} takes whole numbers, the examples of the data are others")
        rows = rows.astype(self._type, copy=False)
        size = self._batch_size or len(rows)
        parts = [self._answer(rows[start : start + size], size) for start in range(0, len(rows), size)]
        return np.concatenate(parts)

    def _answer(self, rows: NDArray[Any], size: int) -> NDArray[Any]:
        filled = (
            np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)]) if len(rows) < size else rows
        )
        try:
            (found,) = self._session.run([self._output], {self._input: filled})
        except Exception as error:  # of onnxruntime, which has many
            raise UsageError(
                f"{self._name} does not take a batch of {len(filled)}: {first_line(error)}; export it with a "
                "batch of any size"
            ) from error
        answers = np.asarray(found)
        if answers.ndim != 2 or len(answers) != len(filled):
            raise UsageError(
                f"{self._name} gives {_shape(answers.shape)} for {len(filled)} examples, not rows of classes"
            )
        return answers[: len(rows)]


def _export(name: str, path: Path, content: str) -> dict[str, Any]:
    """What `instar export` says of a file that it wrote; empty for any other file.

    Raises:
        DataError: the file was changed since.
    """
    try:
        about = dict(json.loads((path.parent / _EXPORT).read_bytes()))
        written = about["sha256"][path.name] if about["format"] == "instar-export" else None
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    if written not in (None, content):
        raise DataError(f"{name}: {path} is not the file that was exported, its checksum is another one")
    return about if written else {}


def _external_files(name: str, path: Path, model: Any) -> list[Path]:
    """The files that hold weights of a model, in the order of their names.

    Raises:
        DataError: one is not there.
    """
    found = {
        entry.value
        for tensor in _tensors(model.graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path.parent / location for location in sorted(found)]
    for file in files:
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise DataError(f"{name}: its weights are said to lie in {file}, outside of the folder of {path}")
        if not file.is_file():
            raise DataError(
                f"{name}: its weights are in a file of their own, {file}, which is not there; put it there"
            )
    return files


def _tensors(graph: Any) -> list[Any]:
    """The tensors in a graph and in the graphs inside of it: initialisers, and attributes of its nodes."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                found += _tensors(inner) if inner.node else []
    return found


def _shape(sizes: Sequence[Any]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"
