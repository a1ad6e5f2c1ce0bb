"""A teacher in an ONNX file, run by onnxruntime."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import DataError, UsageError, first_line
from instar.export_record import about_file
from instar.files import file_hash
from instar.naming import import_extra
from instar.networks.estimator_files import named_in_file
from instar.networks.estimators import PIXELS
from instar.structures import (
    Form,
    Inputs,
    examples_in,
    form_in_words,
    is_plain,
    is_structure,
    num_examples,
    num_values,
    tensors_in,
    varies,
)

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}

_AT_ONCE = 128
"""Examples in a run of onnxruntime: few enough that the outputs of a layer stay in the cache."""
_BYTES_AT_ONCE = 2**22
"""Of examples that are gathered and checked together, for several runs: for a small network that takes a third as
long as its runs otherwise."""


class _Input(NamedTuple):
    """An input of the file: its name, the type that it takes, and whether examples are rows of numbers to it."""

    name: str
    type: Any
    is_flat: bool


class OnnxTeacher:
    """A network in an ONNX file as a teacher.

    It sees the examples as the data gives them, with the size and the normalisation of the data; a file of `instar
    export` sees them without normalisation, which it does itself. The names of its classes are those of the
    export, or the lines of `FILE.classes.txt` beside `FILE.onnx`; else its classes are those of the data in their
    order.

    Args:
        path: the file; its external data lie where it says.
        output: the name of the output to take, where there are several.
        example_shape: the form of an example of the data. The tensors of a mapping are given to the inputs of
            their names, those of a tuple to the inputs in their order.
        name: of the teacher, for messages.

    Raises:
        UsageError: onnxruntime is not installed, there is no such file; several outputs of which none is named;
            other inputs than an example has tensors, or of another shape or type.
        DataError: the file or its external data cannot be read.
        RunError: it was changed since `instar export` wrote it.
    """

    def __init__(
        self, path: Path, *, output: str | None = None, example_shape: Form, name: str = "the teacher"
    ) -> None:
        self._name, content = name, file_hash(path)
        export = about_file(path)  # ours normalise their inputs themselves
        onnx, runtime = import_extra("onnx", "onnx"), import_extra("onnxruntime", "onnx")
        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:  # of protobuf
            raise DataError(f"{name}: {path} is no ONNX file: {first_line(error)}") from error
        outside = [file_hash(file) for file in _external_files(name, path, model)]
        self.class_names = named_in_file(path) if export is None else export["class_names"]
        self.fingerprint = hashlib.sha256(" ".join([content, *outside, output or ""]).encode()).hexdigest()
        if export is not None:
            self.input_normalisation = PIXELS
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime, which has many
            raise DataError(f"{name}: onnxruntime cannot load {path}: {first_line(error)}") from error
        self._output = self._chosen_output(output)
        self._inputs = self._read_inputs(example_shape)
        size = self._batch_size or _AT_ONCE
        # Examples that vary in length are padded to the longest of those that are gathered together.
        fitting = _BYTES_AT_ONCE // (4 * num_values(example_shape)) if is_plain(example_shape) else 0
        self.examples_at_once = max(fitting, _AT_ONCE) // size * size or size

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

    def _read_inputs(self, form: Form) -> list[_Input]:
        """The inputs in the order of the tensors of an example."""
        inputs = {one.name: one for one in self._session.get_inputs()}
        tensors = tensors_in(examples_in(form, 1))
        names = list(form) if isinstance(form, Mapping) else list(inputs)
        if sorted(names) != sorted(inputs) or len(tensors) != len(inputs):
            raise UsageError(
                f"{self._name} takes {len(inputs)} input{'s' * (len(inputs) != 1)} ({', '.join(inputs)}), an "
                f"example of the data is {form_in_words(form)}; give it a tensor for each, by their names"
            )
        shape = inputs[names[0]].shape or [None]
        self._batch_size = shape[0] if isinstance(shape[0], int) else None
        forms = tensors_in(form) if is_structure(form) else [form]
        return [
            self._read_input(inputs[name], tuple(tensor.shape[1:]), varies(part))
            for name, tensor, part in zip(names, tensors, forms, strict=True)
        ]

    def _read_input(self, given: Any, sizes: tuple[int, ...], any_length: bool) -> _Input:
        """One input, which gets tensors of these sizes, the first of which may be shorter."""
        if given.type not in _TYPES:
            raise UsageError(
                f"{self._name}: input {given.name} is {given.type}, expected one of {', '.join(_TYPES)}"
            )
        shape = list(given.shape) or [None]
        is_flat, wanted = len(shape) == 2 and len(sizes) > 1, shape[1:]
        own = [None, *sizes[1:]] if any_length else [int(np.prod(sizes))] if is_flat else list(sizes)
        fits = len(wanted) == len(own) and all(
            not isinstance(size, int) or size == there for size, there in zip(wanted, own, strict=True)
        )
        if not fits:
            what, shown = (
                ("examples" if len(self._session.get_inputs()) == 1 else given.name),
                [None, *sizes[1:]] if any_length else sizes,
            )
            raise UsageError(
                f"{self._name} takes {what} of shape {_shape(wanted)}, those of the data are {_shape(shown)}"
                "; --image-size and --colour change pictures"
            )
        return _Input(given.name, _TYPES[given.type], is_flat and not any_length)

    def __call__(self, examples: Inputs) -> NDArray[Any]:
        """What the file answers, (batch, classes); a batch of fixed size is filled up with copies."""
        rows = {
            one.name: self._as_rows(one, tensor)
            for one, tensor in zip(self._inputs, tensors_in(examples), strict=True)
        }
        number = num_examples(examples)
        size = self._batch_size or _AT_ONCE
        parts = [
            self._answer({name: one[start : start + size] for name, one in rows.items()})
            for start in range(0, number, size)
        ]
        return np.concatenate(parts)

    def _as_rows(self, given: _Input, tensor: Tensor) -> NDArray[Any]:
        rows: NDArray[Any] = (tensor.flatten(1) if given.is_flat else tensor).numpy()
        if (
            tensor.is_floating_point()
            and not np.issubdtype(given.type, np.floating)
            and not (rows == np.round(rows)).all()
        ):
            raise UsageError(f"{self._name} takes whole numbers as {given.name}, those of the data are others")
        return rows.astype(given.type, copy=False)

    def _answer(self, rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        number = len(next(iter(rows.values())))
        size = self._batch_size or number
        filled = {name: _filled_up(one, size) for name, one in rows.items()} if number < size else rows
        try:
            (found,) = self._session.run([self._output], filled)
        except Exception as error:  # of onnxruntime, which has many
            raise UsageError(
                f"{self._name} does not take a batch of {size}: {first_line(error)}; export it "
                "with a batch of any size"
            ) from error
        answers = np.asarray(found)
        if answers.ndim != 2 or len(answers) != size:
            raise UsageError(
                f"{self._name} gives {_shape(answers.shape)} for {size} examples, not rows of classes"
            )
        return answers[:number]


def _filled_up(rows: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


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
