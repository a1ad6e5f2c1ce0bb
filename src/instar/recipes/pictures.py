"""Examples of a data set on a page: as pictures, or as a table if they are not pictures."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instar.data import Dataset
from instar.reports import Images, Picture, Section, Share, Table

Pixels = NDArray[np.uint8]
_LONGEST = 160  # letters of a text on a page


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
    for word, text, bars in zip(words, _texts(data, ids), shares, strict=True):
        example = {"example": word} | ({} if text is None else {"text": text})
        likely = {"probabilities": ", ".join(f"{bar.name} {bar.value:.1%}" for bar in bars)} if bars else {}
        rows.append(example | likely)
    return Table(title, rows, caption=caption)


def _texts(data: Dataset, ids: Sequence[int]) -> Sequence[str | None]:
    """The beginnings of the texts of examples; None each where the data holds none."""
    if data.texts is None:
        return [None] * len(ids)
    rows = data.rows(torch.tensor(ids, device=data.ids.device)).cpu().numpy()
    return [shorten(text, _LONGEST, placeholder=" ...") for text in data.texts.take(rows).to_pylist()]


def pixels_of(data: Dataset, ids: Sequence[int]) -> list[Pixels] | None:
    """Examples as pictures, each channel scaled to 0 to 255; None if they are not pictures."""
    inputs = data.gather(torch.tensor(ids), 0)
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return None
    low = inputs.amin(dim=(0, 2, 3), keepdim=True)
    high = inputs.amax(dim=(0, 2, 3), keepdim=True)
    found: Any = ((inputs - low) / (high - low).clamp(min=1e-6) * 255).byte().permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in found]
