"""Real texts: a BERT of transformers teaches an EmbeddingBag, with examples of their own length."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import instar
from instar.data import InMemoryDataset, id_batches, like_length, shuffled
from instar.distillation import SoftTargetStore, distill
from instar.networks import cut, layers_of, name_layers_
from instar.processes import start_process
from instar.runs import LAST
from instar.transfer.features import features_at
from small_fits import same_bits, state_of
from texts import Bag, bert, distil_a_bert, questions, texts

LAYERS = ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler", "classifier"]
OPTIONS: dict[str, Any] = {"batch_size": 16, "optimiser": "adamw", "learning_rate": 0.003}


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    """A BERT, fine-tuned for a few epochs."""
    data = texts()
    sampler = like_length(data, batch_size=16)
    result = instar.train(bert(), data, validation=texts("val"), epochs=8, sampler=sampler, **OPTIONS)
    assert result.metrics[-1]["validation_errors"] < 0.5 * len(texts("val"))
    return result.network


def test_a_bert_teaches_an_embedding_bag(teacher: nn.Module) -> None:
    data, validation = texts(), texts("val")
    student = distill(
        teacher,
        Bag(),
        data,
        validation=validation,
        epochs=20,
        temperature=2.0,
        **OPTIONS | {"learning_rate": 0.03},
    )
    assert student.metrics[-1]["validation_errors"] < 0.5 * len(validation)
    assert not student.failed_to_learn


def test_padded_with_a_mask_is_what_one_text_alone_gives(teacher: nn.Module) -> None:
    ids, _ = questions()[0]
    logits = instar.predict_logits(teacher, texts())
    for row in range(0, len(ids), 13):
        with torch.no_grad():
            alone = teacher(input_ids=torch.tensor([ids[row]])).logits[0]
        torch.testing.assert_close(logits[row], alone, atol=1e-5, rtol=0)


def test_the_loop_is_a_bare_loop_over_the_module() -> None:
    data, network = texts(), bert(dropout=0.0)
    found = instar.fit(
        bert(dropout=0.0), data, epochs=1, batch_size=16, learning_rate=0.1, momentum=0.0, schedule="constant"
    )
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    for ids in id_batches(shuffled(data.ids, seed=0, epoch=0), 16):
        loss = nn.functional.cross_entropy(network(**data.gather(ids, 0)).logits, data.labels(ids))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the teacher is right on")  # it is not trained, for speed
def test_a_distillation_that_is_killed_resumes_with_the_same_bits(tmp_path: Path) -> None:
    ids, labels = questions()[0]  # two trainings of a WordPiece differ: both processes get the same ids
    bert()  # skips here, not in the process, where transformers is not there
    path = tmp_path / "killed"
    process = start_process(distil_a_bert, path, ids, labels, 0.0)
    while process.is_alive() and not (path / LAST).exists():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -9
    resumed, alone = (distil_a_bert(one, ids, labels) for one in (path, tmp_path / "alone"))
    assert "resumed from epoch" in (path / "log.txt").read_text()
    assert same_bits(state_of(resumed.network), state_of(alone.network))
    assert resumed.metrics == alone.metrics


def test_stored_targets_serve_a_student_of_another_kind(teacher: nn.Module, tmp_path: Path) -> None:
    data = texts()
    store = SoftTargetStore.write(tmp_path / "store", {"bert": teacher}, data)
    student = distill(
        store.targets(data, temperature=2.0), Bag(), data, epochs=2, run_dir=tmp_path / "run", **OPTIONS
    )
    assert student.num_steps == 2 * -(-len(data) // 16)
    ids, labels = questions()[0]
    other = InMemoryDataset(
        {"input_ids": [one[::-1] for one in ids]}, torch.tensor(labels), class_names=data.class_names
    )
    with pytest.raises(instar.UsageError):
        store.targets(other, temperature=2.0)


def test_a_bert_is_cut_and_its_frozen_layers_are_computed_once(teacher: nn.Module) -> None:
    name_layers_(teacher, LAYERS)
    ids, labels = questions()[0]
    values = nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
    fixed = InMemoryDataset(
        {"input_ids": values, "attention_mask": (values > 0).long()},
        torch.tensor(labels),
        class_names=questions()[2],
    )
    inputs = fixed.gather(fixed.ids[:4], 0)
    assert [layer.name for layer in layers_of(teacher, inputs)] == LAYERS
    for n in range(1, 5):
        parts = cut(teacher, n, inputs)
        assert parts.cacheable
        with torch.no_grad():
            torch.testing.assert_close(parts.rest(*parts.prefix(**inputs)), teacher(**inputs).logits)
    found = features_at(teacher, [1, 3], texts())
    assert found[1].shape == found[3].shape == (len(texts()), 32)
