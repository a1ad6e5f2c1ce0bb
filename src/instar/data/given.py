"""What people have, as a data set: pairs of inputs and labels, and the data sets and loaders of torch."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from instar.data.checks import as_tensor, distributions
from instar.data.columns import MASK_NAME, columns_of, contents
from instar.data.dataset import Dataset
from instar.data.identity import content_ids, order_of_copies
from instar.data.memory import InMemoryDataset
from instar.data.tagged import TaggedSequences
from instar.errors import DataError, DataWarning, UsageError
from instar.losses import NO_LABEL
from instar.naming import described
from instar.structures import map_tensors, tensors_in

GivenData = Dataset | tuple[Any, Any] | TorchDataset[Any] | DataLoader[Any]
"""Whatever `as_dataset` takes."""

_READ_AGAIN = 16  # examples, to find out whether they are the same each time
_LABELS = ("labels", "label")


def as_dataset(
    data: GivenData,
    *,
    class_names: Sequence[str] | None = None,
    mask: str | None = MASK_NAME,
    pad: float | Mapping[str, float] = 0,
) -> Dataset:
    """A data set unchanged, or what people have as a data set in memory.

    A network is called as `network(x)` where an example is a tensor, as `network(**mapping)` where it is a
    mapping, and as `network(*tuple)` where it is a tuple. uint8 are pixels; other integers stay what they are.

    Args:
        data: a data set, or a pair (inputs, labels): inputs as `InMemoryDataset` takes them, tensors, arrays or
            lists, or a mapping or a tuple of these; labels (n,) as a tensor, an array or a list, -1 for none, or
            distributions or one-hot (n, classes), 0 for none, or None; or a list of labels for each sequence
            (`TaggedSequences`). Or a data set of torch with a length: each example a tuple whose last is the
            label or a distribution, or a mapping with `labels` or `label`; it is read once. Of a `DataLoader` its
            data set is taken.
        class_names: by default `classes` of a data set of torch, where it has them, or "0", "1", ... up to the
            largest label.
        mask, pad: of examples that vary in length, as for `InMemoryDataset`.

    Raises:
        DataError: the tensors are not valid, see `InMemoryDataset`; an example of a data set of torch cannot be
            read, or is another one when it is read again.
        UsageError: none of these, or the labels do not tell the classes.

    Warns:
        DataWarning: of a `DataLoader`, whose batches and order are not taken.

    Example:
        >>> as_dataset((torch.rand(4, 8), torch.tensor([0, 1, 2, 0]))).class_names
        ('0', '1', '2')
        >>> texts = as_dataset(({"input_ids": [[5, 3, 9], [8], [4, 4]]}, [0, 1, 0]))
        >>> texts.example_shape["input_ids"], texts.gather(texts.ids[1:], 0)["attention_mask"].tolist()
        (('int64', '<=3'), [[1, 0], [1, 1]])
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, DataLoader):
        warnings.warn(
            "DataLoader: its data set is taken, its batches are not (batch_size, sampler, collate_fn): batch_size "
            "and sampler are options of a fit",
            DataWarning,
            stacklevel=2,
        )
        data = data.dataset
    if isinstance(data, TorchDataset):
        class_names = _classes_of(data) if class_names is None else class_names
        data = _read(data)
    if not (isinstance(data, tuple) and len(data) == 2):
        raise UsageError(f"data should be a Dataset or a pair (inputs, labels), found {_in_words(data)}")
    inputs, labels = data
    tags: list[Any] = labels if _are_tags(labels) else []
    if tags:
        labels = torch.cat([as_tensor("labels", one).flatten() for one in tags])
    elif labels is not None:
        labels = as_tensor("labels", labels)
        if labels.dim() == 2:
            numbers, probs = distributions("labels", labels)
            num_classes = labels.shape[1]
            class_names = [str(number) for number in range(num_classes)] if class_names is None else class_names
            if len(class_names) != num_classes:
                raise UsageError(
                    f"labels: a row has {num_classes} numbers, and there are {len(class_names)} classes"
                )
            inputs = columns_of(inputs, mask=mask, pad=pad)
            ids = None
            if probs is not None and len(labels) == len(tensors_in(inputs)[0]):
                ids = content_ids(contents(inputs), order_of_copies(numbers, probs))
            return InMemoryDataset(inputs, numbers, class_names=class_names, ids=ids).with_label_probs(probs)
    if class_names is None:
        largest = NO_LABEL if labels is None or not labels.numel() else int(labels.max())
        if largest < 1 and (labels is None or len(labels)):
            raise UsageError(
                f"the largest label is {largest}, which does not tell the classes: name them all, with "
                "instar.data.as_dataset((inputs, labels), class_names=[...])"
            )
        class_names = [str(number) for number in range(largest + 1)]
    if tags:
        return TaggedSequences(inputs, tags, class_names=class_names, mask=mask, pad=pad)
    return InMemoryDataset(inputs, labels, class_names=class_names, mask=mask, pad=pad)


def _are_tags(labels: Any) -> bool:
    """Whether labels are lists of integers, or tensors of them in one dimension, one for each sequence."""

    def is_one(one: Any) -> bool:
        if isinstance(one, Tensor):
            return one.dim() == 1 and not one.is_floating_point()
        return isinstance(one, list) and all(isinstance(number, int) for number in one)

    return isinstance(labels, list) and bool(labels) and all(map(is_one, labels))


def _read(data: TorchDataset[Any]) -> tuple[Any, Any]:
    """All examples of a data set of torch, read once: (inputs, labels)."""
    kind = type(data).__name__
    if isinstance(data, TensorDataset):
        *tensors, labels = data.tensors
        if not tensors:
            raise UsageError("TensorDataset: it has one tensor, expected inputs and labels")
        return tensors[0] if len(tensors) == 1 else tuple(tensors), labels
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise UsageError(f"{kind}: it gives no example by its number; give inputs and labels of all its examples")
    num_examples = len(data)
    if not num_examples:
        raise DataError(f"the data set is empty: {kind} has no example")
    read = [_example(data, row) for row in range(num_examples)]
    for row in range(0, num_examples, -(-num_examples // _READ_AGAIN)):
        if not _are_same(read[row], _example(data, row)):
            raise DataError(
                f"{kind}: example {row} is another one when it is read again, and teacher and student would see "
                "different examples: leave its random transforms out; data.with_views makes views that both see"
            )
    inputs: list[Any] = [example for example, _ in read]
    labels = _labels(kind, [label for _, label in read])
    if len({_outline(example) for example in inputs}) > 1:
        raise UsageError(f"{kind}: its examples differ in structure; give each the same tensors")
    if isinstance(inputs[0], Mapping):
        return {name: _together([one[name] for one in inputs]) for name in inputs[0]}, labels
    if isinstance(inputs[0], tuple):
        return tuple(_together(list(parts)) for parts in zip(*inputs, strict=True)), labels
    return _together(inputs), labels


def _labels(kind: str, labels: list[Tensor]) -> Tensor:
    """Numbers of classes, (n,), or distributions, (n, classes)."""
    if len({one.shape for one in labels}) > 1:
        row = next(row for row, one in enumerate(labels) if one.shape != labels[0].shape)
        raise UsageError(
            f"{kind}: the label of example {row} has shape {tuple(labels[row].shape)}, that of the first "
            f"{tuple(labels[0].shape)}; give each the number of a class, or a probability of each class"
        )
    return torch.stack(labels)


def _example(data: TorchDataset[Any], row: int) -> tuple[Any, Tensor]:
    what = f"{type(data).__name__}[{row}]"
    try:
        found = data[row]
    except Exception as error:  # a user's data set may fail in any way
        reason = " ".join(str(error).split())
        raise DataError(f"{what}: cannot be read: {type(error).__name__}: {reason}") from error
    inputs: Any
    if isinstance(found, Mapping) and any(name in found for name in _LABELS):
        key = next(name for name in _LABELS if name in found)
        label, inputs = found[key], {name: one for name, one in found.items() if name != key}
    elif isinstance(found, tuple | list) and len(found) > 1:
        *parts, label = found
        inputs = parts[0] if len(parts) == 1 else tuple(parts)
    else:
        raise UsageError(
            f"{what}: expected (inputs, label) or a mapping with 'labels', found {described(found)}; without "
            "labels: instar.InMemoryDataset(inputs, None, class_names=[...])"
        )
    known = as_tensor(f"the label of {what}", label)
    if known.numel() == 1 and not known.is_floating_point():
        known = known.reshape(()).long()
    elif known.dim() != 1 or known.numel() < 2:
        raise UsageError(
            f"the label of {what}: expected the number of a class or a probability of each, found "
            f"{described(label)}"
        )
    # A copy: a data set may give the same memory each time.
    return map_tensors(lambda one: as_tensor(what, one).clone(), inputs), known.clone()


def _outline(example: Any) -> Any:
    return frozenset(example) if isinstance(example, Mapping) else len(tensors_in(example))


def _together(examples: list[Tensor]) -> Any:
    """Examples of one shape as a tensor; others as they are, to be padded."""
    return torch.stack(examples) if len({one.shape for one in examples}) == 1 else examples


def _are_same(one: tuple[Any, Tensor], other: tuple[Any, Tensor]) -> bool:
    pairs = zip(tensors_in(one[0]), tensors_in(other[0]), strict=False)
    return (
        _outline(one[0]) == _outline(other[0])
        and torch.equal(one[1], other[1])
        and all(a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs)
    )


def _classes_of(data: TorchDataset[Any]) -> Sequence[str] | None:
    """The class names that a data set of torch states, as those of torchvision do."""
    while isinstance(data, Subset):
        data = data.dataset
    classes = getattr(data, "classes", None)
    is_named = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return list(classes) if is_named and classes else None


def _in_words(data: object) -> str:
    """What was given in place of data, and what to do about it."""
    found = described(data)
    if isinstance(data, str | Path):
        return f"{found}; read it with instar.load_data, and take a part: .train, .validation or .test"
    if hasattr(data, "train") and hasattr(data, "validation"):
        return f"{found}; take one of its parts: .train, .validation or .test"
    if isinstance(data, tuple | list):
        return found
    if isinstance(data, Tensor):
        return f"a {found} alone; without labels: instar.InMemoryDataset(inputs, None, class_names=[...])"
    return f"{found}; stack all its examples into two tensors" if hasattr(data, "__len__") else found
