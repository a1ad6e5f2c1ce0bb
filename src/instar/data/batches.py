"""Batches of a data set, from memory or decoded by worker processes."""

import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.errors import InstarError
from instar.structures import Inputs, is_plain, num_values

_MOST_WORKERS = 8  # more processes are seldom needed to keep up with training
_BATCHES_AHEAD = 4  # for each worker
# Of inputs that are made at once, since the work for a small batch is mostly the calls:
_BYTES_ON_A_DEVICE = 2**26
_BYTES_IN_CACHE = 2**18  # on a CPU: what is made is read from its cache
_CACHE_LINE = 64


def batches(
    data: Dataset, id_batches: Iterable[Tensor], view: int, *, num_workers: int | None = None
) -> Iterator[tuple[Tensor, Inputs, Tensor]]:
    """Iterate over batches in order; from memory and from files they have the same bits.

    Args:
        data: in memory, or streaming: then worker processes decode ahead.
        id_batches: (batch,) int64 each.
        view: view number of every example.
        num_workers: number of worker processes; by default that of the processors, at most 8. With 0 this process
            decodes.

    Yields: ids (batch,), inputs as `gather` gives them, labels (batch,).

    Raises:
        DataError: a file cannot be decoded.
        UsageError: an id that is not in the data set.
    """
    wanted = list(id_batches)
    if data.in_memory and wanted:
        yield from _from_memory(data, wanted, view)
        return
    for ids, raw in zip(wanted, _decoded(data, wanted, num_workers), strict=True):
        if isinstance(raw, InstarError):
            raise raw
        yield ids, data.finish(raw, ids, view), data.labels(ids)


def _from_memory(data: Dataset, id_batches: list[Tensor], view: int) -> Iterator[tuple[Tensor, Inputs, Tensor]]:
    sizes = [len(ids) for ids in id_batches]
    # One search for all ids: a search in each step would take a fifth of the step of a small network.
    all_ids = _joined(id_batches)
    all_rows = data.rows(all_ids)
    together = 1  # several tensors are not split, and those that vary are padded to the longest of a batch
    if is_plain(data.example_shape):
        together = max(1, _most_bytes_together(data, view, sizes[0]) // _bytes_of(data, sizes[0]))
    groups = [sizes[first : first + together] for first in range(0, len(sizes), together)]
    lengths = [sum(group) for group in groups]
    of_groups = torch.split(all_rows, lengths)
    parts = zip(groups, torch.split(all_ids, lengths), of_groups, data.raws(of_groups), strict=True)
    for group, ids, rows, raw in parts:
        inputs, labels = data.finish(raw, ids, view), data.labels_at(rows)
        if len(group) == 1:
            yield ids, inputs, labels
        else:
            yield from zip(*(torch.split(values, group) for values in (ids, inputs, labels)), strict=True)


def _joined(id_batches: list[Tensor]) -> Tensor:
    """The ids of all batches; the tensor that they were split from, where that is all of them: it may be known."""
    whole = id_batches[0]._base
    ends = itertools.accumulate(map(len, id_batches), initial=0)
    if whole is not None and whole.is_contiguous() and whole.shape == (sum(map(len, id_batches)),):
        address, size = whole.data_ptr(), whole.element_size()
        if all(one.data_ptr() == address + size * end for one, end in zip(id_batches, ends, strict=False)):
            return whole
    return torch.cat(id_batches)


def _bytes_of(data: Dataset, num_examples: int) -> int:
    return 4 * num_examples * num_values(data.example_shape)


def _most_bytes_together(data: Dataset, view: int, batch_size: int) -> int:
    if data.ids.device.type != "cpu":
        return _BYTES_ON_A_DEVICE
    # A batch that begins elsewhere in a cache line, or a view made beside others, could have other last bits.
    same_bits = data.views is None and _bytes_of(data, batch_size) % _CACHE_LINE == 0
    return _BYTES_IN_CACHE if same_bits else 0


def _decoded(
    data: Dataset, id_batches: Sequence[Tensor], num_workers: int | None
) -> Iterator[Inputs | InstarError]:
    workers = min(_default_workers() if num_workers is None else num_workers, len(id_batches))
    loader = torch.utils.data.DataLoader(
        # Workers only decode, in main memory; the rest happens in this process.
        _RawBatches(data.to("cpu"), [ids.cpu() for ids in id_batches]),
        batch_size=None,
        collate_fn=_as_it_is,  # the default makes lists of tuples
        num_workers=workers,
        prefetch_factor=_BATCHES_AHEAD if workers else None,
        generator=torch.Generator(),  # the default would draw from torch's global generator
    )
    with warnings.catch_warnings():
        # Python 3.12 warns about a fork while torch has threads; the workers do not use these.
        warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
        return iter(loader)


class _RawBatches(torch.utils.data.Dataset[Inputs | InstarError]):
    """Decodes batches in a worker. Errors are returned: a worker would wrap a raised one in its traceback."""

    def __init__(self, data: Dataset, id_batches: Sequence[Tensor]) -> None:
        self._data, self._id_batches = data, id_batches

    def __len__(self) -> int:
        return len(self._id_batches)

    def __getitem__(self, index: int) -> Inputs | InstarError:
        try:
            return self._data.raw(self._data.rows(self._id_batches[index]))
        except InstarError as error:
            return error


def _as_it_is(raw: Inputs) -> Inputs:
    return raw


def _default_workers() -> int:
    # On Linux the processors that this process may use, elsewhere all of the machine.
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MOST_WORKERS)
