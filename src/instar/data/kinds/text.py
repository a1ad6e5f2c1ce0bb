"""Texts: columns of strings, tokenised once, as ids that a network of words takes."""

import contextlib
import functools
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from instar.data.columns import Varying
from instar.data.kept import was_used
from instar.data.records.places import place_of
from instar.data.records.roles import Roles
from instar.data.sources import cache_folder
from instar.data.vocabulary import Vocabulary
from instar.errors import DataError, DataWarning, UsageError
from instar.files import written_whole
from instar.structures import Inputs
from instar.tokenising import MOST_IDS, Encoded, Tokenising, read_tokenising, train_tokenising

if TYPE_CHECKING:
    from instar.data.kinds import KindOptions
    from instar.data.records.reading import Records

NUM_IDS = 4000
"""Of a tokenizer that is trained on the data: a small network has few weights for each."""

_MOST_TRAINED_ON = 200_000  # texts: more change few words, and take long
_WORTH_KEEPING = 5_000  # texts: fewer are tokenised in less time than it takes to notice
_FORMAT = 1  # of the kept ids; another number invalidates them


@dataclass(frozen=True, eq=False)
class TextPreparation:
    """From a column of texts, or two for pairs, to `input_ids` and `attention_mask`.

    Args:
        tokenising: the tokenizer, and at how many ids texts are cut.
        num_texts: 1, or 2 for pairs.
        origin: where the tokenizer is from, in words.
    """

    tokenising: Tokenising
    num_texts: int = 1
    origin: str = "trained on the training part"
    kind = "text"

    def inputs(self, table: pa.Table, roles: Roles) -> Inputs:
        """The ids of each row, as `InMemoryDataset` takes them; `token_type_ids` too where the network is told.

        Raises:
            DataError: a text is missing, empty, or no text; names the row of the table.
            UsageError: another number of columns than the tokenizer was made for.

        Warns:
            DataWarning: texts that were cut.
        """
        if len(roles.text) != self.num_texts:
            raise UsageError(
                f"text: expected {self.num_texts} column{'s' * (self.num_texts > 1)}, found {len(roles.text)} "
                f"({', '.join(roles.text) or 'none'})"
            )
        columns = [checked_texts(table, name) for name in roles.text]
        encoded = _encoded_once(self.tokenising, columns)
        if encoded.num_cut:
            warnings.warn(
                f"{encoded.num_cut:,} of {len(table):,} texts are longer than {self.tokenising.max_length} ids, "
                "and are cut there; --max-length is another length",
                DataWarning,
                stacklevel=2,
            )
        if not encoded.lengths.all():
            row = int((encoded.lengths == 0).nonzero()[0][0])
            raise DataError(f"{place_of(table, row)}: the tokenizer has no ids for this text; leave it out")
        lengths = torch.from_numpy(encoded.lengths)
        found = {
            "input_ids": Varying(torch.from_numpy(encoded.ids), lengths, self.tokenising.pad, self.vocabulary)
        }
        if self.tokenising.told_apart and self.num_texts > 1:
            found["token_type_ids"] = Varying(torch.from_numpy(encoded.type_ids), lengths)
        return found

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """What the ids are of."""
        tokenising = self.tokenising
        kinds = torch.tensor(tokenising.word_kinds(), dtype=torch.uint8)
        return Vocabulary(tokenising.size, tokenising.name, kinds, tokenising.mask, tokenising.pad)

    def record(self) -> dict[str, Any]:
        """All of it, as JSON."""
        about = {"num_texts": self.num_texts, "origin": self.origin}
        return {"kind": self.kind, **about, **self.tokenising.record}

    def in_words(self) -> str:
        """One line."""
        what = "pairs of texts" if self.num_texts > 1 else "texts"
        return (
            f"{what} as {self.tokenising.size:,} ids of words and their parts (tokenizer {self.origin}), cut at "
            f"{self.tokenising.max_length}"
        )


def read(record: Mapping[str, Any]) -> TextPreparation:
    """What `record` gave."""
    return TextPreparation(Tokenising.of_record(record), record["num_texts"], record["origin"])


def fit(records: "Records", options: "KindOptions") -> TextPreparation:
    """The preparation of texts; see `fit_text`."""
    tokenizer, max_length = options.tokenizer, options.max_length
    return fit_text(records.parts["train"], records.roles, tokenizer=tokenizer, max_length=max_length)


def fit_text(
    train: pa.Table, roles: Roles, *, tokenizer: str | None = None, max_length: int | None = None
) -> TextPreparation:
    """The preparation of texts: by a tokenizer that is there, or by one trained on the training part alone.

    Args:
        train: the training part.
        roles: which columns hold the texts.
        tokenizer: a folder as transformers saves it, or a `tokenizer.json`; or a number of ids, for one that is
            trained (4,000 by default).
        max_length: longer texts are cut.

    Raises:
        UsageError: there is no such tokenizer, or more than two columns.
        DataError: it cannot be read, or a text is missing or empty.

    Example:
        >>> table = pa.table({"text": ["a red tree", "a green sea"] * 4})
        >>> preparation = fit_text(table, Roles(text=("text",)), tokenizer="300")
        >>> preparation.in_words()
        'texts as 274 ids of words and their parts (tokenizer trained on the training part), cut at 128'
        >>> preparation.inputs(table, Roles(text=("text",)))["input_ids"].lengths.tolist()[:2]
        [5, 5]
    """
    if not 1 <= len(roles.text) <= 2:
        raise UsageError(f"text: expected one column, or two for pairs, found {', '.join(roles.text) or 'none'}")
    if tokenizer is not None and not tokenizer.isdecimal():
        found = read_tokenising(Path(tokenizer).expanduser(), max_length=max_length)
        return TextPreparation(found, len(roles.text), f"of {Path(tokenizer).name}")
    columns = [_some(checked_texts(train, name)) for name in roles.text]
    found = _trained_once(columns, int(tokenizer or NUM_IDS), max_length or MOST_IDS)
    return TextPreparation(found, len(roles.text))


def checked_texts(table: pa.Table, name: str) -> pa.Array:
    """A column as texts.

    Raises:
        DataError: it holds something else, or a row has no text, or one of blanks alone.
    """
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"text column {name!r} holds {column.type}, expected texts")
    texts = column.cast(pa.large_string()).combine_chunks()
    texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) and texts.num_chunks == 1 else texts
    is_empty = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), True)
    if num_empty := pc.sum(is_empty).as_py():
        place = place_of(table, pc.index(is_empty, True).as_py())
        raise DataError(
            f"{place}: {name!r} holds no text ({num_empty:,} such rows of {len(texts):,}); leave them out, or "
            "give them one"
        )
    return texts


def _some(texts: pa.Array) -> pa.Array:
    """Evenly spaced texts, where there are many."""
    step = -(-len(texts) // _MOST_TRAINED_ON)
    return texts if step == 1 else texts.take(pa.array(np.arange(0, len(texts), step)))


def _encoded_once(tokenising: Tokenising, columns: list[pa.Array]) -> Encoded:
    """The ids of texts, from the cache where it has them; a cache that cannot be read or written is not used."""
    copy = _place(f"{tokenising.content} {tokenising.max_length}", columns, "arrow")
    if copy is not None and (kept := _kept(copy)) is not None:
        return kept
    encoded = tokenising.encode(_rows(columns))
    if copy is not None:
        _keep(copy, encoded)
    return encoded


def _rows(columns: list[pa.Array]) -> list[Any]:
    texts = [column.to_pylist() for column in columns]
    return texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))


def _place(about: str, columns: list[pa.Array], ending: str) -> Path | None:
    """The file of the cache for what is made of texts; None for few texts, or without a cache."""
    if len(columns[0]) < _WORTH_KEEPING:
        return None
    digest = hashlib.sha256(about.encode())
    for column in columns:
        digest.update(pc.binary_length(column).to_numpy().tobytes())
        digest.update(b"".join(column.cast(pa.large_binary()).to_pylist()))
    try:
        return cache_folder() / "tokenised" / f"{digest.hexdigest()}-{_FORMAT}.{ending}"
    except UsageError:  # there is no home directory
        return None


def _trained_once(columns: list[pa.Array], size: int, max_length: int) -> Tokenising:
    """A tokenizer trained on texts, from the cache where it has it."""
    copy = _place(f"trained {size}", columns, "json")
    if copy is not None and copy.is_file():
        was_used(copy)
        with contextlib.suppress(OSError, ValueError, KeyError):
            return replace(Tokenising.of_record(json.loads(copy.read_text())), max_length=max_length)
    found = train_tokenising((text for column in columns for text in column.to_pylist()), size=size)
    if copy is not None:
        with contextlib.suppress(OSError), written_whole(copy) as part:
            part.write_text(json.dumps(found.record))
    return replace(found, max_length=max_length)


def _kept(copy: Path) -> Encoded | None:
    try:
        with pa.memory_map(str(copy)) as file:
            table = pa.ipc.open_file(file).read_all()
        ids, types = (table.column(name).chunk(0) for name in ("ids", "types"))
        num_cut = int(table.schema.metadata[b"num_cut"])
        lengths = np.diff(ids.offsets.to_numpy())
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError):
        return None
    ids, types = (values.values.to_numpy().astype(np.int64) for values in (ids, types))
    was_used(copy)
    return Encoded(ids, lengths.astype(np.int64), types, num_cut)


def _keep(copy: Path, encoded: Encoded) -> None:
    offsets = pa.array(np.concatenate([[0], np.cumsum(encoded.lengths)]), pa.int64())
    columns = {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(values, pa.int32()))
        for name, values in (("ids", encoded.ids), ("types", encoded.type_ids))
    }
    table = pa.table(columns).replace_schema_metadata({"num_cut": str(encoded.num_cut)})
    try:
        with (
            written_whole(copy) as part,
            pa.OSFile(str(part), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
    except OSError:
        return  # the cache only saves time
