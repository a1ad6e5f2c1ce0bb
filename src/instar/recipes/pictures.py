"""Examples of a data set on a page: as pictures, or as a table if they are not pictures."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instar.data import Dataset
from instar.reports import Images, Picture, Section, Share, Table

Pixels = NDArray[np.uint8]
_LONGEST = 160  # letters of a text on a page
_FEW = 5  # columns of a table


def example_pictures(
    title: str,
    data: Dataset,
    ids: Sequence[int],
    words: Sequence[str],
    shares: Sequence[Sequence[Share]],
    caption: str,
    *,
    wide: bool = False,
) -> Section:
    """Examples with a caption each, and with bars for probabilities of classes.

    Args:
        title: title of the section.
        data: the data set of the examples.
        ids: which examples.
        words: caption of each example.
        shares: bars of each example; may be empty.
        caption: caption of the section.
        wide: whether the section takes the width of the page.
    """
    pictures = pixels_of(data, ids)
    if pictures is not None:
        items = [Picture(*parts) for parts in zip(pictures, words, shares, strict=True)]
        return Images(title, items, caption=caption, wide=wide)
    rows: list[dict[str, Any]] = []
    for word, about, bars in zip(words, _in_words(data, ids), shares, strict=True):
        example = {"example": word} | about
        likely = {"probabilities": ", ".join(f"{bar.name} {bar.value:.1%}" for bar in bars)} if bars else {}
        rows.append(example | likely)
    return Table(title, rows, caption=caption)


def _in_words(data: Dataset, ids: Sequence[int]) -> list[dict[str, str]]:
    """Examples as the beginnings of their texts, or as their rows; those of a table with their first values."""
    chosen = torch.tensor(ids, device=data.ids.device)
    if data.texts is not None:
        texts = data.texts.take(data.rows(chosen).cpu().numpy()).to_pylist()
        return [{"text": shorten(text, _LONGEST, placeholder=" ...")} for text in texts]
    names = data.names(chosen)
    if data.keys is None:  # no page names folders of a machine
        names = [Path(name).name for name in names]
    if data.table is None:
        return [{"row": name} for name in names]
    columns = data.table.rows(data.gather(chosen, 0))
    first = [(name, data.table.columns[place], columns[name]) for place, name in enumerate(columns)][:_FEW]
    return [
        {
            "row": row,
            "values": ", ".join(f"{name} {column.in_words(values[place])}" for name, column, values in first),
        }
        for place, row in enumerate(names)
    ]


def pixels_of(data: Dataset, ids: Sequence[int]) -> list[Pixels] | None:
    """Examples as pictures, each channel scaled to 0 to 255; None if they are not pictures."""
    inputs = data.gather(torch.tensor(ids), 0)
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    low = inputs.amin(dim=(0, 2, 3), keepdim=True)
    high = inputs.amax(dim=(0, 2, 3), keepdim=True)
    found: Any = ((inputs - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in found]
