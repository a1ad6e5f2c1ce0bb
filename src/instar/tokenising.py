"""Texts as ids of words and parts of words, by tokenizers of the `tokenizers` library: read, trained, asked.

What is known of a tokenizer is JSON alone, `Tokenising.record`, so that a run can keep it.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.errors import DataError, UsageError, first_line
from instar.naming import import_extra

TOKENIZER, TOKENIZER_CONFIG, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
MOST_IDS = 128
"""Longer texts are cut, where nobody says at how many ids."""

_LARGEST = 2**20  # a tokenizer that says that its network takes more says that it does not know
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_IN_ONE_CALL = 10_000  # texts


class Encoded(NamedTuple):
    """The ids of texts, one after another."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    """0 for the first text of a pair and 1 for the second, for each id"""
    num_cut: int
    """texts that were longer"""


@dataclass(frozen=True)
class Tokenising:
    """A tokenizer, and how it is used.

    Args:
        content: of its `tokenizer.json`.
        max_length: longer texts are cut at so many ids.
        pad: the id behind the end of shorter texts.
        mask: the id in the place of a masked word; None where there is none.
        told_apart: whether its network is told which id is of which text of a pair (`token_type_ids`).
    """

    content: str
    max_length: int = MOST_IDS
    pad: int = 0
    mask: int | None = None
    told_apart: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        others = {key: getattr(self, key) for key in ("max_length", "pad", "mask", "told_apart")}
        return {"tokenizer": json.loads(self.content), **others}

    @classmethod
    def of_record(cls, record: Any) -> "Tokenising":
        """What `record` gave."""
        others = {key: record[key] for key in ("max_length", "pad", "mask", "told_apart")}
        return cls(canonical(json.dumps(record["tokenizer"])), **others)

    @functools.cached_property
    def name(self) -> str:
        """Eight hex digits that identify the tokenizer, without how long its texts are."""
        return hashlib.sha256(canonical(self.content).encode()).hexdigest()[:8]

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the library.

        Raises:
            UsageError: the library is not installed.
            DataError: the content is no tokenizer, or one of a newer version.
        """
        library = import_extra("tokenizers", "text")
        try:
            found = library.Tokenizer.from_str(self.content)
            found.no_padding()
            found.enable_truncation(self.max_length)
        except BaseException as error:  # the library panics, which is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise DataError(f"{TOKENIZER} cannot be read as a tokenizer: {first_line(error)}") from None
        return found

    @property
    def size(self) -> int:
        """The number of ids; the largest is one less."""
        return 1 + int(max(self.tokenizer.get_vocab(with_added_tokens=True).values()))

    def encode(self, texts: Sequence[Any]) -> Encoded:
        """The ids of texts, or of pairs of texts.

        Example:
            >>> tokenising = train_tokenising(["a red tree", "a red sea"] * 3, size=300)
            >>> encoded = tokenising.encode(["a red tree", "red"])
            >>> encoded.lengths.tolist(), tokenising.tokenizer.decode(encoded.ids.tolist())
            ([5, 3], ' a red tree red')
        """
        ids: list[NDArray[np.int64]] = []
        types: list[NDArray[np.int64]] = []
        lengths, num_cut = [], 0
        for start in range(0, len(texts), _IN_ONE_CALL):
            found = self.tokenizer.encode_batch_fast(list(texts[start : start + _IN_ONE_CALL]))
            lengths += [len(one) for one in found]
            ids.append(np.fromiter((id for one in found for id in one.ids), np.int64))
            types.append(np.fromiter((id for one in found for id in one.type_ids), np.int64))
            num_cut += sum(bool(one.overflowing) for one in found)
        empty = np.zeros(0, np.int64)
        return Encoded(
            np.concatenate([empty, *ids]),
            np.array(lengths, np.int64),
            np.concatenate([empty, *types]),
            num_cut,
        )

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> tuple[Encoded, NDArray[np.int64]]:
        """The ids of lists of words, and for each id the number of the word that it begins, -1 for others.

        Example:
            >>> tokenising = train_tokenising(["a red tree", "a red sea"] * 3, size=300)
            >>> tokenising.encode_words([["red", "sea"]])[1].tolist()
            [-1, 0, 1, -1]
        """
        found = self.tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True)
        begun = [
            word if word is not None and word != before else -1
            for one in found
            for before, word in itertools.pairwise([None, *one.word_ids])
        ]
        lengths = np.array([len(one) for one in found], np.int64)
        ids = np.fromiter((id for one in found for id in one.ids), np.int64)
        num_cut = sum(bool(one.overflowing) for one in found)
        return Encoded(ids, lengths, np.zeros_like(ids), num_cut), np.array(begun, np.int64)

    def stream(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of whole texts one after another, without special ones, and the number of each text.

        Example:
            >>> tokenising = train_lossless(["A red tree", "a red sea"] * 3, size=300)
            >>> ids, lengths = tokenising.stream(["A red tree", "sea"])
            >>> tokenising.tokenizer.decode(ids.tolist()), int(lengths.sum()) == len(ids)
            ('A red treesea', True)
        """
        found = self._uncut.encode_batch_fast(list(texts), add_special_tokens=False)
        lengths = np.array([len(one) for one in found], np.int64)
        return np.fromiter((id for one in found for id in one.ids), np.int32, int(lengths.sum())), lengths

    @functools.cached_property
    def _uncut(self) -> Any:
        self.tokenizer.encode("")  # says what is wrong with the content
        uncut = import_extra("tokenizers", "text").Tokenizer.from_str(self.content)
        uncut.no_padding()
        uncut.no_truncation()
        return uncut

    def word_kinds(self) -> list[int]:
        """Of each id 0 where it is of no word, 1 where it begins a word, 2 where it goes on with one.

        Example:
            >>> tokenising = train_tokenising(["a red tree", "a red sea"] * 3, size=300)
            >>> [tokenising.word_kinds()[id] for id in tokenising.encode(["a redtree"]).ids.tolist()]
            [0, 1, 1, 2, 2, 0]
        """
        about = json.loads(self.content)
        special = {one["id"] for one in about.get("added_tokens", ()) if one.get("special")}
        prefix = (about.get("model") or {}).get("continuing_subword_prefix")
        # Where a blank is a part of the next token, it shows as one of these.
        blanks = tuple(mark for mark in ("Ġ", "▁") if f'"type": "{_WITH[mark]}"' in json.dumps(about))
        kinds = [0] * self.size
        for token, id in self.tokenizer.get_vocab(with_added_tokens=True).items():
            goes_on = not token.startswith(blanks) if blanks else bool(prefix) and token.startswith(prefix)
            kinds[id] = 0 if id in special else 2 if goes_on else 1
        return kinds


_WITH = {"Ġ": "ByteLevel", "▁": "Metaspace"}


def train_tokenising(
    texts: Iterable[str], *, size: int, max_length: int = MOST_IDS, keeps_case: bool = False
) -> Tokenising:
    """A tokenizer trained on texts: byte pairs of their lower case; every text has ids, and none is unknown.

    The same texts in any order give the same ids. WordPiece does not: its training has ids that differ from one
    training to the next (`findings/tokenizers-trains-other-ids-each-time.sh`).

    Args:
        texts: to learn from.
        size: the largest number of ids; at least 261, for the bytes and the special ones.
        max_length: longer texts are cut.
        keeps_case: tell capitals from small letters.

    Raises:
        UsageError: the library is not installed, or the size is too small.

    References:
        Sennrich, Haddow and Birch 2016; Radford et al. 2019 for bytes.
    """
    if size < 256 + len(_SPECIAL):
        raise UsageError(f"a vocabulary of {size} ids: expected at least {256 + len(_SPECIAL)}")
    library = import_extra("tokenizers", "text")
    tokenizer = library.Tokenizer(library.models.BPE())
    steps = [library.normalizers.NFC(), *([] if keeps_case else [library.normalizers.Lowercase()])]
    tokenizer.normalizer = library.normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(_SPECIAL),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    pad, mask = (tokenizer.token_to_id(name) for name in ("[PAD]", "[MASK]"))
    return Tokenising(canonical(tokenizer.to_str()), max_length, pad, mask)


END = "<|endoftext|>"
"""Between documents, in a tokenizer that is trained here."""


def train_lossless(texts: Iterable[str], *, size: int) -> Tokenising:
    """A tokenizer for language models trained on texts: byte pairs, from which each text is had again.

    Args:
        texts: to learn from.
        size: the largest number of ids; at least 257, for the bytes and the end of a text.

    Raises:
        UsageError: the library is not installed, or the size is too small.

    References:
        Radford et al. 2019, section 2.2.
    """
    if size <= 256:
        raise UsageError(f"a vocabulary of {size} ids: expected at least 257")
    library = import_extra("tokenizers", "text")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenising(canonical(tokenizer.to_str()), pad=tokenizer.token_to_id(END))


def end_of(tokenising: Tokenising, folder: Path | None = None) -> int | None:
    """The id that a tokenizer has for the end of a text; None where it has none.

    Args:
        tokenising: the tokenizer.
        folder: as transformers saves it, where the tokenizer is from one.

    Example:
        >>> end_of(train_lossless(["a red tree"], size=300))
        0
    """
    ids = tokenising.tokenizer.get_vocab(with_added_tokens=True)
    file = None if folder is None else folder / TOKENIZER_CONFIG
    stated = json.loads(file.read_text()).get("eos_token") if file is not None and file.is_file() else None
    stated = stated.get("content") if isinstance(stated, dict) else stated
    return next((ids[name] for name in (stated, END, "</s>") if name in ids), None)


def read_tokenising(path: Path, *, max_length: int | None = None) -> Tokenising:
    """The tokenizer of a folder as transformers saves it, or of a `tokenizer.json`.

    Args:
        path: of the folder or the file.
        max_length: longer texts are cut; by default at 128, or at fewer where its network takes no more.

    Raises:
        UsageError: there is none.
        DataError: it cannot be read.
    """
    file = path / TOKENIZER if path.is_dir() else path
    if not file.is_file():
        cure = "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER) writes it"
        raise UsageError(f"tokenizer {path}: there is no {TOKENIZER}; {cure}")
    names = [TOKENIZER_CONFIG, CONFIG] if path.is_dir() else []
    try:
        others = {name: (path / name).read_text() for name in names if (path / name).is_file()}
        files = {TOKENIZER: file.read_text(), **others}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"tokenizer {path} cannot be read: {first_line(error)}") from error
    return tokenising_of(files, where=str(path), max_length=max_length)


def tokenising_of(files: Any, *, where: str, max_length: int | None = None) -> Tokenising:
    """The tokenizer that files describe, `tokenizer.json` and perhaps what lies beside it, by name.

    Raises:
        DataError: they cannot be read; `where` names them.
    """
    try:
        about, config = (json.loads(files.get(name, "{}")) for name in (TOKENIZER_CONFIG, CONFIG))
        content = canonical(files[TOKENIZER])
        if not all(isinstance(one, dict) for one in (json.loads(content), about, config)):
            raise ValueError("expected objects")
        stated = about.get("model_max_length"), config.get("max_position_embeddings")
        longest = min(int(one or _LARGEST) for one in stated)
        num_types = int(config.get("type_vocab_size") or 0)
    except (TypeError, ValueError) as error:
        raise DataError(f"tokenizer {where}: its files are no JSON of a tokenizer: {error}") from None
    if max_length is not None and longest < min(max_length, _LARGEST):
        raise UsageError(f"max_length is {max_length}, and the network of tokenizer {where} takes {longest} ids")
    found = Tokenising(content, max_length or min(MOST_IDS, longest))
    try:
        ids = found.tokenizer.get_vocab(with_added_tokens=True)
    except DataError as error:
        raise DataError(f"tokenizer {where}: {error}") from None

    def id_of(key: str, *names: str) -> int | None:
        stated = about.get(key)
        stated = stated.get("content") if isinstance(stated, dict) else stated
        return next((ids[name] for name in (stated, *names) if name in ids), None)

    pad = id_of("pad_token", "[PAD]", "<pad>")
    if pad is None:
        pad = int(config.get("pad_token_id") or config.get("eos_token_id") or 0)
    return Tokenising(content, found.max_length, pad, id_of("mask_token", "[MASK]", "<mask>"), num_types > 1)


def text_bytes(texts: Sequence[str]) -> Tensor:
    """Texts as a tensor, for networks that read them: their UTF-8, padded with 0; (texts, bytes) int32.

    Example:
        >>> text_bytes(["ab", "c"]).tolist(), texts_in(text_bytes(["ab", "c"]))
        ([[97, 98], [99, 0]], ['ab', 'c'])
    """
    encoded = [text.encode() for text in texts]
    found = np.zeros((len(encoded), max([1, *map(len, encoded)])), np.int32)
    for row, content in enumerate(encoded):
        found[row, : len(content)] = np.frombuffer(content, np.uint8)
    return torch.from_numpy(found)


def texts_in(values: Tensor) -> list[str]:
    """The texts that `text_bytes` made a tensor of."""
    rows = values.detach().cpu().numpy().astype(np.uint8)
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


def canonical(content: str) -> str:
    """The JSON of a tokenizer, without how it cuts and pads, in one order of its keys."""
    about = json.loads(content)
    if isinstance(about, dict):
        about = {**about, "truncation": None, "padding": None}
    return json.dumps(about, ensure_ascii=False, sort_keys=True)
