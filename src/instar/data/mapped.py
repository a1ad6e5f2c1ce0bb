"""Examples kept in files that are mapped into memory: they may be larger than it.

A row is read when it is gathered, wherever it is: order, views, resumption and stored soft targets are those of
data in memory, bit for bit. Processes on one machine share what the system has read.
"""

import json
import mmap
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from instar.data.columns import Mask, Varying, column_form, columns_of
from instar.data.kept import make_room, remove, was_used
from instar.data.memory import InMemoryDataset
from instar.errors import DataError
from instar.files import writing
from instar.structures import Inputs, form_in_words, map_tensors, tensors_in, without_lengths

_SUMS = "sums.json"
"""The file with the size and the CRC-32 of each other file."""

_READ_AT_ONCE = 2**20
_RESIDENT_BYTES = 2**28  # of the files of one data set that are in memory at a time
_AROUND_BYTES = 2**16  # that the system maps with a row, at least
_AHEAD_BYTES = 2**25  # of examples that are read in the order of the files
_ROWS_AT_ONCE = 2**12  # of these: with what lies around them no more than may be in memory


class MappedDataset(InMemoryDataset):
    """Examples in the files of `write_examples`, gathered by index; all but ids and labels stays on the disk.

    Args:
        folder: that of the files.
        like: examples of the same kind, as `InMemoryDataset` takes them.
        labels: (n,) integers, -1 for examples without a label.
        class_names: at least two, in the order of the labels.
        ids: (n,) int64.

    Raises:
        DataError: the files are not whole, or hold another number of examples.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "words"
        >>> parts = [{"input_ids": [[5, 3], [8]]}, {"input_ids": [[2, 4, 4]]}]
        >>> write_examples(folder, parts)
        >>> labels, ids = torch.tensor([0, 1, 1]), torch.arange(3)
        >>> data = MappedDataset(folder, parts[0], labels, class_names=["a", "b"], ids=ids)
        >>> data.gather(torch.tensor([2, 1]), 0)["input_ids"].tolist()
        [[2, 4, 4], [8, 0, 0]]
    """

    def __init__(
        self, folder: Path, like: Any, labels: Tensor, *, class_names: Sequence[str], ids: Tensor
    ) -> None:
        inputs, self._maps = _mapped(folder, like)
        number = len(tensors_in(inputs)[0])
        if len(labels) != number:
            raise DataError(f"{folder}: {number} examples and {len(labels)} labels: each example needs one")
        self._hold(inputs, ids, labels, class_names=class_names)
        self._device = torch.device("cpu")
        self._is_large = sum(map(len, self._maps)) > _RESIDENT_BYTES
        self._others = _file_bytes_in_memory()

    def raw(self, rows: Tensor) -> Inputs:
        """The stored examples of some rows, before views and scaling, in main memory."""
        raw = super().raw(rows)
        if self._is_large and _file_bytes_in_memory() - self._others > _RESIDENT_BYTES:
            for one in self._maps:
                _forget(one)
            self._others = _file_bytes_in_memory()
        return raw

    def raws(self, parts: Sequence[Tensor]) -> Iterator[Inputs]:
        """`raw` of some rows after others; of small ones many are read at once, in the order of the files.

        The system maps what lies around a row too: at random that is done for each row, in order for many at once.
        """
        row_bytes = self._inputs[:1].nbytes if isinstance(self._inputs, Tensor) else 0
        num_ahead = _AHEAD_BYTES // max(1, row_bytes)
        if not self._is_large or not row_bytes or num_ahead * _AROUND_BYTES < sum(map(len, self._maps)):
            yield from super().raws(parts)
            return
        for some in _together(parts, num_ahead):
            rows, order = torch.cat(some).sort()
            places = torch.empty_like(order)
            places[order] = torch.arange(len(order))
            there = torch.cat([self.raw(one) for one in torch.split(rows, _ROWS_AT_ONCE)])
            yield from (there.index_select(0, one) for one in torch.split(places, list(map(len, some))))

    def finish(self, raw: Inputs, ids: Tensor, views: Tensor | int) -> Inputs:
        """The second half of `gather`, after `raw`, on the device of the data set."""
        return super().finish(map_tensors(lambda one: one.to(self._device), raw), ids, views)

    def labels_at(self, rows: Tensor) -> Tensor:
        """`labels` of stored rows: (batch,) int64."""
        return super().labels_at(rows).to(self._device)

    def label_targets(self, ids: Tensor) -> Tensor:
        """What the hard term of a loss compares with, on the device of the data set."""
        return super().label_targets(ids).to(self._device)

    def to(self, device: torch.device | str) -> Self:
        """The data set with its batches on another device; what is stored stays where it is."""
        moved = self._move(torch.device(device), "_mean", "_std")
        moved._device = torch.device(device)
        return moved


def write_examples(folder: Path, parts: Iterable[Any]) -> None:
    """Write examples, a part at a time, as files that can be mapped; the folder appears whole or not at all.

    Args:
        folder: to be made.
        parts: some examples each, as `InMemoryDataset` takes them, all of one structure and type.

    Raises:
        DataError: no example, or parts that differ in structure or type.
        RunError: the disk is full or not writable.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(folder):
        temporary.mkdir(parents=True)
        try:
            _write(temporary, parts)
            try:
                temporary.rename(folder)
            except OSError:
                if not is_whole(folder, in_full=True):  # else another process was faster
                    remove(folder)
                    temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def keep_examples(folder: Path, parts: Iterable[Any], *, in_full: bool = True) -> None:
    """`write_examples` in the cache, where it does not have them, and make room there for others.

    Args:
        folder: in the cache, of a name that tells the examples.
        parts: as for `write_examples`; not looked at where the folder is there.
        in_full: check each byte of one that is there.

    Raises:
        RunError: the disk is full or not writable.
    """
    if is_whole(folder, in_full=in_full):
        was_used(folder)
        return
    write_examples(folder, parts)
    make_room(folder)


def read_examples(folder: Path, like: Any, *, in_full: bool = False) -> Inputs:
    """All examples of a folder, in memory, as `InMemoryDataset` takes them; `like` as for `MappedDataset`.

    Args:
        in_full: check each byte.

    Raises:
        DataError: the files are not whole.
    """
    sums = _sums(folder)

    def read(file: Path) -> Tensor:
        content = torch.empty(file.stat().st_size, dtype=torch.uint8)
        with file.open("rb") as stream:
            stream.readinto(content.numpy().data)
        if in_full and zlib.crc32(content.numpy().data) != sums[file.name][1]:
            raise _not_whole(folder)
        return content

    return _opened(folder, like, read)


def is_whole(folder: Path, *, in_full: bool = False) -> bool:
    """Whether a folder holds all that `write_examples` wrote; in full, whether each byte is as it was."""
    try:
        sums = _sums(folder)
        return not in_full or all(_sum(folder / name) == own for name, (_, own) in sums.items())
    except (OSError, DataError):
        return False


def _sums(folder: Path) -> dict[str, Any]:
    """Size and CRC-32 of each file of a folder that has all of them, of these sizes.

    Raises:
        DataError: it has not.
    """
    try:
        sums = dict(json.loads((folder / _SUMS).read_text()))
        if all((folder / name).stat().st_size == size for name, (size, _) in sums.items()):
            return sums
    except (OSError, ValueError, TypeError) as error:
        raise _not_whole(folder) from error
    raise _not_whole(folder)


def _not_whole(folder: Path) -> DataError:
    return DataError(f"{folder}: not whole; remove it, it is made again")


def _sum(file: Path) -> int:
    found = 0
    with file.open("rb") as stream:
        while content := stream.read(_READ_AT_ONCE):
            found = zlib.crc32(content, found)
    return found


def _write(folder: Path, parts: Iterable[Any]) -> None:
    first: Any = None
    sums: dict[str, int] = {}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for part in parts:
            columns = columns_of(part)
            form = without_lengths(map_tensors(column_form, columns))
            first = form if first is None else first
            if form != first:
                raise DataError(f"some examples are {form_in_words(form)}, those before {form_in_words(first)}")
            for name, values in _tensors(columns).items():
                if name not in files:
                    files[name] = stack.enter_context((folder / name).open("wb"))
                content = values.contiguous().numpy().data
                files[name].write(content)
                sums[name] = zlib.crc32(content, sums.get(name, 0))
    if first is None:
        raise DataError("the data set is empty; it needs at least one example")
    about = {name: [(folder / name).stat().st_size, one] for name, one in sums.items()}
    (folder / _SUMS).write_text(json.dumps(about))


def _tensors(columns: Inputs) -> dict[str, Tensor]:
    """What is stored of the columns, by the name of its file: all but masks, which lengths tell."""
    tensors: dict[str, Tensor] = {}
    for place, column in enumerate(tensors_in(columns)):
        if isinstance(column, Varying):
            tensors |= {f"{place}.values": column.values, f"{place}.lengths": column.lengths}
        elif not isinstance(column, Mask):
            tensors[f"{place}.values"] = column
    return tensors


def _mapped(folder: Path, like: Any) -> tuple[Inputs, list[mmap.mmap]]:
    """The examples in a folder as they are kept, and the maps that they lie in."""
    _sums(folder)
    maps: list[mmap.mmap] = []

    def read(file: Path) -> Tensor:
        with file.open("rb") as stream:
            # A copy that is private to this process, into which nothing writes: torch warns of what is read only.
            maps.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
        return torch.frombuffer(maps[-1], dtype=torch.uint8)

    return _opened(folder, like, read), maps


def _opened(folder: Path, like: Any, read: Callable[[Path], Tensor]) -> Inputs:
    """The examples in a folder as they are kept, of files that are read as bytes."""
    like = like if isinstance(like, Tensor) else columns_of(like)  # which takes no tensor without examples
    tensors = {
        name: read(folder / name).view(one.dtype).view(-1, *one.shape[1:]) for name, one in _tensors(like).items()
    }
    lengths = [values for name, values in tensors.items() if name.endswith(".lengths")]
    place = iter(range(len(tensors_in(like))))

    def column(one: Any) -> Any:
        number = next(place)
        if isinstance(one, Varying):
            return one.holding(tensors[f"{number}.values"], tensors[f"{number}.lengths"])
        return Mask(lengths[0]) if isinstance(one, Mask) else tensors[f"{number}.values"]

    return map_tensors(column, like)


def _together(parts: Sequence[Tensor], num_rows: int) -> Iterator[list[Tensor]]:
    """Parts that follow each other, so many rows at a time or a few more."""
    some: list[Tensor] = []
    for part in parts:
        some.append(part)
        if sum(map(len, some)) >= num_rows:
            yield some
            some = []
    if some:
        yield some


def _forget(one: mmap.mmap) -> None:
    """Let go of what is in memory of a file; the system still has it while there is room."""
    if hasattr(mmap, "MADV_DONTNEED"):
        one.madvise(mmap.MADV_DONTNEED)


def _file_bytes_in_memory() -> int:
    """How much of all mapped files is in the memory of this process; 0 where the system does not tell.

    Counting rows would not do: the system maps what lies around a row too, from 64 KiB to some MiB.
    """
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0
