"""What ids of words are of: how many there are, and which of them begin a word."""

from dataclasses import dataclass

from torch import Tensor

from instar.structures import TAGS, ids_of

SPECIAL, BEGINS, CONTINUES = 0, 1, 2
"""The kinds of ids: of no word (padding, begin, end), the first of a word, a later one of a word."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ids that a tokenizer gives.

    Args:
        size: their number.
        name: what it is known by: of two vocabularies with other ids, another text.
        kinds: (size,) uint8, the kind of each id; None where it is not known.
        mask: the id that stands in the place of a masked word; None where there is none.
        pad: the id behind the end of shorter texts.
        is_tagged: whether each id has a class of its own.

    Example:
        >>> Vocabulary(4000, "9f3a12c4").in_form
        '<4000#9f3a12c4'
    """

    size: int
    name: str = ""
    kinds: Tensor | None = None
    mask: int | None = None
    pad: int = 0
    is_tagged: bool = False

    @property
    def in_form(self) -> str:
        """As the form of an example has it; see `structures.ids_of`."""
        ids = ids_of(self.size, self.name)
        return ids + TAGS if self.is_tagged else ids
