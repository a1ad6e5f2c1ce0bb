"""What people have: arrays, lists, and the data sets and loaders of torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from instar.data import as_dataset, load_data
from instar.errors import DataError, DataWarning, UsageError
from instar.networks.libraries.operators import repair_torchvision

GENERATOR = torch.Generator().manual_seed(0)
INPUTS, LABELS = torch.randn(30, 4, generator=GENERATOR), torch.arange(30) % 3
EXPECTED = as_dataset((INPUTS, LABELS))


class Pairs(TorchDataset[Any]):
    """A data set as people write them; it counts how often it is read."""

    classes = ("cat", "dog", "lynx")

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 30

    def __getitem__(self, row: int) -> Any:
        self.read += 1
        return INPUTS[row], int(LABELS[row])


class Mappings(Pairs):
    """As those of transformers: a mapping with labels, tokens of their own length."""

    def __getitem__(self, row: int) -> Any:
        return {"input_ids": list(range(1, 2 + row % 5)), "token_type_ids": [0] * (1 + row % 5), "labels": row % 3}


class Several(Pairs):
    """Two inputs and a label."""

    def __getitem__(self, row: int) -> Any:
        return INPUTS[row].numpy(), np.int64(row), np.array(row % 3)


class Augmented(Pairs):
    """Random each time."""

    def __getitem__(self, row: int) -> Any:
        return INPUTS[row] + torch.rand(4), 1


class SameMemory(Pairs):
    """Gives the same tensor each time, with other values."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = torch.zeros(4)

    def __getitem__(self, row: int) -> Any:
        return self.buffer.copy_(INPUTS[row]), int(LABELS[row])


@pytest.mark.parametrize(
    "given",
    [
        (INPUTS.numpy(), LABELS.numpy()),
        (INPUTS.numpy(), LABELS.tolist()),
        (INPUTS.numpy().astype(">f8"), LABELS.numpy().astype(np.int16)),
        (INPUTS.numpy()[::-1][::-1], LABELS.numpy()[::-1][::-1]),
        (list(INPUTS), LABELS),
        (INPUTS.tolist(), LABELS.tolist()),
        TensorDataset(INPUTS, LABELS),
        Subset(TensorDataset(INPUTS, LABELS), range(30)),
        ConcatDataset([TensorDataset(INPUTS[:9], LABELS[:9]), TensorDataset(INPUTS[9:], LABELS[9:])]),
        SameMemory(),
    ],
)
def test_the_same_examples_are_the_same_data(given: Any) -> None:
    found = as_dataset(given, class_names=EXPECTED.class_names)
    assert torch.equal(found.ids, EXPECTED.ids)
    assert torch.equal(found.gather(found.ids, 0), INPUTS)
    assert found.fingerprint == EXPECTED.fingerprint


def test_an_array_that_cannot_be_written_to_is_copied() -> None:
    array = INPUTS.numpy().copy()
    array.flags.writeable = False
    assert torch.equal(as_dataset((array, LABELS)).ids, EXPECTED.ids)


def test_a_data_set_of_torch_is_read_once() -> None:
    data = Pairs()
    found = as_dataset(data)
    assert data.read <= 30 + 16
    assert found.class_names == Pairs.classes
    assert torch.equal(found.ids, EXPECTED.ids)
    assert as_dataset(Subset(data, range(5))).class_names == Pairs.classes


def test_mappings_and_several_inputs_of_a_data_set_of_torch() -> None:
    found = as_dataset(Mappings())
    batch = found.gather(found.ids[:3], 0)
    assert list(batch) == ["input_ids", "token_type_ids", "attention_mask"]
    assert batch["input_ids"].tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    numbers, rows = as_dataset(Several()).gather(as_dataset(Several()).ids, 0)
    assert torch.equal(numbers, INPUTS)
    assert rows.tolist() == list(range(30))
    several = TensorDataset(INPUTS, torch.arange(30)[:, None], LABELS)
    assert as_dataset(several).example_shape == ((4,), ("int64", 1))


def test_of_a_loader_the_data_set_is_taken_and_that_is_said() -> None:
    with pytest.warns(DataWarning, match="its data set is taken, its batches are not") as said:
        found = as_dataset(DataLoader(TensorDataset(INPUTS, LABELS), batch_size=8, shuffle=True))
    assert len(said) == 1
    assert torch.equal(found.ids, EXPECTED.ids)


def test_examples_without_labels_are_a_pair_with_none() -> None:
    assert as_dataset((INPUTS, None), class_names=["a", "b"]).labels(EXPECTED.ids).tolist() == [-1] * 30


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield INPUTS[0], 0


class Broken(Pairs):
    def __getitem__(self, row: int) -> Any:
        raise OSError("no such\nfile")


class Empty(Pairs):
    def __len__(self) -> int:
        return 0


class Alone(Pairs):
    def __getitem__(self, row: int) -> Any:
        return INPUTS[row]


class Texts(Pairs):
    def __getitem__(self, row: int) -> Any:
        return "text", 1


class Soft(Pairs):
    def __getitem__(self, row: int) -> Any:
        return INPUTS[row], torch.tensor([0.5, 0.5])


class Measured(Pairs):
    def __getitem__(self, row: int) -> Any:
        return INPUTS[row], 0.25 * row


class Changing(Pairs):
    def __getitem__(self, row: int) -> Any:
        return {"a" if row < 9 else "b": INPUTS[row], "label": 1}


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (Stream(), UsageError, "Stream: it gives no example by its number"),
        (Augmented(), DataError, "Augmented: example 0 is another one when it is read again"),
        (Broken(), DataError, r"Broken\[0\]: cannot be read: OSError: no such file"),
        (Empty(), DataError, "Empty has no example"),
        (Alone(), UsageError, r"Alone\[0\]: expected \(inputs, label\).* found Tensor; without labels"),
        (Texts(), UsageError, r"Texts\[0\]: expected a tensor, an array or a list of numbers, found 'text'"),
        (Soft(), UsageError, "labels: a row has 2 numbers, and there are 3 classes"),
        (Measured(), UsageError, r"the label of Measured\[0\]: expected the number of a class or a probability"),
        (Changing(), UsageError, "Changing: its examples differ in structure"),
        (TensorDataset(INPUTS), UsageError, "TensorDataset: it has one tensor"),
        ((INPUTS, ["a"] * 30), UsageError, "labels: expected a tensor, an array or a list of numbers"),
        ((INPUTS, None), UsageError, "does not tell the classes: name them"),
        ((INPUTS, LABELS.double()), UsageError, "labels should be integers"),
        ((INPUTS, LABELS[:9]), DataError, "30 inputs and 9 labels"),
        ([INPUTS, LABELS], UsageError, "found a list of Tensor, Tensor"),
        ({"x": INPUTS}, UsageError, "found dict"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        as_dataset(given)
    assert "\n" not in str(caught.value)


def test_everything_that_takes_data_takes_these() -> None:
    import instar

    network = torch.nn.Linear(4, 3)
    data: Any = TensorDataset(INPUTS, LABELS)
    instar.distill(network, torch.nn.Linear(4, 3), data, validation=data and None, epochs=1)
    assert instar.evaluate(network, (INPUTS.numpy(), LABELS.tolist())) == instar.evaluate(network, EXPECTED)
    probs: Tensor = instar.Teacher(network, data, temperature=1.0)(EXPECTED.ids, 0).probs
    assert probs.shape == (30, 3)


def test_a_folder_of_pictures_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    repair_torchvision()  # which may be there beside a torch of another build
    datasets = pytest.importorskip("torchvision.datasets")
    transforms = pytest.importorskip("torchvision.transforms")
    chance = np.random.default_rng(0)
    for name in ("bee", "ant", "wasp"):
        (tmp_path / name).mkdir()
        for number, ending in enumerate(["png", "jpg"] * 5):
            pixels = chance.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.{ending}")
    theirs = datasets.ImageFolder(str(tmp_path), transforms.PILToTensor())
    given = as_dataset(theirs)
    assert given.class_names == ("ant", "bee", "wasp") == tuple(theirs.classes)
    splits = load_data(f"folder:{tmp_path}", progress=False)
    assert splits.train.class_names == given.class_names
    found = {}
    for part in (splits.train, splits.validation, splits.test):
        for name, image, label in zip(
            part.names(part.ids), part.gather(part.ids, 0), part.labels(part.ids).tolist(), strict=True
        ):
            found[name] = (image, label)
    assert len(found) == len(theirs) == 30
    for (file, label), image in zip(theirs.samples, given.gather(given.ids, 0), strict=True):
        assert found[file][1] == label
        assert torch.equal(found[file][0], image)


def test_labels_in_a_column_are_no_distributions() -> None:
    for labels in (torch.arange(6)[:, None], torch.tensor([[0], [1]] * 3)):
        with pytest.raises(DataError, match=r"the shape \(6, 1\), expected \(6,\): give labels\[:, 0\]"):
            as_dataset((torch.zeros(6, 2), labels))
