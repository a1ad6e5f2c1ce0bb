"""What `instar data` shows."""

from collections.abc import Mapping
from typing import Any

import torch

from instar.data import known_data
from instar.recipes.loading import load_splits
from instar.recipes.settings import DataSettings, checked
from instar.reports import Column, Table


def known_table() -> Table:
    """The data sets that are known by name, and where they are on this machine."""
    rows = [
        {"name": name, "what": what, "found": str(found) if found else "", "publisher": publisher}
        for name, what, found, publisher in known_data()
    ]
    return Table("Data sets", rows, columns=[Column("name"), Column("what"), Column("found", "on this machine")])


def data_table(settings: Mapping[str, Any]) -> Table:
    """The parts of a data set, which is fetched if it is not on this machine.

    Args:
        settings: those of `DataSettings`.
    """
    splits = load_splits(checked(DataSettings, settings))
    rows = []
    for part in ("train", "validation", "test"):
        data = getattr(splits, part)
        counts = torch.bincount(data.labels(data.ids).clamp(min=0), minlength=len(splits.class_names))
        rows.append(
            {
                "part": part,
                "examples": len(data),
                "shape": "x".join(map(str, data.example_shape)),
                "smallest class": int(counts.min()),
                "largest class": int(counts.max()),
                "fingerprint": data.fingerprint[:12],
            }
        )
    names = ", ".join(splits.class_names[:12]) + (", ..." if len(splits.class_names) > 12 else "")
    return Table(splits.name, rows, caption=f"{len(splits.class_names)} classes: {names}")
