"""`fit` on sequences of tokens: means over positions, padding left out, every kind of soft targets."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from instar import fused_head
from instar.data import Dataset, TokenDataset
from instar.distillation import SoftTargetStore, Teacher, distill
from instar.errors import UsageError
from instar.evaluation import errors_and_nll, evaluate, predicted_rows, score, why_not_learned
from instar.networks import build_network
from instar.positions import positions, rows_of_logits
from instar.runs import Run
from instar.training import FitResult, fit
from running_text import sequences

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return sequences(tmp_path_factory.mktemp("texts")).train


def network(data: Dataset, name: str = "causal:1x8", seed: int = 0) -> nn.Module:
    return build_network(name, input_shape=data.example_shape, num_classes=data.num_classes, seed=seed)


def fitted(student: nn.Module, data: Dataset, **options: Any) -> FitResult:
    about: dict[str, Any] = {"epochs": 1, "batch_size": len(data), "momentum": 0.0, "schedule": "constant"}
    return fit(student, data, precision="float32", **{**about, "learning_rate": 0.1, **options})


def test_a_step_is_that_of_the_mean_over_all_positions(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = data.gather(data.ids, 0), data.labels(data.ids)
    expected = network(data)
    loss = functional.cross_entropy(expected(**inputs).flatten(0, 1), labels.flatten(), ignore_index=-1)
    loss.backward()
    for pays in (0, 2**60):
        monkeypatch.setattr(fused_head, "PAYS", pays)
        student = network(data)
        result = fitted(student, data)
        assert result.metrics[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
        wrong = (expected(**inputs).argmax(-1) != labels) & (labels >= 0)
        assert result.metrics[0]["train_errors"] == int(wrong.sum())
        for one, other in zip(student.parameters(), expected.parameters(), strict=True):
            assert other.grad is not None
            torch.testing.assert_close(one, other - 0.1 * other.grad, rtol=1e-4, atol=1e-6)


def test_padding_counts_for_nothing(data: Dataset) -> None:
    assert isinstance(data, TokenDataset)
    assert data.num_positions % data.length
    student = network(data)
    last = data.ids[data.rows(data.ids) == len(data) - 1]
    inputs = data.gather(last, 0)
    number = int(inputs["attention_mask"].sum())
    shorter = {name: values[:, :number] for name, values in inputs.items()}
    torch.testing.assert_close(student(**inputs)[:, :number], student(**shorter))
    where = positions(inputs, data.labels(last))
    assert rows_of_logits(student(**inputs), where, 1, data.num_classes).shape == (number, data.num_classes)


def kinds_of_targets(teacher: nn.Module, data: Dataset, folder: Path) -> dict[str, Any]:
    """The same teacher, at each step and from stores."""
    top, all_others = {"top_k": data.num_classes - 1, "draws": 1, "temperatures": (2.0,)}, folder / "top"
    hidden = SoftTargetStore.write(folder / "hidden", {"teacher": teacher}, data, hidden=True, dtype="float32")
    stored = SoftTargetStore.write(all_others, {"teacher": teacher}, data, dtype="float32", draws_at=2.0, **top)
    return {
        "live": Teacher(teacher, data, temperature=2.0),
        "hidden": hidden.targets(data, temperature=2.0),
        "top": stored.targets(data, temperature=2.0, reading="tail"),
    }


def test_every_kind_of_targets_teaches_the_same(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[Tensor]] = {}
    for pays in (0, 2**60):
        monkeypatch.setattr(fused_head, "PAYS", pays)
        teacher = network(data, "causal:1x16", seed=5)
        for kind, targets in kinds_of_targets(teacher, data, tmp_path / str(pays)).items():
            student = network(data)
            result = fitted(student, data, targets=targets, hard_weight=0.5, batch_size=4)
            assert result.metrics[0]["train_soft_loss"] > 0
            found[f"{kind} {pays}"] = list(student.parameters())
    first, *others = found.values()
    assert not torch.equal(first[0], network(data).get_parameter("embedding.words.weight"))
    for other in others:
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_validation_is_over_positions(data: Dataset) -> None:
    student = network(data)
    wrong, nll = errors_and_nll(student, data)
    inputs, labels = data.gather(data.ids, 0), data.labels(data.ids)
    logits = student(**inputs).detach()
    assert nll == pytest.approx(
        float(functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)), rel=1e-5
    )
    assert wrong == int(((logits.argmax(-1) != labels) & (labels >= 0)).sum())
    whole = score(logits.flatten(0, 1), labels.flatten())
    assert evaluate(student, data) == pytest.approx(whole, rel=1e-5)


def test_rows_that_are_not_read_to_the_end_leave_torch_as_it_was(data: Dataset) -> None:
    student = network(data)
    rows = [predicted_rows(student, data) for _ in range(2)]
    assert not any(next(one)[0].requires_grad for one in rows)
    assert torch.is_grad_enabled()
    assert student.training
    del rows
    assert torch.is_grad_enabled()


def test_one_call_distils_sequences(data: Dataset) -> None:
    result = distill(network(data, "causal:1x16", seed=5), network(data), data, temperature=2.0, epochs=1)
    assert result.metrics[0]["train_soft_loss"] > 0


def test_a_language_model_learns_and_one_at_rest_does_not(data: Dataset) -> None:
    result = fitted(network(data), data, epochs=8, batch_size=8, optimiser="adamw", learning_rate=1e-2)
    assert not result.failed_to_learn
    assert result.metrics[-1]["train_loss"] < 0.7 * result.metrics[0]["train_loss"]
    assert why_not_learned(network(data), data, data.ids).startswith("right on ")


def test_an_interrupted_fit_has_equal_bits(data: Dataset, tmp_path: Path) -> None:
    teacher = Teacher(network(data, "causal:1x16", seed=5), data, temperature=1.0)
    about: dict[str, Any] = {"targets": teacher, "epochs": 3, "batch_size": 8, "optimiser": "adamw"}
    whole = fitted(network(data), data, **about)

    calls: list[int] = []

    def interrupted(ids: Tensor, views: Tensor | int) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return teacher(ids, views)

    def run() -> Run:
        return Run(tmp_path / "run", recipe="fit", config={})

    with run() as first, pytest.raises(KeyboardInterrupt):
        fitted(network(data), data, run=first, checkpoint_seconds=0, **{**about, "targets": interrupted})
    with run() as second:
        resumed = fitted(network(data), data, run=second, **about)
    assert resumed.num_steps == whole.num_steps > 4
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_sequences_without_labels_learn_from_a_teacher_alone(data: Dataset) -> None:
    bare = data.without_labels(data.ids)
    with pytest.raises(UsageError, match="no example has a label, and there are no soft targets"):
        fitted(network(data), bare)
    result = fitted(network(data), bare, targets=Teacher(network(data, seed=5), bare, temperature=1.0))
    assert result.metrics[0]["train_soft_loss"] > 0


def test_networks_of_whole_texts_are_refused(data: Dataset) -> None:
    with pytest.raises(UsageError, match="classifies whole texts, and the data is running text"):
        network(data, "bag:8")
    form = {"input_ids": ("int64<300#ab", "<=16"), "attention_mask": ("mask", "<=16")}
    with pytest.raises(UsageError, match="'causal:1x8' predicts the next token, and the data is of classes"):
        build_network("causal:1x8", input_shape=form, num_classes=3, seed=0)

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(300, 4), nn.Linear(4, 300)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            logits: Tensor = self.head(self.words(input_ids).mean(1))
            return logits

    with pytest.raises(
        UsageError, match=r"gives \(\d+, 300\) for sequences of 16 tokens, expected logits at each"
    ):
        fitted(Classifier(), data)
