"""Real texts as numbers: questions of CLINC150, tokenised by a WordPiece that was trained on them."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar.data import InMemoryDataset, as_dataset, like_length
from instar.distillation import distill
from instar.networks.libraries.operators import repair_torchvision
from instar.training import FitResult

NUM_INTENTS, NUM_EACH, VOCABULARY = 6, 30, 300


@functools.cache
def questions() -> tuple[tuple[list[list[int]], list[int]], tuple[list[list[int]], list[int]], list[str]]:
    """Token ids and labels of training and validation questions of a few intents, and the names of these."""
    tokenizers = pytest.importorskip("tokenizers")
    file = Path(os.environ.get("INSTAR_DATA", "")) / "clinc150" / "data_full.json"
    if not file.is_file():
        pytest.skip("needs clinc150/data_full.json in INSTAR_DATA")
    whole = json.loads(file.read_text())
    names = sorted({intent for _, intent in whole["train"]})[:NUM_INTENTS]
    tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
    texts = [text for text, intent in whole["train"] if intent in names]
    tokenizer.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=1, show_progress=False)
    found: Any = []
    for part, number in (("train", NUM_EACH), ("val", 10)):
        rows = [row for name in names for row in [row for row in whole[part] if row[1] == name][:number]]
        ids = [tokenizer.encode(text).ids for text, _ in rows]
        found.append((ids, [names.index(intent) for _, intent in rows]))
    return found[0], found[1], names


def texts(part: str = "train") -> InMemoryDataset:
    """The questions as `input_ids` of their own length, with `attention_mask`."""
    train, validation, names = questions()
    ids, labels = train if part == "train" else validation
    data = as_dataset(({"input_ids": ids}, labels), class_names=names)
    assert isinstance(data, InMemoryDataset)
    return data


class Bag(nn.Module):
    """The mean of the embeddings of the words, and a linear layer: a student of a BERT."""

    def __init__(self, width: int = 16, dropout: float = 0.0, classes: int = NUM_INTENTS, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.words = nn.EmbeddingBag(VOCABULARY, width, mode="sum")
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask / attention_mask.sum(1, keepdim=True)
        return self.head(self.dropout(self.words(input_ids, per_sample_weights=weights)))


def bert(seed: int = 0, *, dropout: float = 0.1, classes: int = NUM_INTENTS) -> nn.Module:
    """A BERT of two layers of 32 units, as transformers builds it."""
    return small_bert(seed, vocabulary=VOCABULARY, positions=64, classes=classes, dropout=dropout)


def small_bert(seed: int, *, vocabulary: int, positions: int, classes: int, dropout: float = 0.1) -> nn.Module:
    """The same for other words."""
    transformers = pytest.importorskip("transformers")
    repair_torchvision()
    config = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=positions, num_labels=classes, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.BertForSequenceClassification(config)


def distil_a_bert(
    path: Path, ids: list[list[int]], labels: list[int], checkpoint_seconds: float = 15.0
) -> FitResult:
    """A BERT teaches a network with dropout, in batches of like length."""
    torch.set_num_threads(1)
    names = [str(number) for number in range(NUM_INTENTS)]
    data = InMemoryDataset({"input_ids": ids}, torch.tensor(labels), class_names=names)
    return distill(
        bert(), Bag(dropout=0.3), data, epochs=6, batch_size=16, learning_rate=0.01, optimiser="adamw",
        sampler=like_length(data, batch_size=16), run_dir=path, checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip
