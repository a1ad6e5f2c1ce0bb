"""`fit` computes a wide linear head together with its loss: within float error; resumed, with equal bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import instar
from instar import fused_head
from instar.data import InMemoryDataset
from instar.fused_head import opened, wide_head
from instar.interruption import Interruption
from instar.networks import forward_logits
from instar.training import FitResult

CLASSES = 40


def data(num: int = 50, seed: int = 0) -> InMemoryDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num, 6, generator=generator)
    labels = torch.randint(CLASSES, (num,), generator=generator)
    labels[::7] = -1
    return InMemoryDataset(inputs, labels, class_names=[str(number) for number in range(CLASSES)])


def network(seed: int = 0, classes: int = CLASSES) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, classes))


def fitted(fused: bool, monkeypatch: pytest.MonkeyPatch, **options: Any) -> FitResult:
    monkeypatch.setattr(fused_head, "PAYS", 0 if fused else 2**60)
    seen: list[int] = []
    monkeypatch.setattr("instar.training_loop.fused_loss", counting(seen))
    given = {"epochs": 3, "batch_size": 16, "learning_rate": 0.3, "gradient_clip": 1.0, "seed": 3, **options}
    result = instar.distill(network(seed=1), network(), data(), temperature=2.0, hard_weight=0.5, **given)
    assert bool(seen) == fused
    return result


def counting(seen: list[int]) -> Any:
    def loss(*given: Any, **options: Any) -> Any:
        seen.append(1)
        return fused_head.fused_loss(*given, **options)

    return loss


def test_the_network_is_that_of_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fused = (fitted(way, monkeypatch, validation=data(20, seed=1)) for way in (False, True))
    for one, other in zip(plain.network.parameters(), fused.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for line, other_line in zip(plain.metrics, fused.metrics, strict=True):
        assert line == pytest.approx(other_line, rel=1e-4)
        assert line["train_errors"] == other_line["train_errors"]


def test_labels_alone_and_logit_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"soft_weight": 0.0}, {"temperature": float("inf")}):
        found = []
        for limit in (2**60, 0):
            monkeypatch.setattr(fused_head, "PAYS", limit)
            given = {"temperature": 2.0, "hard_weight": 0.5, "epochs": 1, "batch_size": 16, **options}
            found.append(instar.distill(network(seed=1), network(), data(), **given).network)
        for one, other in zip(found[0].parameters(), found[1].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_resumed_fit_has_equal_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(True, monkeypatch)
    steps: list[float] = []

    def stop(self: Interruption) -> bool:
        steps.append(1)
        return len(steps) == 6

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "is_waiting", property(stop))
        patch.setattr(Interruption, "deliver", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fitted(True, monkeypatch, run_dir=tmp_path / "run")
    resumed = fitted(True, monkeypatch, run_dir=tmp_path / "run")
    assert len(steps) == 6
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [line["train_loss"] for line in whole.metrics] == [line["train_loss"] for line in resumed.metrics]


class Scaled(nn.Module):
    """Its logits are not the output of its head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * self.head(inputs)


class Watching(nn.Module):
    """It looks at its logits on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        logits = self.head(inputs)
        return {"logits": logits, "sums": logits @ torch.ones(CLASSES)}


class Tied(nn.Module):
    """Its head is its embedding, and it gives a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 6)
        self.head = nn.Linear(6, CLASSES, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.embedding.weight.mean(0) * inputs)}


def test_heads_are_found_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(2, 6)

    def found(module: nn.Module, batch_size: int = 16) -> nn.Linear | None:
        return wide_head(module, inputs, CLASSES, batch_size=batch_size)

    assert found(network()) is None  # few logits
    monkeypatch.setattr(fused_head, "PAYS", 16 * CLASSES)
    plain, tied, heard = network(), Tied(), network()
    assert found(plain) is plain[3]
    assert found(tied) is tied.head
    assert found(plain, batch_size=15) is None
    assert found(Scaled()) is None
    assert found(Watching()) is None
    assert found(nn.Sequential(plain, nn.Softmax(-1))) is None
    heard[3].register_forward_hook(lambda *_: None)
    assert found(heard) is None
    with opened(plain[3]):
        assert forward_logits(plain, inputs).shape == (2, 8)
    assert plain.training
    assert forward_logits(plain, inputs).shape == (2, CLASSES)


def test_a_tied_head_learns_from_both_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (2**60, 0):
        monkeypatch.setattr(fused_head, "PAYS", limit)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            student = Tied()
        found.append(instar.train(student, data(), epochs=2, batch_size=16, learning_rate=0.1).network)
    torch.testing.assert_close(found[0].embedding.weight, found[1].embedding.weight, rtol=1e-4, atol=1e-5)
