"""Small files of sentences with a tag for each word, and networks of transformers that classify words."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from instar.data import Splits

Sentence = tuple[list[str], list[str]]
_NAMES = ("Ann", "Bob Smith", "Carla", "Dmitri Li", "Eve", "Frank")
_TOWNS = ("Paris", "Oslo", "Lima", "New York", "Kyoto")
_THINGS = ("the old bridge", "a market", "her friend", "a concert")


def sentences(number: int = 120, seed: int = 0) -> list[Sentence]:
    """Who does what where, with the names of people and towns tagged."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        parts = [(draw.choice(_NAMES), "PER"), (draw.choice(("visits", "leaves", "likes")), "")]
        parts += [(draw.choice(_THINGS), ""), ("in", ""), (draw.choice(_TOWNS), "LOC"), (".", "")]
        words, tags = [], []
        for text, kind in parts:
            for place, word in enumerate(text.split()):
                words.append(word)
                tags.append(f"{'I' if place else 'B'}-{kind}" if kind else "O")
        found.append((words, tags))
    return found


def write_jsonl(file: Path, rows: Sequence[tuple[Any, Any]]) -> Path:
    """A line for each sentence."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in rows))
    return file


def write_conll(file: Path, rows: Sequence[Sentence]) -> Path:
    """The form of CoNLL 2003: word, part of speech, tag."""
    blocks = ["\n".join(f"{word} NN {tag}" for word, tag in zip(*row, strict=True)) for row in rows]
    file.write_text("-DOCSTART- -X- O\n\n" + "\n\n".join(blocks) + "\n")
    return file


def word_classifier_folder(path: Path, splits: Splits, *, weights: bool = True, **changes: Any) -> Path:
    """A BERT for the classification of words as `save_pretrained` writes it, or its configuration alone."""
    pytest.importorskip("transformers")
    from instar.networks.libraries.of_transformers import quiet, transformers

    package, names = transformers(), dict(enumerate(splits.class_names))
    tokenising = splits.preparation.tokenising  # type: ignore[union-attr]
    about = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    about |= {"vocab_size": tokenising.size, "max_position_embeddings": 32, "id2label": names, **changes}
    config = package.BertConfig(**about)
    if not weights:
        config.save_pretrained(path)
        return path
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text(tokenising.content)
    with quiet(package):
        package.set_seed(1)
        package.BertForTokenClassification(config).save_pretrained(path)
    return path
