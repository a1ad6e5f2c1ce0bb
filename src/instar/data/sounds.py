"""The clips in a column of a table, and of a data set that was made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from instar.data.readers.audio import Recording, Samples, decode_audio, resample
from instar.data.records.blobs import blobs_of
from instar.data.records.places import place_of

if TYPE_CHECKING:
    import pyarrow as pa


class Clip(NamedTuple):
    """The content of a cell; as text what a message calls it."""

    content: bytes
    table: "pa.Table"
    column: str
    row: int

    def __str__(self) -> str:
        cell = self.table[self.column][self.row].as_py()
        path = cell.get("path") if isinstance(cell, dict) else cell
        place = place_of(self.table, self.row)
        return f"{place}: {path}" if isinstance(path, str) else place

    def recording(self) -> Recording:
        """The sound.

        Raises:
            DataError: it cannot be read.
        """
        return decode_audio(self.content, self)

    def samples(self, rate: int) -> Samples:
        """Its samples at a rate."""
        recording = self.recording()
        return resample(recording.samples, recording.sample_rate, rate)


def clips_of(table: "pa.Table", column: str) -> Iterator[Clip]:
    """The clips in a column."""
    for row, content in enumerate(blobs_of(table, column)):
        yield Clip(content, table, column, row)


@dataclass(frozen=True, eq=False)
class Sounds:
    """The clip of each stored row of a data set, decoded when it is asked for."""

    table: "pa.Table"
    column: str

    def take(self, rows: Tensor) -> "Sounds":
        """Those of some rows."""
        return Sounds(self.table.take(rows.cpu().numpy()), self.column)
