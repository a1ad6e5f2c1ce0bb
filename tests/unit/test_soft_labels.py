"""Labels that are distributions reach the loss as they are, wherever they come from."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import instar
from instar.data import Dataset, as_dataset, load_data
from instar.distillation import LabelsInTargets
from instar.errors import DataError, UsageError
from instar.losses import NO_LABEL, SoftTargets, cross_entropy, distillation_loss, soft_targets
from instar.recipes.record_tables import column_rows, records_of
from instar.recipes.settings import DataSettings
from instar.soft_losses import named_soft_loss, weighted_loss

ROWS = 240


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs, and probabilities of which a linear network can have each."""
    chance = np.random.default_rng(seed)
    inputs = chance.normal(size=(ROWS, 2))
    yes = 1 / (1 + np.exp(-3 * inputs[:, 0]))
    return torch.from_numpy(inputs).float(), torch.from_numpy(np.stack([1 - yes, yes], 1))


def as_csv(file: Path, *, gap: str | None = None) -> str:
    inputs, probs = rows()
    lines = [f"{a:.6f},{b:.6f},{no:.9f},{yes:.9f}" for (a, b), (no, yes) in zip(inputs, probs, strict=True)]
    if gap is not None:
        lines[5] = ",".join(lines[5].split(",")[:2]) + gap
    file.write_text("\n".join(["a,b,no,yes", *lines]) + "\n")
    return f"csv:{file}"


def in_float64(logits: Tensor, probs: Tensor) -> float:
    """Row by row, as the equation has it."""
    total, number = 0.0, 0
    for row, label in zip(logits.double().tolist(), probs.tolist(), strict=True):
        if sum(label) == 0:
            continue
        largest = max(row)
        partition = largest + math.log(sum(math.exp(one - largest) for one in row))
        total -= sum(p * (one - partition) for p, one in zip(label, row, strict=True))
        number += 1
    return total / number


def test_the_hard_term_is_the_cross_entropy_with_the_distribution() -> None:
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=chance)
    probs = torch.softmax(torch.randn(6, 4, generator=chance), 1)
    probs[2] = 0
    expected = in_float64(logits, probs)
    assert float(cross_entropy(logits, probs)) == pytest.approx(expected, rel=1e-6)
    teacher = soft_targets(torch.randn(6, 4, generator=chance), 3.0)
    loss = distillation_loss(logits, teacher, probs, soft_weight=0.7, hard_weight=0.3)
    assert float(loss.hard) == pytest.approx(expected, rel=1e-6)
    assert float(loss.soft) == pytest.approx(float(distillation_loss(logits, teacher).soft))
    assert float(loss.total) == pytest.approx(0.7 * float(loss.soft) + 0.3 * expected, rel=1e-6)
    where = torch.tensor([True, True, True, False, True, True])
    broken = logits.clone()
    broken[3] = torch.nan
    masked = distillation_loss(broken, None, probs, soft_weight=0, hard_weight=1, where=where)
    assert float(masked.hard) == pytest.approx(in_float64(logits[where], probs[where]), rel=1e-6)
    numbers = torch.tensor([0, 3, -1, 1, 2, 2])
    one_hot = torch.nn.functional.one_hot(numbers.clamp(min=0), 4).float() * (numbers >= 0)[:, None]
    assert torch.equal(cross_entropy(logits, one_hot), cross_entropy(logits, numbers))


def test_a_class_that_is_impossible_and_has_no_probability_adds_nothing() -> None:
    logits = torch.tensor([[0.5, -torch.inf, 1.5], [2.0, 0.0, -torch.inf]], requires_grad=True)
    probs = torch.tensor([[0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    loss = cross_entropy(logits, probs)
    loss.backward()
    rows = ((0, [0, 2]), (1, [0, 1]))
    expected = sum(in_float64(logits.detach()[row, kept][None], probs[row, kept][None]) for row, kept in rows) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    impossible = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    assert float(cross_entropy(logits.detach(), impossible)) == math.inf


def test_a_vocabulary_of_classes_and_other_soft_losses_have_the_same_hard_term() -> None:
    chance = torch.Generator().manual_seed(0)
    wide = torch.randn(32, 40_000, generator=chance)
    probs = torch.softmax(torch.randn(32, 40_000, generator=chance), 1)
    teacher = soft_targets(torch.randn(32, 40_000, generator=chance), 2.0)
    loss = distillation_loss(wide, teacher, probs, hard_weight=1.0)
    assert float(loss.hard) == pytest.approx(float(-(torch.log_softmax(wide, 1) * probs).sum(1).mean()), rel=1e-5)
    assert float(loss.soft) == pytest.approx(float(distillation_loss(wide, teacher).soft))
    dist = named_soft_loss("dist")
    assert dist is not None
    narrow, some = wide[:, :5], torch.softmax(probs[:, :5], 1)
    found = weighted_loss(
        dist, narrow, soft_targets(narrow, 2.0), some.argmax(1), soft_weight=1, hard_weight=1, label_probs=some
    )
    assert float(found.hard) == pytest.approx(float(cross_entropy(narrow, some)))


def test_other_shapes_are_refused() -> None:
    logits = torch.zeros(3, 2)
    for labels in (torch.zeros(3, 4), torch.zeros(3), torch.zeros(2, 2)):
        with pytest.raises(
            UsageError, match=r"expected integer labels of shape \(3,\) \(-1 means none\), or prob"
        ):
            cross_entropy(logits, labels)


def trained(data: Any, **options: Any) -> tuple[nn.Module, Dataset]:
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    instar.train(network, data, epochs=60, learning_rate=0.5, schedule="constant", **options)
    return network, data


def distance(network: nn.Module, data: Dataset) -> float:
    """How far what it says is from the distributions, which a linear network can have."""
    with torch.no_grad():
        probs = torch.softmax(network(data.gather(data.ids, 0)), 1)
    return float((probs - data.label_targets(data.ids)).abs().mean())


@pytest.mark.parametrize("form", ["csv", "list", "pair"])
def test_training_gives_the_distributions_back(tmp_path: Path, form: str) -> None:
    inputs, probs = rows()
    if form == "csv":
        data: Dataset = load_data(as_csv(tmp_path / "soft.csv"), label="no,yes").train
        assert data.class_names == ("no", "yes")
    elif form == "list":
        columns = {"a": inputs[:, 0], "b": inputs[:, 1], "label": pa.array(probs.tolist())}
        splits = load_data(columns)
        assert any("holds probabilities: they are learned" in note for note in splits.notes)
        data = splits.train
    else:
        data = as_dataset((inputs, probs))
    network, _ = trained(data)
    assert distance(network, data) < 0.02
    hard, _ = trained(data.with_label_probs(None))
    assert distance(hard, data) > 0.05


def uniform(ids: Tensor, views: Tensor | int) -> SoftTargets:
    return SoftTargets(torch.full((len(ids), 2), 0.5), 1.0)


def test_a_student_learns_them_beside_its_teacher() -> None:
    data = as_dataset(rows())
    mixed = LabelsInTargets(uniform, data, 0.25)(data.ids[:9], 0)
    assert torch.allclose(mixed.probs, 0.375 + 0.25 * data.label_targets(data.ids[:9]))
    torch.manual_seed(0)
    student = nn.Linear(2, 2)
    about: dict[str, Any] = {"epochs": 60, "learning_rate": 0.5, "schedule": "constant"}
    instar.distill(uniform, student, data, soft_weight=0.0, hard_weight=1.0, **about)
    assert distance(student, data) < 0.02
    sharper = as_dataset((rows()[0], rows()[1] ** 2 / (rows()[1] ** 2).sum(1, keepdim=True)))
    assert torch.equal(sharper.labels(data.ids), data.labels(data.ids))  # the same likeliest classes
    assert sharper.fingerprint != data.fingerprint


def test_parts_other_classes_and_devices_keep_their_distributions() -> None:
    inputs, probs = rows()
    three = torch.cat([probs / 2, torch.full((ROWS, 1), 0.5)], 1)
    data = as_dataset((inputs, three), class_names=["a", "b", "c"])
    part = data.subset(data.ids[10:20])
    assert torch.equal(part.label_targets(part.ids), data.label_targets(data.ids[10:20]))
    without = data.without_labels(data.ids[:3])
    assert float(without.label_targets(data.ids[:3]).sum()) == 0
    assert float(data.label_targets(data.ids[:3]).sum()) == pytest.approx(3)
    merged = data.relabelled(torch.tensor([0, 0, 1]), ["ab", "c"])
    assert torch.allclose(merged.label_targets(data.ids), torch.tensor([0.5, 0.5]))
    left = data.relabelled(torch.tensor([0, 1, -1]), ["a", "b"])
    is_none = left.labels(left.ids) < 0
    sums = left.label_targets(left.ids).sum(1)
    assert torch.equal(sums == 0, is_none)
    assert torch.allclose(sums[~is_none], torch.ones(int((~is_none).sum())))


def test_cells_that_are_no_distribution_are_named(tmp_path: Path) -> None:
    for gap, said in ((",0.5,0.6", "row 6: .*expected 2 probabilities that sum to 1"), (",0.5,", "row 6: ")):
        source = as_csv(tmp_path / "soft.csv", gap=gap)
        with pytest.raises(DataError, match=said):
            load_data(source, label="no,yes")
    for gap in (",,", ",0,0"):  # as from Python, zeros are no label
        splits = load_data(as_csv(tmp_path / "soft.csv", gap=gap), label="no,yes")
        assert sum("have no label" in note for note in splits.notes) == 1
        whole = (splits.train, splits.validation, splits.test)
        assert sum(int((part.labels(part.ids) == NO_LABEL).sum()) for part in whole) == 1
    for label, expected in (("no,maybe", "column 'maybe'"), ("no,no", "named twice")):
        with pytest.raises(UsageError, match=expected):
            load_data(as_csv(tmp_path / "soft.csv"), label=label)
    (tmp_path / "texts.csv").write_text("a,no,yes\n1,x,y\n2,x,y\n")
    with pytest.raises(DataError, match="'no' holds string, expected a probability"):
        load_data(f"csv:{tmp_path / 'texts.csv'}", label=["no", "yes"])


def test_distributions_that_were_read_before_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("instar.data.prepared._FEW", 10)
    source = as_csv(tmp_path / "soft.csv")
    first = load_data(source, label="no,yes").train
    assert (tmp_path / "cache" / "read").is_dir()
    again = load_data(source, label="no,yes").train
    assert torch.equal(first.label_targets(first.ids), again.label_targets(first.ids))
    assert again.label_probs is not None


def test_each_column_of_probabilities_is_shown_as_label(tmp_path: Path) -> None:
    settings = DataSettings(name=as_csv(tmp_path / "soft.csv"), label="no,yes")
    shown = {row["column"]: row["role"] for row in column_rows(*records_of(settings))}
    assert shown == {"a": "features", "b": "features", "no": "label", "yes": "label"}


def test_the_label_of_joined_classes_is_the_likeliest_of_the_sums() -> None:
    data = as_dataset((torch.rand(5, 3), torch.tensor([[0.4, 0.35, 0.25]]).repeat(5, 1)))
    joined = data.relabelled(torch.tensor([0, 1, 1]), ["first", "rest"])
    assert joined.labels(joined.ids).tolist() == [1] * 5
    torch.testing.assert_close(joined.label_targets(joined.ids), torch.tensor([[0.4, 0.6]]).repeat(5, 1))


def test_the_likelihood_is_by_the_distributions_so_that_being_too_sure_costs() -> None:
    probs = torch.tensor([0.6, 0.4])
    data = as_dataset((torch.zeros(8, 2), probs.repeat(8, 1)))
    network = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(network.weight)
    nll = {}
    for name, answer in {"right": probs, "too sure": torch.tensor([0.999, 0.001])}.items():
        network.bias.data = answer.log()
        nll[name] = instar.evaluate(network, data)["nll"]
        assert nll[name] == pytest.approx(float(-(probs.double() * answer.double().log()).sum()), rel=1e-5)
    assert nll["right"] < nll["too sure"]


class Soft(TorchDataset[tuple[Tensor, Tensor]]):
    """Gives each label as a distribution, or one-hot."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.inputs[row], self.labels[row]


def test_data_sets_of_torch_may_give_distributions() -> None:
    inputs, probs = rows()
    expected = as_dataset((inputs, probs))
    for given in (Soft(inputs, probs), DataLoader(Soft(inputs, probs))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = as_dataset(given)
        assert torch.equal(found.label_targets(expected.ids), expected.label_targets(expected.ids))
    ragged = [probs[0], *torch.ones(ROWS - 1, 3).softmax(1)]
    with pytest.raises(
        UsageError, match=r"Soft: the label of example 1 has shape \(3,\), that of the first \(2,\)"
    ):
        as_dataset(Soft(inputs, ragged))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["tensor", "array", "data set"])
def test_one_hot_integers_are_labels(form: str) -> None:
    inputs, numbers = torch.rand(4, 2), torch.tensor([1, 0, 2, -1])
    one_hot = torch.nn.functional.one_hot(numbers.clamp(min=0), 3) * (numbers >= 0)[:, None]
    given = {"tensor": (inputs, one_hot), "array": (inputs.numpy(), one_hot.numpy().astype(np.uint8))}
    data = as_dataset(Soft(inputs, one_hot) if form == "data set" else given[form])
    assert data.labels(data.ids).tolist() == numbers.tolist()
    assert data.label_probs is None
    with pytest.raises(DataError, match=r"row 1 is .*expected a single 1, or none for no label"):
        as_dataset((inputs, torch.tensor([[1, 0], [1, 1], [0, 1], [0, 1]])))


def test_rows_that_differ_in_their_distribution_alone_have_ids_in_any_order(tmp_path: Path) -> None:
    inputs, probs = (
        torch.ones(6, 2),
        torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9], [0, 0]]),
    )
    one, other = as_dataset((inputs, probs)), as_dataset((inputs, probs.flip(0)))
    assert torch.equal(one.label_targets(one.ids), probs)
    assert torch.equal(other.label_targets(one.ids), probs)
    assert one.fingerprint == other.fingerprint
    values, soft = torch.arange(120.0), torch.linspace(0.05, 0.95, 120)
    values[50:70] = 50.0
    found = []
    for order in (torch.arange(120), torch.randperm(120, generator=torch.Generator().manual_seed(0))):
        lines = [
            f"{float(values[row])},{float(soft[row]):.4f},{1 - float(soft[row]):.4f}" for row in order.tolist()
        ]
        (tmp_path / "rows.csv").write_text("\n".join(["a,no,yes", *lines]) + "\n")
        found.append(load_data(f"csv:{tmp_path / 'rows.csv'}", label="no,yes"))
    assert found[0].fingerprint == found[1].fingerprint


def test_where_classes_tie_the_first_is_the_label_and_that_is_said(tmp_path: Path) -> None:
    splits = load_data(as_csv(tmp_path / "soft.csv", gap=",0.5,0.5"), label="no,yes")
    assert any("scored by the likeliest class (of 1 rows with several the first)" in note for note in splits.notes)
    assert as_dataset((torch.rand(2, 2), torch.tensor([[0.5, 0.5], [0, 1]]))).labels_at(torch.tensor([0])) == 0


def test_lists_that_hold_no_numbers_are_refused() -> None:
    rows_of_texts = {"a": [1.0, 2.0, 3.0], "label": [["x", "y"], ["x"], ["y"]]}
    with pytest.raises(DataError, match="row 0: 'label' holds lists of string, expected probabilities"):
        load_data(rows_of_texts, features="a")
