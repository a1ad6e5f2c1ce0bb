"""Language models of transformers: a folder with weights, or a configuration alone, for the ids of the data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from instar.data import Splits
from instar.errors import UsageError
from instar.networks import build_network
from instar.training import fit
from running_text import language_model_folder, sequences

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return sequences(tmp_path_factory.mktemp("texts"))


def built(folder: Path, splits: Splits, **options: Any) -> nn.Module:
    shape, number = splits.train.example_shape, splits.train.num_classes
    return build_network(f"transformers:{folder}", input_shape=shape, num_classes=number, seed=0, **options)


def test_weights_are_those_of_the_folder(tmp_path: Path, splits: Splits) -> None:
    from instar.networks.libraries.of_transformers import transformers

    folder = language_model_folder(tmp_path / "model", splits)
    theirs = transformers().GPT2LMHeadModel.from_pretrained(folder).eval()
    inputs = splits.train.gather(splits.train.ids[:3], 0)
    for purpose in ("start", "own"):
        network = built(folder, splits, weights=purpose).eval()
        with torch.no_grad():
            assert torch.equal(network(**inputs).logits, theirs(**inputs).logits)


def test_a_configuration_alone_is_for_the_ids_of_the_data(tmp_path: Path, splits: Splits) -> None:
    folder = language_model_folder(tmp_path / "model", splits, weights=False)
    network = built(folder, splits)
    assert network.config.vocab_size == splits.train.num_classes != 50257
    result = fit(network, splits.train, epochs=2, optimiser="adamw", learning_rate=1e-2, batch_size=8)
    assert result.metrics[1]["train_loss"] < result.metrics[0]["train_loss"]


def test_a_folder_brings_its_tokenizer(tmp_path: Path, splits: Splits) -> None:
    folder = language_model_folder(tmp_path / "model", splits, vocab_size=splits.train.num_classes + 12)
    own = sequences(tmp_path, tokenizer=str(folder))
    assert own.train.num_classes == splits.train.num_classes + 12  # more than its tokenizer has
    assert own.train.class_names[-1] == f"<{own.train.num_classes - 1}>"
    logits = built(folder, own)(**own.test.gather(own.test.ids, 0)).logits  # padding has an id of the network
    assert logits.shape[-1] == own.train.num_classes
    with pytest.raises(UsageError, match=r"predicts 310 ids, the data has 298 of another tokenizer: name its own"):
        built(folder, splits)


def test_another_tokenizer_is_refused_by_name(tmp_path: Path, splits: Splits) -> None:
    folder = language_model_folder(tmp_path / "model", splits)
    (tmp_path / "texts").mkdir()
    for place in range(9):
        (tmp_path / "texts" / f"other-{place}.txt").write_text(f"{place} mice and men " * 9)
    other = sequences(tmp_path, tokenizer=str(splits.train.num_classes))
    assert other.train.num_classes == splits.train.num_classes
    with pytest.raises(
        UsageError, match=r"trained with its own tokenizer \(\w{8}\), and the data has the ids of anoth"
    ):
        built(folder, other, weights="own")


def test_longer_sequences_than_a_network_takes_are_refused(tmp_path: Path, splits: Splits) -> None:
    folder = language_model_folder(tmp_path / "model", splits, weights=False, n_positions=8)
    with pytest.raises(UsageError, match="takes sequences of 8 tokens, those of the data have 16: --max-length 8"):
        built(folder, splits)


def test_a_classifier_of_texts_is_no_language_model(tmp_path: Path, splits: Splits) -> None:
    from instar.networks.libraries.of_transformers import transformers

    package = transformers()
    package.DistilBertConfig(dim=8, n_layers=1, n_heads=2, hidden_dim=8).save_pretrained(tmp_path)
    with pytest.raises(
        UsageError, match="is a distilbert, which transformers has no prediction of next tokens for"
    ):
        built(tmp_path, splits)
