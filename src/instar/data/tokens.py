"""Running text as sequences of tokens: documents one after another, cut into pieces of one length.

The tokens are kept once, in a file that is mapped into memory; a sequence, its labels and its documents follow
from its number by arithmetic. One id stands for a sequence.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from instar.data.columns import MASK_NAME
from instar.data.dataset import Dataset
from instar.data.identity import content_ids, fingerprint_of
from instar.data.views import Views
from instar.data.vocabulary import Vocabulary
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL
from instar.structures import MASK, NEXT, Inputs, form_of

INPUT_IDS = "input_ids"


class TokenDataset(Dataset):
    """Sequences of `length` tokens, and for each token the one that follows as its label; -1 where none does.

    The documents lie one after another, and a sequence may hold the end of one and the beginning of the next; a
    document that is longer than a sequence goes on in the next one. Where an id marks the beginning of documents
    and the end of the last one, it is a label too, and every token of every document is predicted once. Without
    such an id, the first token of a document is not predicted.

    Args:
        tokens: (total,) integers, perhaps of a file that is mapped into memory.
        starts: (documents + 1,) int64, where each document begins in `tokens`; last, the number of positions.
        num_bytes: (documents,) int64, the length of each text in UTF-8.
        length: of a sequence; the last one is padded.
        vocabulary: what the tokens are.
        class_names: a name for each id.
        marked: whether the first token of a document marks its beginning, with one more behind the last.

    Raises:
        DataError: there is no document.
        UsageError: a length below 2.

    Example:
        >>> tokens, starts = torch.tensor([0, 3, 4, 0, 5, 0]), torch.tensor([0, 3, 5])
        >>> data = TokenDataset(tokens, starts, torch.tensor([7, 4]), length=3, vocabulary=Vocabulary(6, "ab"),
        ...                     class_names=list("|.abcd"), marked=True)
        >>> data.gather(data.ids, 0)
        {'input_ids': tensor([[0, 3, 4],
                [0, 5, 0]]), 'attention_mask': tensor([[1, 1, 1],
                [1, 1, 0]])}
        >>> data.labels(data.ids).tolist(), data.documents(data.ids).tolist()
        ([[3, 4, 0], [5, 0, -1]], [[0, 0, 0], [1, 1, -1]])
    """

    in_memory = True

    def __init__(
        self,
        tokens: Tensor,
        starts: Tensor,
        num_bytes: Tensor,
        *,
        length: int,
        vocabulary: Vocabulary,
        class_names: Sequence[str],
        marked: bool,
    ) -> None:
        if length < 2:
            raise UsageError(f"max_length is {length}, expected at least 2 tokens in a sequence")
        self.num_positions = int(starts[-1]) if len(starts) > 1 else 0
        if not self.num_positions:
            raise DataError("the data set is empty; it needs at least one document with a token")
        self.length, self.vocabulary, self.num_bytes = length, vocabulary, num_bytes
        self._tokens, self._starts, self._marked = tokens, starts, marked
        self._device = torch.device("cpu")
        number = -(-self.num_positions // length)
        # 0 for a sequence with labels: those of its positions are computed.
        labels = torch.zeros(number, dtype=torch.int64)
        ids = form_of(torch.int64, (length,), ids=vocabulary.in_form + NEXT)
        super().__init__(
            content_ids(self._contents(range(number)), labels),
            labels,
            class_names=class_names,
            example_shape={INPUT_IDS: ids, MASK_NAME: (MASK, length)},
        )

    def raw(self, rows: Tensor) -> Inputs:
        """The ids of some sequences and their mask, (batch, length) each."""
        places, is_there = self._places(rows)
        ids = self._tokens[places].long().masked_fill_(~is_there, self.vocabulary.pad)
        return {INPUT_IDS: ids, MASK_NAME: is_there.long()}

    def finish(self, raw: Inputs, ids: Tensor, views: Tensor | int) -> Inputs:
        """The second half of `gather`, after `raw`, on the device of the data set."""
        return {name: values.to(self._device) for name, values in raw.items()}

    def labels_at(self, rows: Tensor) -> Tensor:
        """(batch, length) int64: the token that follows each one; -1 where there is none to be predicted."""
        places, is_there = self._places(rows)
        following = (places + 1).clamp(max=len(self._tokens) - 1)
        labels = self._tokens[following].long()
        is_there &= (self._labels[rows.cpu()] >= 0)[:, None]
        if not self._marked:
            is_there &= self._document_at(places) == self._document_at(places + 1)
        return labels.masked_fill_(~is_there, NO_LABEL).to(self._device)

    def documents(self, ids: Tensor) -> Tensor:
        """(batch, length) int64: the document whose token each position predicts; -1 behind the end."""
        places, is_there = self._places(self.rows(ids))
        return self._document_at(places).masked_fill_(~is_there, -1).to(self._device)

    @property
    def num_documents(self) -> int:
        """How many documents there are."""
        return len(self.num_bytes)

    def num_rows(self, ids: Tensor) -> int:
        """How many positions some sequences have."""
        last = int((self.rows(ids) == self.num_stored - 1).sum())
        return len(ids) * self.length - last * (self.num_stored * self.length - self.num_positions)

    def contents(self, rows: Tensor) -> Iterator[Any]:
        """The bytes of each of some sequences, with the token behind it."""
        return self._contents(rows.tolist())

    @functools.cached_property
    def fingerprint(self) -> str:
        """As of all data sets; the labels of a sequence are in its content."""
        labels = self._labels[self.rows(self.ids)]
        return fingerprint_of(self.ids, labels, self.class_names, self.example_shape)

    def with_views(self, views: Views | None, *, view_seed: int, num_views: int | None = None) -> Self:
        """The data set itself.

        Raises:
            UsageError: there are views: words that move have other successors.
        """
        if views is not None:
            raise UsageError(f"views {views.name}: sequences of tokens have none, since each token is a label too")
        return super().with_views(None, view_seed=view_seed, num_views=num_views)

    def to(self, device: torch.device | str) -> Self:
        """The data set with its batches on another device; what is stored stays where it is."""
        moved = self._move(torch.device(device))
        moved._device = torch.device(device)
        return moved

    def _contents(self, rows: Sequence[int]) -> Iterator[bytes]:
        for row in rows:
            yield self._tokens[row * self.length : (row + 1) * self.length + 1].numpy().tobytes()

    def _places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The places of the tokens of some sequences, and which of them exist."""
        places = rows.cpu().long()[:, None] * self.length + torch.arange(self.length)
        is_there = places < self.num_positions
        return places.clamp_(max=self.num_positions - 1), is_there

    def _document_at(self, places: Tensor) -> Tensor:
        return torch.searchsorted(self._starts, places, right=True) - 1
