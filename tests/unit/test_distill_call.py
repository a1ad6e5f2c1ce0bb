"""`instar.distill`: an ensemble, labels in the targets, logits to match, and what the run directory remembers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instar import distill, train
from instar.data import as_dataset
from instar.distillation import LabelsInTargets, SoftTargetStore, StoredLogits, Teacher
from instar.errors import DataWarning, LearningWarning, RunError, UsageError
from instar.identity import first_difference
from instar.losses import ensemble_soft_targets
from instar.runs import Run

INPUTS = torch.randn(96, 5, generator=torch.Generator().manual_seed(0))
DATA = (INPUTS, (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 0).long())


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(5, 3)


def weights(student: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def taught(teacher: object, **options: object) -> Tensor:
    student = network(9)
    distill(teacher, student, DATA, epochs=3, learning_rate=0.1, **options)
    return weights(student)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_teaches_with_the_mean_of_its_members(mean: str) -> None:
    members = [network(1), network(2)]

    def targets(ids: Tensor, views: Tensor | int) -> object:
        return by_id[mean][torch.searchsorted(order, ids)]

    data = as_dataset(DATA)
    order, place = data.ids.sort()
    logits = torch.stack([member(INPUTS[place]) for member in members]).detach()
    by_id = {mean: ensemble_soft_targets(logits, 2.0, mean=mean)}
    assert torch.allclose(taught(members, temperature=2.0, ensemble_mean=mean), taught(targets), atol=1e-6)


def test_each_way_to_teach_gives_another_student() -> None:
    ways = [
        taught([network(1)], temperature=2.0),
        taught([network(1), network(2)], temperature=2.0),
        taught([network(1), network(2)], temperature=2.0, ensemble_mean="geometric"),
        taught([network(1), network(2)], temperature=2.0, label_weight=0.5),
        taught([network(1), network(2)], temperature=math.inf),
    ]
    for number, one in enumerate(ways):
        assert all(not torch.allclose(one, other, atol=1e-5) for other in ways[:number])


def test_one_member_is_the_same_as_one_teacher() -> None:
    assert torch.equal(taught([network(1)]), taught(network(1)))


def test_a_run_directory_knows_all_members(tmp_path: Path) -> None:
    members = [network(1), network(2)]
    for temperature in (2.0, math.inf):
        path = tmp_path / f"{temperature}"
        first = taught(members, temperature=temperature, run_dir=path)
        assert torch.equal(taught(members, temperature=temperature, run_dir=path), first)
        known = Run.read(path).config["teachers"]
        assert first_difference(known["0"], known["1"]) is not None
    with pytest.raises(RunError, match=r"config\.teachers"):
        taught([network(1), network(3)], temperature=2.0, run_dir=tmp_path / "2.0")
    with pytest.raises(RunError, match="ensemble_mean"):
        taught(members, temperature=2.0, ensemble_mean="geometric", run_dir=tmp_path / "2.0")
    with pytest.raises(RunError, match="label_weight"):
        taught(members, temperature=2.0, label_weight=0.1, run_dir=tmp_path / "2.0")
    assert Run.read(tmp_path / "inf").result()["config"]["temperature"] == "inf"


def test_a_run_directory_knows_soft_targets_that_are_a_function(tmp_path: Path) -> None:
    data = as_dataset(DATA)
    store = SoftTargetStore.write(tmp_path / "store", {"one": network(1)}, data)
    other = SoftTargetStore.write(tmp_path / "other", {"one": network(2)}, data)
    logits = network(1)(INPUTS).detach()
    ways = {
        "live": [Teacher(network(seed), data, temperature=T) for seed, T in ((1, 2.0), (1, 4.0), (2, 2.0))],
        "stored": [one.targets(data, temperature=T) for one, T in ((store, 2.0), (store, math.inf), (other, 2.0))],
        "kept": [StoredLogits(data.ids, k * logits, temperature=T) for k, T in ((1, 2.0), (1, 4.0), (2, 2.0))],
        "mixed": [
            LabelsInTargets(Teacher(network(1), data, temperature=T), data, weight)
            for T, weight in ((2.0, 0.1), (4.0, 0.1), (2.0, 0.2))
        ],
    }
    for name, (first, *others) in ways.items():
        before = taught(first, run_dir=tmp_path / name)
        assert torch.equal(taught(first, run_dir=tmp_path / name), before)
        for one in others:
            with pytest.raises(RunError, match=r"config\.targets"):
                taught(one, run_dir=tmp_path / name)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="no member"):
        taught([])
    with pytest.raises(UsageError, match="cannot be mixed into logits"):
        taught(network(1), temperature=math.inf, label_weight=0.1)
    with pytest.raises(UsageError, match="from 0 to 1"):
        taught(network(1), label_weight=1.5)


def test_examples_in_both_training_and_validation_are_named() -> None:
    inputs, labels = torch.rand(20, 4), torch.arange(20) % 2
    with pytest.warns(
        DataWarning, match=r"1 of 5 validation examples .* row 0 \(validation\) is row 15 \(training\);"
    ):
        train(nn.Linear(4, 2), (inputs[:16], labels[:16]), validation=(inputs[15:], labels[15:]), epochs=1)


@pytest.mark.filterwarnings("ignore::instar.errors.DataWarning")  # the teacher is right by chance alone
def test_a_fit_that_failed_to_learn_is_said(tmp_path: Path) -> None:
    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    data, how = (inputs, torch.arange(200) % 3), {"epochs": 1, "learning_rate": 1e-9}
    for name, fitted in (
        ("student", lambda: distill(network(1), network(2), data, run_dir=tmp_path / "run", **how)),
        ("network", lambda: train(network(2), data, **how)),
        ("student", lambda: distill(network(1), network(2), data, run_dir=tmp_path / "run", **how)),  # read again
    ):
        with pytest.warns(
            LearningWarning, match=rf"the {name} failed to learn: it is right on \d+ of 200 .*; try"
        ):
            result = fitted()
        assert result.failed_to_learn
