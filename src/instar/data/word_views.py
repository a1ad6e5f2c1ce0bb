"""Views of texts: words left out, masked, or swapped with their neighbour.

As all views they are pure functions of (view_seed, example id, view number): a word has the same chance whatever
batch its text is in, and however long the padding behind it. A word of several ids stays one word.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from instar.data.hashing import DRAW_BITS, draws, key_of
from instar.data.vocabulary import BEGINS, SPECIAL, Vocabulary
from instar.errors import UsageError
from instar.structures import Inputs

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


class Words(NamedTuple):
    """The words of some texts."""

    number: Tensor
    """(batch, ids) the number of the word of each id, from 0; -1 where it is of none"""
    lengths: Tensor
    """(batch, ids) of each word, in ids; 0 behind the last word"""
    starts: Tensor
    """(batch, ids) the place of its first id"""

    def of_ids(self, values: Tensor, otherwise: bool | int) -> Tensor:
        """For each id what its word has, (batch, ids)."""
        return values.gather(1, self.number.clamp(min=0)).where(self.number >= 0, otherwise)


@dataclass(frozen=True)
class WordViews(ABC):
    """A share of the words, changed.

    Args:
        rate: the chance of each word.
        vocabulary: of the data, which `with_views` fills in.
    """

    rate: float
    vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UsageError(f"{self.kind}: {self.rate} should be above 0 and below 1, the share of the words")

    @property
    def kind(self) -> str:
        """Its name without the rate."""
        return next(kind for kind, (make, *_) in WORD_KINDS.items() if make is type(self))

    @property
    def name(self) -> str:
        """The text that `parse_views` turns into these views."""
        return f"{self.kind}:{self.rate:g}"

    def bound_to(self, vocabulary: Vocabulary | None) -> Self:
        """The same views, for the words of some data."""
        return replace(self, vocabulary=vocabulary)

    def apply(self, inputs: Inputs, ids: Tensor, views: Tensor | int, view_seed: int) -> Inputs:
        """The views of some texts; see `Views.apply`.

        Args:
            inputs: a mapping with `input_ids`, `attention_mask` and perhaps `token_type_ids`, (batch, ids) each.
            ids, views, view_seed: as for all views.

        Raises:
            UsageError: the inputs are no texts, or the tokenizer has no mask.
        """
        if not isinstance(inputs, Mapping) or IDS not in inputs or MASK not in inputs:
            raise UsageError(f"views {self.name!r} are of words, and the examples are no texts")
        if self.vocabulary is None or self.vocabulary.kinds is None:
            raise UsageError(f"views {self.name!r} are of words, and which ids begin a word is not known")
        if not len(ids):
            return inputs
        words = _words_of(inputs[IDS], inputs[MASK], self.vocabulary.kinds)
        # The first draw is of the whole text, the others of its words: none depends on the padding.
        key, places = key_of(f"views:{self.kind}", view_seed), range(inputs[IDS].shape[1] + 1)
        chances = draws(key, ids, views, places)
        changed = (torch.as_tensor(views, device=ids.device) != 0).expand(ids.shape)
        moved: Inputs = self._moved(inputs, words, chances, changed)
        return moved

    @abstractmethod
    def _moved(self, inputs: Inputs, words: Words, chances: Tensor, changed: Tensor) -> Inputs:
        """The views, by draws (batch, 1 + words), the first of the whole text; `changed` is False for view 0."""

    def _chosen(self, chances: Tensor) -> Tensor:
        return chances < int(self.rate * 2**DRAW_BITS)


class DropWords(WordViews):
    """Words left out; of a text in which all would be, the likeliest to stay stays.

    Example:
        >>> from instar.data.views import parse_views
        >>> parse_views("drop:0.1").name
        'drop:0.1'
    """

    def _moved(self, inputs: Inputs, words: Words, chances: Tensor, changed: Tensor) -> Inputs:
        chances = chances[:, 1:]
        dropped = self._chosen(chances) & (words.lengths > 0)
        alone = chances.where(words.lengths > 0, -1).argmax(1, keepdim=True)
        dropped = dropped.scatter(1, alone, False) & changed[:, None]
        is_out = words.of_ids(dropped, False) | (inputs[MASK] == 0)
        order = is_out.long().argsort(dim=1, stable=True)
        there = torch.arange(is_out.shape[1], device=is_out.device) < (~is_out).sum(1, keepdim=True)
        pads = {IDS: self.vocabulary.pad if self.vocabulary else 0, MASK: 0}
        return {
            name: values.gather(1, order).where(there, pads.get(name, 0)).to(values.dtype)
            for name, values in inputs.items()
        }


class MaskWords(WordViews):
    """Words whose ids are all replaced by that of the mask.

    Example:
        >>> from instar.data.views import parse_views
        >>> parse_views("mask:0.15").rate
        0.15

    References: Devlin et al. 2019 mask 15 % of the word pieces.
    """

    def _moved(self, inputs: Inputs, words: Words, chances: Tensor, changed: Tensor) -> Inputs:
        mask = self.vocabulary.mask if self.vocabulary else None
        if mask is None:
            raise UsageError(f"views {self.name!r}: the tokenizer has no id for a mask; take drop:{self.rate:g}")
        chosen = self._chosen(chances[:, 1:]) & changed[:, None]
        return {**inputs, IDS: inputs[IDS].masked_fill(words.of_ids(chosen, False), mask)}


class SwapWords(WordViews):
    """Words that have changed places with their neighbour.

    Pairs are the words (0, 1), (2, 3), ... or (1, 2), (3, 4), ..., which a draw decides for each view.

    Example:
        >>> from instar.data.views import parse_views
        >>> parse_views("swap:0.1+drop:0.1").name
        'swap:0.1+drop:0.1'
    """

    def _moved(self, inputs: Inputs, words: Words, chances: Tensor, changed: Tensor) -> Inputs:
        places = torch.arange(words.number.shape[1], device=chances.device)
        is_first = places % 2 == (chances[:, :1] >> (DRAW_BITS - 1))
        lengths, starts = words.lengths, words.starts
        next_lengths, next_starts = (_shifted(values, 1) for values in (lengths, starts))
        joined = (next_lengths > 0) & (next_starts == starts + lengths)
        swapped = self._chosen(chances[:, 1:]) & is_first & joined & changed[:, None]
        after = _shifted(swapped, -1)  # the second words of the pairs
        shifts = next_lengths * swapped - _shifted(lengths, -1) * after
        to = places + words.of_ids(shifts, 0)
        return {name: torch.empty_like(values).scatter(1, to, values) for name, values in inputs.items()}


def _shifted(values: Tensor, by: int) -> Tensor:
    """What stands so many places further on in each row, 0 beyond its end."""
    shifted = torch.zeros_like(values)
    if by > 0:
        shifted[:, :-by] = values[:, by:]
    else:
        shifted[:, -by:] = values[:, :by]
    return shifted


def _words_of(ids: Tensor, mask: Tensor, kinds: Tensor) -> Words:
    found = kinds.to(ids.device)[ids].long().where(mask > 0, SPECIAL)
    is_word = found != SPECIAL
    # A text that was cut, or a second text, may begin in the middle of a word: it begins one there.
    begins = is_word & ((found == BEGINS) | ~_shifted(is_word, -1))
    number = (begins.cumsum(1) - 1).where(is_word, -1)
    lengths = torch.zeros_like(ids).scatter_add(1, number.clamp(min=0), is_word.to(ids.dtype))
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    starts = torch.zeros_like(ids).scatter_add(1, number.clamp(min=0), places * begins)
    return Words(number, lengths, starts)


WORD_KINDS: dict[str, tuple[Callable[..., WordViews], Callable[[str], float], str]] = {
    "drop": (DropWords, float, "drop:RATE"),
    "mask": (MaskWords, float, "mask:RATE"),
    "swap": (SwapWords, float, "swap:RATE"),
}
