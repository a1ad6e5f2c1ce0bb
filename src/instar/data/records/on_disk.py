"""Tables that are too large for memory: in a file that is mapped into it, and goes with the process."""

import mmap
import tempfile
import weakref
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from instar.data.sources import cache_folder
from instar.files import writing

_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_LARGE_BYTES = 2**28
_ROWS_AT_ONCE = 2**17


def is_large(num_bytes: float) -> bool:
    """Whether a table of so many bytes is kept on the disk."""
    return num_bytes > _LARGE_BYTES


def on_disk(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """A table of batches, mapped into memory: what is not used is not in it.

    The file has no name once it is mapped, and the system frees it with the process. `INSTAR_CACHE` may be a
    folder on a disk with more room.

    Raises:
        RunError: the disk is full or not writable.

    Example:
        >>> table = pa.table({"a": [1, 2, 3]})
        >>> on_disk(table.to_batches(), table.schema).equals(table)
        True
    """
    folder = cache_folder() / "rows"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".arrow") as file:
            with pa.ipc.new_stream(file.name, schema) as sink:
                for batch in batches:
                    sink.write_batch(batch)
            one = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPS.add(one)
            return pa.ipc.open_stream(pa.py_buffer(one)).read_all()
    except OSError as error:
        if error.errno is None:  # Arrow's, of a batch that cannot be read
            raise
        with writing(folder):
            raise


def let_go() -> None:
    """Let go of what is in memory of the tables on the disk; the system still has it while there is room.

    And of what Arrow keeps for later.
    """
    if _MAPS:
        pa.default_memory_pool().release_unused()
    if hasattr(mmap, "MADV_DONTNEED"):
        for one in _MAPS:
            one.madvise(mmap.MADV_DONTNEED)


def in_little_memory(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Tables as they come, on the disk from where they are too many for memory.

    Example:
        >>> [len(table) for table in in_little_memory(pa.table({"a": [1] * size}) for size in (2, 3))]
        [2, 3]
    """
    return [
        on_disk(table.to_batches(), table.schema) if is_large(pa.total_allocated_bytes()) else table
        for table in tables
    ]


def taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows of a table, on the disk where they are many; of a large table in ascending order.

    Example:
        >>> taken(pa.table({"a": [1, 2, 3]}), np.array([2, 0]))["a"].to_pylist()
        [3, 1]
    """
    if not is_large(table.nbytes):
        return table.take(pa.array(rows))

    def batches() -> Iterator[pa.RecordBatch]:
        starts = range(0, len(table), _ROWS_AT_ONCE)
        ends = np.searchsorted(rows, [*starts[1:], len(table)]).tolist()
        # Of a part at a time: from the whole, Arrow joins all texts before it takes some of them.
        for start, first, last, part in zip(starts, [0, *ends], ends, slices(table), strict=False):
            yield from part.take(pa.array(rows[first:last] - start)).to_batches()

    if is_large(table.nbytes * len(rows) / len(table)):
        return on_disk(batches(), table.schema)
    return pa.Table.from_batches(batches(), table.schema)


def slices(table: pa.Table) -> Iterator[pa.Table]:
    """A table in parts of which one at a time is looked at."""
    for start in range(0, len(table), _ROWS_AT_ONCE):
        yield table.slice(start, _ROWS_AT_ONCE)
        let_go()
