"""The examples as a network sees them: those that read texts or hear sounds themselves get these."""

from typing import Any, Self

import torch
from torch import Tensor

from instar.data.dataset import Dataset
from instar.errors import UsageError
from instar.structures import TEXT, Inputs, up_to
from instar.tokenising import text_bytes


def seen_by(network: Any, data: Dataset) -> Dataset:
    """The same examples in the form that a network takes: their texts or sounds, where it takes these itself.

    So a teacher with a tokenizer of its own, or one that counts words, is asked about the same texts whose ids a
    student sees, and one with a feature extractor of its own about the same sounds.

    Args:
        network: any; its attributes `reads_text` and `hears_sound` say what it takes.
        data: examples, that come with their texts or sounds where they were read as such.

    Raises:
        UsageError: it takes texts or sounds, and the data has none, or has views, which it would not see.
    """
    name = getattr(network, "name", type(network).__name__)
    if getattr(network, "hears_sound", False):
        return _heard(network, data, name)
    if not getattr(network, "reads_text", False):
        return data
    if data.texts is None:
        raise UsageError(f"{name} reads texts, and the examples hold none: name data with one column of texts")
    if data.views is not None:
        raise UsageError(
            f"{name} reads texts itself, and would not see the views {data.views.name!r} of their ids: leave the "
            "views out, or take a teacher with the tokenizer of the data"
        )
    return TextsAlone(data)


def _heard(network: Any, data: Dataset, name: str) -> Dataset:
    if data.sounds is None:
        raise UsageError(f"{name} hears sounds, and the examples hold none: name data with a column of sounds")
    if data.views is not None:
        raise UsageError(
            f"{name} hears the clips themselves, and would not see the views {data.views.name!r} of their "
            "filterbanks: leave the views out, or take a teacher that was trained on filterbanks"
        )
    from instar.data.heard import SoundsAlone  # it needs Arrow, which other data do not

    return SoundsAlone(data, network.sample_rate)


def texts_of(data: Dataset) -> list[str]:
    """The texts of a data set, in the order of its ids.

    Raises:
        UsageError: it holds none.

    Example:
        >>> from instar.data import load_data
        >>> texts = [f"{word} {number}" for word in ("red", "blue") for number in range(10)]
        >>> rows = {"text": texts, "colour": ["warm"] * 10 + ["cold"] * 10}
        >>> data = load_data(rows, text="text", label="colour", tokenizer="300").train
        >>> texts_of(data.subset(data.ids[:1])) == texts_of(data)[:1]
        True
    """
    if data.texts is None:
        raise UsageError("texts_of: the examples hold no texts: name data with one column of texts")
    found: list[str] = data.texts.take(data.rows(data.ids).cpu().numpy()).to_pylist()
    return found


class TextsAlone(Dataset):
    """The texts of a data set, as UTF-8: {"text": (batch, bytes)} int32, padded with 0.

    Args:
        data: with `texts`.
    """

    in_memory = True

    def __init__(self, data: Dataset) -> None:
        import pyarrow.compute as pc

        rows = data.rows(data.ids).cpu().numpy()
        self.texts = data.texts.take(rows)  # type: ignore[union-attr]
        longest = max(1, int(pc.max(pc.binary_length(self.texts)).as_py()))
        super().__init__(
            data.ids,
            data.labels(data.ids),
            class_names=data.class_names,
            example_shape={TEXT: ("int32", up_to(longest))},
        )

    def raw(self, rows: Tensor) -> Inputs:
        """The texts of some examples."""
        chosen = self.texts.take(rows.cpu().numpy()).to_pylist()  # type: ignore[union-attr]
        return {TEXT: text_bytes(chosen).to(self.ids.device)}

    def to(self, device: torch.device | str) -> Self:
        """The data set with ids and labels on another device."""
        device = torch.empty(0, device=device).device
        moved = self._move(device, "_labels")
        moved._index(self.ids.to(device), self.rows(self.ids).to(device))
        return moved
