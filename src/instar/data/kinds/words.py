"""Sentences as lists of words, each with a class: the words in pieces, of which the first has the class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instar.data.columns import Varying
from instar.data.records.roles import Roles
from instar.data.records.tags import words_of
from instar.data.vocabulary import Vocabulary
from instar.losses import NO_LABEL
from instar.structures import Inputs
from instar.tokenising import MOST_IDS, Tokenising, read_tokenising, train_tokenising

if TYPE_CHECKING:
    import pyarrow as pa

NUM_IDS = 4000
"""Of a tokenizer that is trained on the data."""


@dataclass(frozen=True, eq=False)
class WordPreparation:
    """From lists of words to `input_ids` and `attention_mask`.

    Args:
        tokenising: the tokenizer, and at how many ids sentences are cut.
        origin: where the tokenizer is from, in words.
    """

    tokenising: Tokenising
    origin: str = "trained on the training part"
    kind = "words"

    def inputs(self, table: "pa.Table", roles: Roles) -> Inputs:
        """The ids of each row.

        Raises:
            DataError: a row without words; names the row.
        """
        return self.pieces(words_of(table, roles.text[0]))[0]

    def pieces(self, sentences: Sequence[Sequence[str]]) -> tuple[Inputs, list[Tensor]]:
        """The ids of sentences, and the word that each id begins, -1 for others; (ids,) int64 of each sentence."""
        encoded, begun = self.tokenising.encode_words(sentences)
        ids, lengths = torch.from_numpy(encoded.ids), torch.from_numpy(encoded.lengths)
        words = torch.split(torch.from_numpy(begun), encoded.lengths.tolist())
        return {"input_ids": Varying(ids, lengths, self.tokenising.pad, self.vocabulary)}, list(words)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids are of."""
        tokenising = self.tokenising
        return Vocabulary(
            tokenising.size, tokenising.name, mask=tokenising.mask, pad=tokenising.pad, is_tagged=True
        )

    def record(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {"kind": self.kind, "origin": self.origin, **self.tokenising.record}

    def in_words(self) -> str:
        """One line."""
        return (
            f"lists of words as {self.tokenising.size:,} ids of words and their parts (tokenizer {self.origin}), "
            f"cut at {self.tokenising.max_length}; the first part of a word has its class"
        )


def read(record: Mapping[str, Any]) -> WordPreparation:
    """What `record` gave."""
    return WordPreparation(Tokenising.of_record(record), record["origin"])


def fit_words(
    sentences: Sequence[Sequence[str]], *, tokenizer: str | None = None, max_length: int | None = None
) -> WordPreparation:
    """The preparation of words: by a tokenizer that is there, or by one trained on these sentences.

    Args:
        sentences: of the training part.
        tokenizer, max_length: as for `text.fit_text`; a tokenizer that is trained keeps capitals apart, by which
            names are known.

    Raises:
        UsageError: there is no such tokenizer.
        DataError: it cannot be read.

    Example:
        >>> preparation = fit_words([["A", "red", "tree"], ["a", "green", "sea"]] * 4, tokenizer="300")
        >>> inputs, begun = preparation.pieces([["A", "treetop"]])
        >>> begun[0].tolist()
        [-1, 0, 1, -1, -1, -1, -1]
    """
    if tokenizer is not None and not tokenizer.isdecimal():
        found = read_tokenising(Path(tokenizer).expanduser(), max_length=max_length)
        return WordPreparation(found, f"of {Path(tokenizer).name}")
    texts, size = (" ".join(words) for words in sentences), int(tokenizer or NUM_IDS)
    return WordPreparation(train_tokenising(texts, size=size, max_length=max_length or MOST_IDS, keeps_case=True))


def at_pieces(tags: Tensor, begun: Tensor) -> Tensor:
    """The class of each id of a sentence, that of the word that it begins; -1 for others.

    Example:
        >>> at_pieces(torch.tensor([5, 7]), torch.tensor([-1, 0, -1, 1, -1])).tolist()
        [-1, 5, -1, 7, -1]
    """
    return torch.where(begun >= 0, tags[begun.clamp(min=0)], NO_LABEL)
