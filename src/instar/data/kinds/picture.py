"""Pictures in the cells of a table: decoded, in one size and colour."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from instar.data.decoded import pixels_once
from instar.data.kinds import KindOptions
from instar.data.progress import tracked
from instar.data.readers.folder import common_form
from instar.data.readers.images import ImageForm, describe
from instar.data.records.blobs import blobs_of
from instar.data.records.places import Place, places_of
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.errors import UsageError
from instar.structures import Inputs

_WORTH_KEEPING = 1000
"""Pictures; fewer are decoded in less time than a cache takes."""


@dataclasses.dataclass(frozen=True)
class PicturePreparation:
    """The form that all pictures are read in."""

    form: ImageForm
    memory_budget_bytes: int = KindOptions.memory_budget_bytes
    progress: bool = False
    kind: str = "picture"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, channels, height, width) uint8."""
        size = len(table) * math.prod(self.form.shape)
        if size > self.memory_budget_bytes:
            raise UsageError(
                f"{len(table):,} pictures of {describe(self.form.mode, self.form.height, self.form.width)} take "
                f"{size / 2**30:.1f} GiB, the memory budget is {self.memory_budget_bytes / 2**30:.1f} GiB; choose "
                "a smaller image size, or save them as a folder, which is read from disk during training"
            )
        contents = list(blobs_of(table, str(roles.image)))
        if len(contents) < _WORTH_KEEPING:
            return self._decoded(contents, table)
        key = hashlib.sha256(repr(dataclasses.astuple(self.form)).encode())
        for content in contents:
            key.update(len(content).to_bytes(8, "little") + content)
        return pixels_once(key.hexdigest(), lambda: self._decoded(contents, table))

    def _decoded(self, contents: Sequence[bytes], table: pa.Table) -> Tensor:
        images = torch.empty(len(contents), *self.form.shape, dtype=torch.uint8)
        bar = tracked(contents, total=len(contents), description="decoding pictures", show=self.progress)
        for row, content in enumerate(bar):
            images[row] = self.form.decode(content, Place(table, row))
        return images

    def record(self) -> dict[str, Any]:
        """Itself as JSON."""
        return {"kind": self.kind, "mode": self.form.mode, "height": self.form.height, "width": self.form.width}

    def in_words(self) -> str:
        """What it does."""
        how = "resized and cropped to" if self.form.fit else "as they are,"
        return f"pictures {how} {describe(self.form.mode, self.form.height, self.form.width)}"


def fit(records: Records, options: KindOptions) -> PicturePreparation:
    """The form of the first training picture, or a given size and colour."""
    table = records.parts["train"]
    needs_all = options.image_size is not None and options.colour is None
    some = table if needs_all else table.slice(0, 1)
    contents = list(blobs_of(some, str(records.roles.image)))
    form = common_form(
        contents,
        places_of(some, range(len(some))),
        image_size=options.image_size,
        colour=options.colour,
        progress=options.progress,
    )
    return PicturePreparation(form, options.memory_budget_bytes, options.progress)


def read(record: Mapping[str, Any]) -> PicturePreparation:
    """What `record` wrote; a new picture is resized and cropped to the form."""
    return PicturePreparation(ImageForm(record["mode"], record["height"], record["width"], fit=True))
