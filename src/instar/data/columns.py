"""How examples are kept in memory: as a tensor, or as a structure of tensors, of which some vary in length."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from instar.data.checks import as_tensor, checked_tensor
from instar.data.identity import in_few_bytes
from instar.data.vocabulary import Vocabulary
from instar.errors import DataError, UsageError
from instar.structures import MASK, Form, Inputs, form_of, tensors_in, up_to

MASK_NAME = "attention_mask"
"""The name under which the mask of padded examples is given to a network, by default."""


class Varying:
    """Tensors that differ in their first dimension; a batch of them is padded to its longest.

    Args:
        values: (total, ...), one after another.
        lengths: (n,) int64, of each.
        pad: the value behind the end of the shorter ones.
        vocabulary: what the values are ids of; None for other values, or where it is not known.

    Example:
        >>> varying = Varying(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3]))
        >>> varying.index_select(0, torch.tensor([0, 1])).tolist()
        [[1, 0, 0], [2, 3, 4]]
    """

    def __init__(
        self, values: Tensor, lengths: Tensor, pad: float = 0, vocabulary: Vocabulary | None = None
    ) -> None:
        self.values, self.lengths, self.pad, self.vocabulary = values, lengths, pad, vocabulary
        self._starts = _starts_of(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    @property
    def form(self) -> Form:
        """The form of one, with the length of the longest."""
        shape, ids = (up_to(int(self.lengths.max())), *self.values.shape[1:]), self.vocabulary
        return form_of(self.values.dtype, shape, ids="" if ids is None else ids.in_form)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Some of them, padded: (rows, longest of them, ...)."""
        lengths, starts = self.lengths[rows], self._starts[rows]
        places = torch.arange(int(lengths.max()) if len(rows) else 0, device=self.device)
        is_there = places < lengths[:, None]
        found = self.values[(starts[:, None] + places).masked_fill_(~is_there, 0)]
        return found.masked_fill_(~is_there.view(*is_there.shape, *(1,) * (found.dim() - 2)), self.pad)

    def __getitem__(self, rows: Tensor) -> "Varying":
        lengths = self.lengths[rows]
        offsets = torch.arange(int(lengths.sum()), device=self.device)
        begins = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        places = self._starts[rows].repeat_interleave(lengths) + offsets - begins
        return Varying(self.values[places], lengths, self.pad, self.vocabulary)

    def holding(self, values: Tensor, lengths: Tensor) -> "Varying":
        """Others of the same kind."""
        other = copy.copy(self)
        other.values, other.lengths, other._starts = values, lengths, _starts_of(lengths)
        return other

    def to(self, device: torch.device) -> "Varying":
        """The same on another device."""
        return Varying(self.values.to(device), self.lengths.to(device), self.pad, self.vocabulary)

    def rows(self) -> Iterator[Tensor]:
        """Each of them, not padded."""
        return iter(torch.split(self.values.cpu(), self.lengths.tolist()))


def _starts_of(lengths: Tensor) -> Tensor:
    return in_few_bytes(lengths.cumsum(0) - lengths)


def numbered(examples: Sequence[Sequence[int]], number: int) -> Varying:
    """Lists of ids of which there are so many: a network by name has to know, for its table of embeddings.

    Args:
        examples: the ids of each example.
        number: of ids; the largest is at most one less.

    Raises:
        UsageError: an id outside them.
        DataError: an example is empty.

    Example:
        >>> numbered([[5, 3], [8]], 10).form
        ('int64<10', '<=2')
    """
    found = _column("ids", [torch.as_tensor(one, dtype=torch.int64) for one in examples], 0)
    if int(found.values.min()) < 0 or int(found.values.max()) >= number:
        raise UsageError(
            f"ids go from {int(found.values.min())} to {int(found.values.max())}, expected 0 to {number - 1}"
        )
    return Varying(found.values, found.lengths, 0, Vocabulary(number))


class Mask:
    """1 where a padded example has a value, 0 behind its end: int64, (rows, longest of them).

    Args:
        lengths: (n,) int64, of the examples.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the lengths are."""
        return self.lengths.device

    @property
    def form(self) -> Form:
        """The form of the mask of one example."""
        return MASK, up_to(int(self.lengths.max()))

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The mask of some examples."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()) if len(rows) else 0, device=self.device)
        return (places < lengths[:, None]).long()

    def __getitem__(self, rows: Tensor) -> "Mask":
        return Mask(self.lengths[rows])

    def to(self, device: torch.device) -> "Mask":
        """The same on another device."""
        return Mask(self.lengths.to(device))


def columns_of(inputs: Any, *, mask: str | None = MASK_NAME, pad: float | Mapping[str, float] = 0) -> Inputs:
    """Examples as they are kept: a tensor, or a mapping (sorted) or a tuple of tensors, `Varying` and a `Mask`.

    Args:
        inputs: a tensor, an array, a list of examples or a `Varying`, or a mapping or a tuple of these.
        mask: the name of the mask in a mapping; elsewhere it is put last. None makes none.
        pad: at padded places; for a mapping also by name.

    Raises:
        UsageError: something else, tensors of different numbers of examples, or lengths that no mask can tell.
        DataError: no example, or NaN or infinity.

    Example:
        >>> kept = columns_of({"input_ids": [[5, 3], [8]]})
        >>> {name: column.index_select(0, torch.tensor([0, 1])).tolist() for name, column in kept.items()}
        {'input_ids': [[5, 3], [8, 0]], 'attention_mask': [[1, 1], [1, 0]]}
    """
    if isinstance(inputs, Mapping):
        if not inputs or not all(isinstance(name, str) for name in inputs):
            raise UsageError(f"inputs: expected tensors by name, found the keys {list(inputs)[:5]}")
        if isinstance(pad, Mapping) and (unknown := sorted({*pad} - {*inputs})):
            raise UsageError(f"pad: there is no input {unknown[0]!r}; the inputs are {', '.join(sorted(inputs))}")
        names = sorted(inputs, key=lambda name: (isinstance(inputs[name], Mask), name))
        named = {f"inputs[{name!r}]": inputs[name] for name in names}
        pads = [pad.get(name, 0) if isinstance(pad, Mapping) else pad for name in names]
    else:
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        named = {f"inputs[{place}]" if len(parts) > 1 else "inputs": part for place, part in enumerate(parts)}
        pads = [0 if isinstance(pad, Mapping) else pad] * len(parts)
    if not named:
        raise UsageError("inputs: the tuple is empty; it needs a tensor")
    columns = [_column(what, part, value) for (what, part), value in zip(named.items(), pads, strict=True)]
    for what, column in zip(named, columns, strict=True):
        if len(column) != len(columns[0]):
            raise UsageError(f"{what} has {len(column)} examples, {next(iter(named))} has {len(columns[0])}")
    if any(isinstance(column, Mask) for column in columns):
        mask = None  # it is there
    made = _mask(dict(zip(named, columns, strict=True))) if mask is not None else None
    if isinstance(inputs, Mapping):
        found = dict(zip(names, columns, strict=True))
        return found if made is None or mask is None or mask in found else {**found, mask: made}
    if made is not None:
        return (*columns, made)
    return tuple(columns) if isinstance(inputs, tuple) else columns[0]


def column_form(column: Any) -> Form:
    """The form of one example of a column."""
    return form_of(column.dtype, column.shape[1:]) if isinstance(column, Tensor) else column.form


def pads_of(columns: Inputs) -> float | dict[str, float]:
    """The `pad` of `columns_of`: for a mapping by name, where it is not 0."""
    if isinstance(columns, Mapping):
        return {name: one.pad for name, one in columns.items() if isinstance(one, Varying) and one.pad}
    return next((one.pad for one in tensors_in(columns) if isinstance(one, Varying)), 0)


def contents(columns: Inputs) -> Iterator[Any]:
    """The bytes of each example, by which it is known: of a single tensor its values, else with names and shapes.

    Padding and its mask are no part of it.
    """
    if isinstance(columns, Tensor):
        yield from _rows(columns)
        return
    names = list(columns) if isinstance(columns, Mapping) else range(len(tensors_in(columns)))
    kept = [(name, one) for name, one in zip(names, tensors_in(columns), strict=True) if not isinstance(one, Mask)]
    for parts in zip(*(_described_rows(name, column) for name, column in kept), strict=True):
        yield b"".join(parts)


def _rows(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().view(torch.uint8).reshape(len(tensor), -1).numpy()


def _described_rows(name: Any, column: Any) -> Iterator[bytes]:
    if isinstance(column, Varying):
        for row in column.rows():
            yield (
                repr((name, *form_of(row.dtype, row.shape))).encode() + row.contiguous().view(-1).numpy().tobytes()
            )
        return
    about = repr((name, *column_form(column))).encode()
    for row in _rows(column if column.dim() > 1 else column[:, None]):
        yield about + row.tobytes()


def _column(what: str, part: Any, pad: float) -> Any:
    """A tensor, or a list of tensors that vary in length."""
    if isinstance(part, Varying | Mask):
        return part
    if not isinstance(part, list):
        return checked_tensor(what, as_tensor(what, part))
    if not part:
        raise DataError(f"the data set is empty: {what} is an empty list")
    items = [as_tensor(f"{what}[{row}]", item) for row, item in enumerate(part)]
    shapes = {item.shape for item in items}
    if len(shapes) == 1 and (items[0].dim() == 0 or items[0].is_floating_point() or items[0].dtype == torch.uint8):
        return checked_tensor(what, torch.stack(items))
    for row, item in enumerate(items):
        if item.dim() == 0 or item.shape[1:] != items[0].shape[1:]:
            raise UsageError(
                f"{what}[{row}] has shape {tuple(item.shape)}, {what}[0] {tuple(items[0].shape)}: examples may "
                "differ in their first dimension alone"
            )
        if len(item) == 0:
            raise DataError(f"{what}[{row}] is empty; leave this example out, or give it one value")
    lengths = torch.tensor([len(item) for item in items])
    values = torch.cat(items)
    owners = torch.arange(len(items)).repeat_interleave(lengths)
    return Varying(checked_tensor(what, values, owners), lengths, pad)


def _mask(columns: Mapping[str, Any]) -> Mask | None:
    varying = {what: column for what, column in columns.items() if isinstance(column, Varying)}
    if not varying:
        return None
    first, *others = varying
    for other in others:
        differs = (varying[other].lengths != varying[first].lengths).nonzero()
        if len(differs):
            raise UsageError(
                f"{other} and {first} differ in length in row {int(differs[0])}, which one mask cannot tell: give "
                "masks of your own beside them, with mask=None"
            )
    return Mask(varying[first].lengths)
