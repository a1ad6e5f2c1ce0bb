"""`instar.load`: a trained network that takes what people have and answers with the names of classes."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instar.data import InMemoryDataset
from instar.data.columns import MASK_NAME
from instar.data.readers.images import ImageForm, content_of
from instar.deploy.exported import find_export, open_export
from instar.deploy.loading import find_fit, load_run_network
from instar.deploy.rows import PREPARATION, Rows
from instar.deploy.to_onnx import Session
from instar.errors import DataError, UsageError
from instar.evaluation import batch_size_on, predict_logits
from instar.naming import described
from instar.networks import change_normalisation_, forward_logits
from instar.networks.inputs import Normalisation
from instar.runs import Run
from instar.structures import (
    Form,
    Inputs,
    form_in_words,
    has_labels_at_each,
    is_plain,
    mask_place,
    predicts_next,
    read_form,
    without_ids,
    without_lengths,
)

_ROWS_AT_ONCE = 4096


class Model(nn.Module):
    """A trained network with its classes and its preprocessing, in evaluation mode.

    Args:
        network: takes normalised inputs, returns logits.
        class_names: in the order of the logits.
        input_shape: of one example, (channels, height, width) for pictures; a `structures.Form`.
        normalisation: `mean` and `std` of each channel, which the network needs; empty for none.
        scale: by which integers are multiplied first.
        pad: behind the end of shorter examples, as for `InMemoryDataset`.
        source: the run directory that it was loaded from, for errors.
        rows: what makes inputs of the rows of a table, for a network that takes such.

    Its `temperature`, 1 at first, divides the logits before the softmax of `predict_proba`.

    Example:
        >>> model = Model(nn.Flatten(), ["dark", "bright"], (1, 1, 2))
        >>> model.predict([torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0.2, 0.7]]])])
        ['dark', 'bright']
    """

    def __init__(
        self,
        network: nn.Module,
        class_names: Sequence[str],
        input_shape: Form,
        *,
        normalisation: Normalisation | None = None,
        scale: float = 1 / 255,
        pad: float | Mapping[str, float] = 0,
        source: Path | None = None,
        rows: Rows | None = None,
    ) -> None:
        super().__init__()
        self.temperature = 1.0
        self.network, self.class_names = network, tuple(class_names)
        self.input_shape: Form = read_form(input_shape)
        self.source, self.scale, self.pad, self.rows = source, scale, pad, rows
        self._shapes = [self.input_shape]
        if is_plain(self.input_shape) and len(self.input_shape) > 1:
            channels, *size = self.input_shape
            self._shapes += [(*size, channels)] + [tuple(size)] * (channels == 1)
        change_normalisation_(network, {}, normalisation or {})
        self.eval()

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits (batch, classes) of a batch as `preprocess` gives its examples, or of several tensors."""
        return forward_logits(self.network, inputs).float()

    def preprocess(self, example: Any) -> Tensor:
        """One example as the network's data has it, before normalisation: a float32 tensor of `input_shape`.

        Args:
            example: a picture's path, its bytes or a Pillow image, which is turned upright, converted to the
                network's colours, resized to its size and cropped, from 0 to 1; or a tensor or an array of
                `input_shape`. Integers are scaled as those of the data, pixels to 0 to 1; other numbers are taken
                as they are: as `gather` of the data gives them before normalisation.

        Raises:
            DataError: a picture that cannot be read, or values that are not finite.
            UsageError: another shape, or a picture for a network that takes none.
        """
        if is_picture(example):
            return self.picture(example).float() / 255
        try:
            values = torch.as_tensor(_plain_array(example) if isinstance(example, np.ndarray) else example)
        except (TypeError, ValueError, RuntimeError):  # of torch, for what is no number
            takes = form_in_words(self.input_shape)
            raise UsageError(f"an example is {described(example)}, this network takes arrays of {takes}") from None
        return self.preprocess_batch(values[None])[0]

    def preprocess_batch(self, examples: Tensor | NDArray[Any]) -> Tensor:
        """`preprocess` of several tensors or arrays of one shape, which are stacked: (batch, *input_shape).

        Raises:
            DataError, UsageError: as `preprocess`.
        """
        values = torch.as_tensor(_plain_array(examples) if isinstance(examples, np.ndarray) else examples)
        shape = tuple(values.shape[1:])
        if shape not in self._shapes:
            raise UsageError(f"an example has shape {shape}, this network takes {self.input_shape}")
        if shape != self.input_shape:  # height, width, channels; or height, width
            values = values.movedim(-1, 1) if len(shape) == len(self.input_shape) else values[:, None]
        found = values.float() if values.is_floating_point() else values.float() * self.scale
        if not bool(found.isfinite().all()):
            raise DataError("an example holds NaN or infinite values; leave it out, or replace them")
        return found

    def predict(self, examples: Any, *, batch_size: int | None = None) -> Any:
        """The name of the most probable class: of each of several examples, or of one.

        Raises:
            DataError, UsageError: as `preprocess`.
        """
        best = self.predict_proba(examples, batch_size=batch_size).argmax(-1)
        return (
            [self.class_names[number] for number in best.tolist()] if best.dim() else self.class_names[int(best)]
        )

    def predict_proba(self, examples: Any, *, batch_size: int | None = None) -> Tensor:
        """The probabilities of the classes, (examples, classes); (classes,) of one example.

        Args:
            examples: a list, or a batch as a tensor or an array, or one example. For a network of several tensors,
                or of integers, a batch as `InMemoryDataset` takes it, {"input_ids": lists of ids} for instance.
                For a network of rows, a row or several: mappings, a frame or a table, texts, or numbers in the
                order of the columns; tensors alone are taken as they are.
            batch_size: examples in one pass; `batch_size_on` the device by default.

        Raises:
            DataError, UsageError: as `preprocess`.
        """
        if self.rows is not None and self.rows.takes(examples):
            table, is_one = self.rows.table(examples)
            found = self.of_table(table, batch_size=batch_size)
            return found[0] if is_one else found
        if not is_plain(self.input_shape) and examples != []:
            return self._of_batch(examples, batch_size)
        several, batch_size = self._several(examples), batch_size or batch_size_on(self.device)
        parts = [torch.zeros(0, len(self.class_names))]
        for start in range(0, len(several), batch_size):
            some: Any = several[start : start + batch_size]
            is_stacked = isinstance(some, Tensor | np.ndarray)
            batch = self.preprocess_batch(some) if is_stacked else scaled([*map(self._one, some)])
            parts.append(self.probabilities(batch))
        found = torch.cat(parts)
        return found if several is examples else found[0]

    def of_table(self, table: Any, *, batch_size: int | None = None) -> Tensor:
        """The probabilities (rows, classes) of the rows of a table of Arrow.

        Raises:
            DataError: a row that cannot be used.
            UsageError: a column is missing, or the network takes no rows.
        """
        if self.rows is None:
            raise UsageError("rows were given, and this network was not trained on rows of a table")
        table, parts = self.rows.checked(table), [torch.zeros(0, len(self.class_names))]
        for start in range(0, len(table), _ROWS_AT_ONCE):
            some = table.slice(start, _ROWS_AT_ONCE)
            parts.append(self._of_batch(self.rows.inputs(some), batch_size, some))
        return torch.cat(parts)

    def _of_batch(self, inputs: Any, batch_size: int | None, table: Any = None) -> Tensor:
        """The probabilities of a batch as `InMemoryDataset` takes it; `table` has the rows that it was made of."""
        mask = None if is_plain(self.input_shape) else mask_place(self.input_shape)
        name = mask if mask is None or isinstance(mask, str) else MASK_NAME
        pad = self.pad
        if isinstance(pad, Mapping):  # other inputs than the network's are refused below
            pad = {one: value for one, value in pad.items() if one in inputs}
        data = InMemoryDataset(inputs, None, class_names=self.class_names, mask=name, pad=pad)
        own, theirs = without_lengths(self.input_shape), without_lengths(data.example_shape)
        if theirs not in (own, without_ids(own)):
            given, needed = form_in_words(data.example_shape), form_in_words(self.input_shape)
            raise UsageError(f"an example is {given}, this network takes {needed}")
        if self.rows is not None and table is not None:
            self.rows.give_sources(data, table)
        logits = predict_logits(self.network, data, batch_size=batch_size, device=self.device)
        return torch.softmax(logits / self.temperature, -1).cpu()

    def probabilities(self, batch: Tensor) -> Tensor:
        """The probabilities (batch, classes) of preprocessed examples at the model's `temperature`, on the CPU."""
        with torch.inference_mode():
            return torch.softmax(self(batch.to(self.device)) / self.temperature, -1).cpu()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next((value.device for value in self.parameters()), torch.device("cpu"))

    def _several(self, examples: Any) -> Sequence[Any]:
        """The examples; one is put into a list."""
        if isinstance(examples, (Tensor, np.ndarray)):
            shape = tuple(examples.shape)
            is_batch = shape not in self._shapes and shape[1:] in self._shapes
            return examples if is_batch else [examples]  # type: ignore[return-value]
        return examples if isinstance(examples, (list, tuple)) else [examples]

    def picture(self, picture: Any) -> Tensor:
        """A picture in the network's colours and size: `input_shape` uint8.

        Raises:
            DataError: it cannot be read.
            UsageError: the network takes no pictures.
        """
        form = self._form
        if isinstance(picture, (str, Path)):
            return form.decode(content_of(picture), picture)
        if isinstance(picture, bytes):
            return form.decode(picture, "the picture")
        return form.of_image(picture, "the picture")

    def _one(self, example: Any) -> Tensor:
        return self.picture(example) if is_picture(example) else self.preprocess(example)

    @functools.cached_property
    def _form(self) -> ImageForm:
        if not is_plain(self.input_shape) or len(self.input_shape) != 3 or self.input_shape[0] not in (1, 3):
            raise UsageError(f"a picture was given, and this network takes inputs of shape {self.input_shape}")
        channels, height, width = self.input_shape
        return ImageForm("L" if channels == 1 else "RGB", height, width, fit=True)


def scaled(examples: Sequence[Tensor]) -> Tensor:
    """Examples as one batch: `Model.picture` gives pixels, which are scaled together, since that is faster.

    Example:
        >>> scaled([torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([0.5, 1.0])]).tolist()
        [[0.0, 1.0], [0.5, 1.0]]
    """
    if all(one.dtype == torch.uint8 for one in examples):
        return torch.stack([*examples]).float() / 255
    return torch.stack([one.float() / 255 if one.dtype == torch.uint8 else one for one in examples])


def is_picture(example: Any) -> bool:
    """Whether an example is a picture's path, its bytes or a Pillow image."""
    return isinstance(example, str | Path | bytes) or hasattr(example, "getexif")


def _plain_array(array: NDArray[Any]) -> NDArray[Any]:
    """An array that torch takes: numbers in the byte order of this machine, none of them stored backwards.

    Raises:
        DataError: it holds no numbers.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array of {array.dtype} was given, expected numbers")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def load(run: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """A trained network with its classes and preprocessing, from the run directory that it was trained in.

    Args:
        run: `RUN`, `RUN:job`, `RUN:student-distilled/seed-3`, or the folder of a fit, which may have been moved:
            neither the data nor the rest of the run is needed. A run of `instar distill` means its students, the
            distilled and the one alone. Of these and of several seeds the one with the fewest validation errors is
            taken; the negative log-likelihood breaks ties of seeds, and of students the distilled is taken. Or a
            folder of `instar export`, but for torch, or a file in it.
        device: where it computes.

    Raises:
        UsageError: there is no such run, it has several networks and none is named, the function of a `python:`
            network is not there, or the network answers at each position.
        RunError: the fit is not finished, or its weights or the export are damaged.

    Example:
        >>> load("runs/distill/digits").predict(["seven.png"])  # doctest: +SKIP
        ['7']
    """
    if (file := find_export(Path(run))) is not None:
        return _exported(file, device)
    path = find_fit(run)
    config = Run.read(path).config
    require_one_answer(path, config)
    return Model(
        load_run_network(path),
        config["class_names"],
        config["input_shape"],
        normalisation=config.get("normalisation"),
        scale=config.get("scale", 1 / 255),  # which runs of before do not state
        pad=config.get("pad", 0),
        source=path,
        rows=Rows.read(path, config["preparation"]) if "preparation" in config else None,
    ).to(device)


def require_one_answer(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a network of a run that answers at each position of an example, not once for it.

    Raises:
        UsageError: it does; says how it is loaded all the same.
    """
    if has_labels_at_each(form := read_form(config["input_shape"])):
        what = "a language model" if predicts_next(form) else "a network of classes of words"
        raise UsageError(
            f"{path} is {what}, which instar.load, predict, export and serve do not take yet; "
            f"instar.deploy.load_run_network({str(path)!r}) is the network, a module of torch"
        )


def _exported(file: Path, device: str | torch.device) -> Model:
    network, about = open_export(file)
    if isinstance(network, Session) and torch.device(device).type != "cpu":
        raise UsageError(f"{file} runs on the CPU; instar export --to safetensors is for device {str(device)!r}")
    own = None if isinstance(network, Session) else about["normalisation"]  # an ONNX file normalises by itself
    shape, scale, checksum = about["input_shape"], about["scale"], about["sha256"].get(PREPARATION)
    rows = None if checksum is None else Rows.read(file.parent, checksum)
    model = Model(network, about["class_names"], shape, normalisation=own, scale=scale, source=file, rows=rows)
    return model.to(device)
