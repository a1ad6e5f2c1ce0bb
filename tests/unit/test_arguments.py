"""Arguments of another kind are answered in one line that says what to give instead, by every public function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import instar
from instar.data import InMemoryDataset, as_dataset, parse_views
from instar.distillation import LabelsInTargets, member_logits
from instar.errors import DataError, UsageError
from instar.specialists import ClassSet, SpecialistEnsemble

INPUTS, LABELS = torch.randn(90, 8, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3
PAIR, DATA = (INPUTS, LABELS), as_dataset((INPUTS, LABELS))
OTHER = as_dataset((-INPUTS, LABELS))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


LOGITS = network()(INPUTS).detach()
SETS: list[ClassSet] = [ClassSet([0, 2], 3)]
ENSEMBLE = SpecialistEnsemble(
    network(), [network()], SETS, class_names=DATA.class_names, example_inputs=INPUTS[:4]
)
TAKES_DATA: dict[str, Callable[[Any, Path], Any]] = {
    "train": lambda data, path: instar.train(network(), data, epochs=1),
    "fit": lambda data, path: instar.fit(network(), data, epochs=1),
    "validation": lambda data, path: instar.train(network(), OTHER, validation=data, epochs=1),
    "distill": lambda data, path: instar.distill(network(), network(), data, epochs=1),
    "evaluate": lambda data, path: instar.evaluate(network(), data),
    "predict_logits": lambda data, path: instar.predict_logits(network(), data),
    "member_logits": lambda data, path: member_logits([network()], data),
    "Teacher": lambda data, path: instar.Teacher(network(), data, temperature=4.0),
    "LabelsInTargets": lambda data, path: LabelsInTargets(lambda ids, views: None, data, 0.1),
    "transfer_set": lambda data, path: instar.transfer_set(data, drop_classes=[0]),
    "SoftTargetStore": lambda data, path: instar.SoftTargetStore.write(path, {"one": network()}, data),
    "SpecialistEnsemble": lambda data, path: ENSEMBLE.predict(data),
}
NO_DATA: dict[str, tuple[Any, str]] = {
    "texts": ((INPUTS, ["a"] * 90), "labels: expected a tensor, an array or a list of numbers"),
    "list": ([INPUTS, LABELS], "found a list of Tensor, Tensor"),
    "inputs alone": (
        INPUTS,
        r"a Tensor alone; without labels: instar\.InMemoryDataset\(inputs, None, class_names",
    ),
    "name": ("digits", r"found 'digits'; read it with instar\.load_data"),
    "path": (Path("photos"), r"read it with instar\.load_data"),
    "splits": (instar.Splits(DATA, DATA, DATA), r"found Splits; take one of its parts: \.train"),
    "no label": ((INPUTS, torch.full((90,), -1)), "the largest label is -1, .* class_names="),
}


@pytest.mark.parametrize("function", TAKES_DATA)
def test_every_function_of_data_takes_a_pair_of_tensors_and_nothing_else(function: str, tmp_path: Path) -> None:
    TAKES_DATA[function](PAIR, tmp_path / "pair")
    for name, (data, words) in NO_DATA.items():
        with pytest.raises(UsageError, match=words) as caught:
            TAKES_DATA[function](data, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / name).exists()


TAKES_A_NETWORK: dict[str, Callable[[Any, Path], Any]] = {
    "train": lambda one, path: instar.train(one, DATA, epochs=1),
    "student": lambda one, path: instar.distill(network(), one, DATA, epochs=1),
    "ensemble": lambda one, path: instar.distill([network(), one], network(), DATA, epochs=1, run_dir=path),
    "evaluate": lambda one, path: instar.evaluate(one, DATA),
    "predict_logits": lambda one, path: instar.predict_logits(one, DATA),
    "Teacher": lambda one, path: instar.Teacher(one, DATA, temperature=4.0),
    "SoftTargetStore": lambda one, path: instar.SoftTargetStore.write(path, {"one": one}, DATA),
    "layers_of": lambda one, path: instar.layers_of(one, INPUTS[:2]),
    "cut": lambda one, path: instar.cut(one, 1, INPUTS[:2]),
    "freeze_": lambda one, path: instar.freeze_(one, 1),
    "state_hashes": lambda one, path: instar.state_hashes(one),
    "add_class_bias_": lambda one, path: instar.add_class_bias_(one, torch.zeros(3), INPUTS[:2]),
    "SpecialistEnsemble": lambda one, path: SpecialistEnsemble(
        one, [network()], SETS, class_names=DATA.class_names, example_inputs=INPUTS[:2]
    ),
}


@pytest.mark.parametrize("function", TAKES_A_NETWORK)
def test_every_function_of_a_network_says_where_it_is(function: str, tmp_path: Path) -> None:
    result = instar.train(network(), DATA, epochs=1)
    for one, words in (
        (result, r"found FitResult; take its \.network"),
        ("mlp:8x1", r"found 'mlp:8x1'; instar\.build_network"),
        (nn.Linear, "found the class Linear; make one"),
        (None, "found None"),
    ):
        with pytest.raises(UsageError, match=f"expected a torch.nn.Module, {words}"):
            TAKES_A_NETWORK[function](one, tmp_path / "path")
        assert not (tmp_path / "path").exists()


def test_a_teacher_in_another_form_is_told_how_to_be_one(tmp_path: Path) -> None:
    store = instar.SoftTargetStore.write(tmp_path / "store", {"one": network()}, DATA)
    for teacher, words in (
        (store, r"found SoftTargetStore; take store\.targets\(data, temperature"),
        (LOGITS, r"found Tensor; .* instar\.StoredLogits\(data\.ids, logits"),
        (LOGITS.numpy(), r"found ndarray; .* torch\.from_numpy\(logits\)"),
        ({"one": network()}, r"found dict; .* list\(teachers\.values\(\)\)"),
        (lambda inputs: inputs, "expected a function of .ids, views. that gives soft targets, found function"),
    ):
        with pytest.raises(UsageError, match=words):
            instar.distill(teacher, network(), DATA, epochs=1, run_dir=tmp_path / "run")
        with pytest.raises(UsageError, match="targets: expected a function"):
            instar.fit(network(), DATA, epochs=1, targets=teacher)
    with pytest.raises(UsageError, match=r"found Sequential; instar\.Teacher\(network, data, temperature"):
        instar.fit(network(), DATA, epochs=1, targets=network())
    with pytest.raises(UsageError, match="expected targets with their temperature, found Tensor"):
        instar.distill(lambda ids, views: LOGITS[: len(ids)], network(), DATA, epochs=1)
    with pytest.raises(UsageError, match=r"teachers: expected networks by name, .* found a list of Sequential"):
        instar.SoftTargetStore.write(tmp_path / "other", [network()], DATA)
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "soft_targets": lambda array: instar.soft_targets(array, 4.0),
    "SoftTargets": lambda array: instar.SoftTargets(array, 4.0),
    "LogitTargets": instar.LogitTargets,
    "distillation_loss": lambda array: instar.distillation_loss(array, instar.soft_targets(LOGITS, 4.0)),
    "labels": lambda array: instar.distillation_loss(LOGITS, None, array, soft_weight=0.0, hard_weight=1.0),
    "logit_matching_loss": lambda array: instar.logit_matching_loss(LOGITS, array),
    "mix_in_labels": lambda array: instar.mix_in_labels(instar.soft_targets(LOGITS, 4.0), array, 0.1),
    "StoredLogits": lambda array: instar.StoredLogits(DATA.ids, array, temperature=4.0),
    "labels of data": lambda array: InMemoryDataset(INPUTS, array, class_names=["a", "b", "c"]),
    "fit_class_bias": lambda array: instar.fit_class_bias(array, LABELS, classes=[0]),
    "h_score": lambda array: instar.h_score(array, LABELS),
    "logme": lambda array: instar.logme(INPUTS, array),
    "linear_probe": lambda array: instar.linear_probe(INPUTS, LABELS, array, LABELS),
    "combine_specialists": lambda array: instar.combine_specialists(array, [array], SETS),
    "confusable_class_sets": lambda array: instar.confusable_class_sets(
        array, num_sets=1, classes_per_set=2, seed=0
    ),
    "specialist_labels": lambda array: instar.specialist_labels(array, SETS[0]),
}


@pytest.mark.parametrize("function", ARRAYS)
def test_an_array_is_no_tensor(function: str) -> None:
    with pytest.raises(UsageError, match=r"expected a tensor, found ndarray; torch\.as_tensor makes one"):
        ARRAYS[function](np.zeros((90, 3), np.float32))


def test_classes_that_have_no_example_have_to_be_named() -> None:
    some = LABELS < 2
    with pytest.raises(UsageError, match=r"gives \(4, 3\) for 4 examples of 2 classes.*class_names="):
        instar.distill(network(), network(), (INPUTS[some], LABELS[some]), epochs=1)
    data = as_dataset((INPUTS[some], LABELS[some]), class_names=["a", "b", "c"])
    assert instar.distill(network(), network(), data, epochs=1).num_steps == 1


def test_names_are_texts() -> None:
    with pytest.raises(UsageError, match="expected a text like 'folder:PATH', found PosixPath"):
        instar.load_data(Path("photos"))
    with pytest.raises(UsageError, match=r"views: expected a text like 'crop:4.flip', found None"):
        parse_views(None)
    with pytest.raises(UsageError, match="expected a text like 'mlp:800x2', found Sequential"):
        instar.build_network(network(), input_shape=(8,), num_classes=3, seed=0)
    for halves in (instar.random_halves, instar.semantic_halves):
        with pytest.raises(UsageError, match=r"found InMemoryDataset; .* \.class_names"):
            halves(DATA, seed=0)


def test_a_study_is_told_names_in_one_short_line() -> None:
    for settings in ({"data": PAIR}, {"data": DATA}, {"teacher": network()}, {"temperature": "x\n" * 200}):
        with pytest.raises(UsageError) as caught:
            instar.distill_study(**settings)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250
        assert "temperature" in settings or "python:MODULE:FUNCTION" in str(caught.value)


def test_a_class_that_is_too_small_is_counted_as_the_user_counts(tmp_path: Path) -> None:
    for name, count in (("disc", 2), ("bar", 20)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (8, 8), color=10 * number + count).save(tmp_path / name / f"{number}.png")
    with pytest.raises(DataError, match=r"class 'disc' has 2 examples; .* need at least three of each class"):
        instar.load_data(f"folder:{tmp_path}", progress=False)
