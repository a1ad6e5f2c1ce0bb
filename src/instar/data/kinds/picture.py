"""Pictures in the cells of a table: decoded, in one size and colour."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from instar.data.kinds import KindOptions
from instar.data.readers.folder import common_form
from instar.data.readers.images import ImageForm, describe
from instar.data.records.blobs import blobs_of
from instar.data.records.places import Place, places_of
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.structures import Inputs


@dataclasses.dataclass(frozen=True)
class PicturePreparation:
    """The form that all pictures are read in."""

    form: ImageForm
    kind: str = "picture"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, channels, height, width) uint8."""
        images = np.empty((len(table), *self.form.shape), dtype=np.uint8)
        for row, content in enumerate(blobs_of(table, str(roles.image))):
            self.form.write(content, Place(table, row), images[row])
        return torch.from_numpy(images)

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
    return PicturePreparation(form)


def read(record: Mapping[str, Any]) -> PicturePreparation:
    """What `record` wrote; a new picture is resized and cropped to the form."""
    return PicturePreparation(ImageForm(record["mode"], record["height"], record["width"], fit=True))
