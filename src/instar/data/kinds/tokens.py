"""Running text: documents tokenised once, for networks that predict the next token."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from instar.data.columns import Varying
from instar.data.documents import Corpus
from instar.data.records.roles import Roles
from instar.data.sources import cache_folder
from instar.data.tokens import INPUT_IDS, TokenDataset
from instar.data.vocabulary import Vocabulary
from instar.errors import UsageError
from instar.files import written_whole
from instar.structures import Inputs
from instar.tokenising import CONFIG, MOST_IDS, Tokenising, end_of, read_tokenising, train_lossless

if TYPE_CHECKING:
    import pyarrow as pa

NUM_IDS = 8192
"""Of a tokenizer that is trained on the data."""

_FORMAT = 1  # of the kept tokens; another number invalidates them
_IN_ONE_CALL = 256  # documents


@dataclass(frozen=True, eq=False)
class TokenPreparation:
    """From texts to the ids of their tokens.

    Args:
        tokenising: the tokenizer; `max_length` is that of a sequence.
        num_ids: how many the network has; a folder's network may have more than its tokenizer.
        end: the id between documents; None for none.
        origin: where the tokenizer is from, in words.
    """

    tokenising: Tokenising
    num_ids: int
    end: int | None = None
    origin: str = "trained on the training part"
    kind = "tokens"

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids are of; the id of padding that a configuration states may be none of the network's."""
        pad = self.tokenising.pad
        return Vocabulary(self.num_ids, self.tokenising.name, pad=pad if pad < self.num_ids else 0)

    @property
    def class_names(self) -> list[str]:
        """A name for each id: its token."""
        names = [f"<{number}>" for number in range(self.num_ids)]
        for token, number in self.tokenising.tokenizer.get_vocab(with_added_tokens=True).items():
            names[number] = token
        return names

    def inputs(self, table: "pa.Table", roles: Roles) -> Inputs:
        """The ids of each text of a table's column, cut at the length of a sequence."""
        ids, lengths = self.tokenising.stream(table.column(roles.text[0]).to_pylist())
        mark = [] if self.end is None else [self.end]
        parts = np.split(ids, np.cumsum(lengths)[:-1])
        texts = [np.concatenate([np.array(mark, np.int32), one])[: self.tokenising.max_length] for one in parts]
        values, sizes = np.concatenate(texts).astype(np.int64), [len(one) for one in texts]
        return {INPUT_IDS: Varying(torch.from_numpy(values), torch.tensor(sizes), self.tokenising.pad)}

    def record(self) -> dict[str, Any]:
        """All of it, as JSON."""
        about = {"kind": self.kind, "num_ids": self.num_ids, "end": self.end, "origin": self.origin}
        return {**about, **self.tokenising.record}

    def in_words(self) -> str:
        """One line."""
        return (
            f"running text as {self.num_ids:,} ids of tokens (tokenizer {self.origin}), in sequences of "
            f"{self.tokenising.max_length}"
        )


def read(record: Mapping[str, Any]) -> TokenPreparation:
    """What `record` gave."""
    return TokenPreparation(Tokenising.of_record(record), record["num_ids"], record["end"], record["origin"])


def fit_tokens(corpus: Corpus, *, tokenizer: str | None = None, max_length: int | None = None) -> TokenPreparation:
    """The preparation of running text: by a tokenizer that is there, or by one trained on the training part alone.

    Args:
        corpus: the documents.
        tokenizer: a folder as transformers saves it, or a `tokenizer.json`; or a number of ids, for one that is
            trained (8,192 by default).
        max_length: tokens in a sequence, 128 by default.

    Raises:
        UsageError: there is no such tokenizer, or its network takes no sequences so long.
        DataError: it cannot be read.
    """
    if tokenizer is None or tokenizer.isdecimal():
        size = int(tokenizer or NUM_IDS)
        content = _kept_text(corpus, size) or _keep_text(
            corpus, size, train_lossless((one.text for one in corpus.documents("train")), size=size).content
        )
        found = Tokenising(content, max_length or MOST_IDS)
        return TokenPreparation(found, found.size, end_of(found))
    path = Path(tokenizer).expanduser()
    found = read_tokenising(path, max_length=max_length)
    config = path / CONFIG
    stated = json.loads(config.read_text()).get("vocab_size") if config.is_file() else None
    number = max(found.size, int(stated or 0))
    return TokenPreparation(found, number, end_of(found, path if path.is_dir() else None), f"of {path.name}")


def token_data(corpus: Corpus, part: str, preparation: TokenPreparation) -> TokenDataset:
    """A part of a corpus as sequences; its tokens stay in a file of the cache, which is mapped into memory."""
    tokens, documents = _kept_once(corpus, part, preparation)
    marked = preparation.end is not None
    lengths, num_bytes = documents[:, 0], documents[:, 1]
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
    return TokenDataset(
        tokens,
        starts,
        num_bytes,
        length=preparation.tokenising.max_length,
        vocabulary=preparation.vocabulary,
        class_names=preparation.class_names,
        marked=marked,
    )


def _kept_once(corpus: Corpus, part: str, preparation: TokenPreparation) -> tuple[Tensor, Tensor]:
    """The tokens of a part, and of each document its positions and bytes; from the cache if they are there."""
    digest = _digest(corpus, part, [_FORMAT, preparation.tokenising.content, preparation.end])
    place = _place(f"{digest}.tokens")
    if place is None:
        parts = list(_encoded(corpus, part, preparation))
        tokens, documents = (np.concatenate(one) for one in zip(*parts, strict=True))
        return torch.from_numpy(tokens), torch.from_numpy(documents)
    lengths = place.with_suffix(".npy")
    if not (place.is_file() and lengths.is_file()):
        found = []
        with written_whole(place) as temporary, open(temporary, "wb") as stream:
            for tokens, documents in _encoded(corpus, part, preparation):
                stream.write(tokens.tobytes())
                found.append(documents)
            stream.flush()
            with written_whole(lengths) as other, open(other, "wb") as file:
                np.save(file, np.concatenate(found))
    number = place.stat().st_size // 4
    mapped = torch.from_file(str(place), shared=False, size=number, dtype=torch.int32)
    return mapped, torch.from_numpy(np.load(lengths))


def _encoded(corpus: Corpus, part: str, preparation: TokenPreparation) -> Iterator[tuple[Any, Any]]:
    """Some documents at a time: their tokens, each after the mark, and their positions and bytes."""
    end = preparation.end
    for texts in _in_parts(one.text for one in corpus.documents(part)):
        ids, lengths = preparation.tokenising.stream(texts)
        if end is not None:
            begins = np.cumsum(lengths) - lengths
            ids, lengths = np.insert(ids, begins, end), lengths + 1
        num_bytes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        yield ids, np.stack([lengths, np.array(num_bytes, np.int64)], axis=1)
    if end is not None:
        yield np.array([end], np.int32), np.zeros((0, 2), np.int64)


def _in_parts(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while some := list(islice(texts, _IN_ONE_CALL)):
        yield some


def _digest(corpus: Corpus, part: str, about: Any) -> str:
    """By what tokens are known in the cache: the documents, and how they became tokens."""
    digest = hashlib.sha256(json.dumps(about).encode())
    for key in sorted(corpus.parts[part]):
        digest.update(key)
    digest.update("\n".join(map(str, corpus.files)).encode())  # in whose order they lie
    return digest.hexdigest()[:32]


def _place(name: str) -> Path | None:
    try:
        return cache_folder() / "tokens" / name
    except UsageError:  # there is no home directory
        return None


def _kept_text(corpus: Corpus, size: int) -> str:
    place = _place(f"{_digest(corpus, 'train', ['tokenizer', size])}.json")
    return place.read_text() if place is not None and place.is_file() else ""


def _keep_text(corpus: Corpus, size: int, content: str) -> str:
    place = _place(f"{_digest(corpus, 'train', ['tokenizer', size])}.json")
    if place is not None:
        with suppress(OSError), written_whole(place) as part:
            part.write_text(content)
    return content
