"""Small files of running text, as sequences of tokens, and language models of transformers."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from instar.data import Splits, load_data

ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")


def text_of(number: int, sentences: int = 12) -> str:
    """A text that is easy to predict: who sees whom, in turn."""
    names = [ANIMALS[(number + place) % len(ANIMALS)] for place in range(sentences + 1)]
    return "\n".join(f"The {one} sees the {two}." for one, two in itertools.pairwise(names))


def write_texts(folder: Path, number: int = 12) -> Path:
    """A folder of texts that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(number):
        (folder / f"{place:02}.txt").write_text(f"Story {place}.\n{text_of(place)}\n")
    return folder


def sequences(folder: Path, **options: Any) -> Splits:
    """These texts as sequences of 16 tokens."""
    pytest.importorskip("tokenizers")
    about: dict[str, Any] = {"tokenizer": "300", "max_length": 16, **options}
    return load_data(f"text:{write_texts(folder / 'texts')}", **about)


def language_model_folder(path: Path, splits: Splits, *, weights: bool = True, **changes: Any) -> Path:
    """A GPT-2 as `save_pretrained` writes it: with weights and tokenizer, or its configuration alone."""
    from instar.networks.libraries.of_transformers import quiet, transformers

    package = transformers()
    about = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, **changes}
    if not weights:
        package.GPT2Config(**about).save_pretrained(path)
        return path
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text(splits.preparation.tokenising.content)  # type: ignore[union-attr]
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    with quiet(package):
        package.set_seed(1)
        package.GPT2LMHeadModel(
            package.GPT2Config(**{"vocab_size": splits.train.num_classes, **about})
        ).save_pretrained(path)
    return path
