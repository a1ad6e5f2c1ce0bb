#!/usr/bin/env bash
# tokenizers 0.23.3: a WordPiece vocabulary trained twice on the same texts has other ids, and other words.
#
# Nothing is random in the algorithm, and there is no seed to set. One thread does not help. What is keyed by token ids
# (a cache of tokenised texts, hashes of examples, a model's embeddings) no longer fits after a second training.
#
# Expected: the same ids from the same texts.
# Seen: of 79 words 14 to 35 have another id in each of five more trainings; in three of these some words differ.
# Cure: train once and save tokenizer.json; compare its checksum where ids are stored.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$folder/venv/bin/python" - <<'P'
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

texts = [f"{one} {other} {one}{other}" for one in ("red", "green", "blue", "grey", "white") for other in ("tree", "sea", "road", "house")]


def vocabulary():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


first, *others = [vocabulary() for _ in range(6)]
moved = [sum(first[word] != other.get(word) for word in first) for other in others]
print(f"tokenizers {tokenizers.__version__}: {len(first)} words; other ids in five more trainings: {moved}; same words: {[set(first) == set(other) for other in others]}")
assert any(moved), "the same ids each time: this finding is out of date"
P
