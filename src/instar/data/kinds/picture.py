"""Pictures in the cells of a table: decoded, in one size and colour."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from instar.data.kinds import KindOptions
from instar.data.readers.folder import common_form
from instar.data.readers.images import ImageForm, describe
from instar.data.records.contents import cells_of
from instar.data.records.reading import Records
from instar.data.records.roles import Roles
from instar.structures import Inputs


@dataclass(frozen=True)
class PicturePreparation:
    """The form that all pictures are read in."""

    form: ImageForm
    kind: str = "picture"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """(rows, channels, height, width) uint8."""
        images = torch.empty(len(table), *self.form.shape, dtype=torch.uint8)
        for row, cell in enumerate(cells_of(table, str(roles.image))):
            images[row] = self.form.decode(cell.content, cell)
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
    needs_all = options.image_size is not None and options.colour is None
    cells = cells_of(records.parts["train"], str(records.roles.image))
    some = list(cells if needs_all else itertools.islice(cells, 1))
    return PicturePreparation(
        common_form(
            [cell.content for cell in some],
            some,
            image_size=options.image_size,
            colour=options.colour,
            progress=options.progress,
        )
    )


def read(record: Mapping[str, Any]) -> PicturePreparation:
    """What `record` wrote; a new picture is resized and cropped to the form."""
    return PicturePreparation(ImageForm(record["mode"], record["height"], record["width"], fit=True))
