"""The job of a treatment: the cached prefix, the proof after the fit, factors on the learning rate, manifests."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from instar.errors import InstarError, RunError, TrainingError
from instar.files import load_tensors
from instar.jobs import Job
from instar.jobs.execution import execute
from instar.recipes.fitting import fit_job
from instar.recipes.loading import load_run_network
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.transfer.jobs import treatment_job
from instar.recipes.transfer.settings import CopySettings
from instar.runs import FINAL, Run
from instar.transfer import Treatment, features
from small_fits import same_bits

A, B = (DataSettings(name="digits", classes=tuple(classes)) for classes in ("01234", "56789"))
MANIFEST = {"half": "B", "hash": "0123"}


def settings(name: str, **options: Any) -> FitSettings:
    network = name if ":" in name else f"python:transfer_networks:{name}"
    return FitSettings(network=network, **{"epochs": 2, "learning_rate": 0.05, "precision": "float32", **options})


class Study:
    """A run directory with the base of A, and treatments of B beside it."""

    def __init__(self, root: Path, fit: FitSettings, layers: list[str] | None = None) -> None:
        self.root, self.fit, self.layers = root, fit, layers
        self.base = self.do(fit_job(root, "baseA", fit, A, seed=0, manifest=MANIFEST))

    def do(self, job: Job) -> Run:
        execute(job, self.root, threads=1)
        return Run.read(self.root / "jobs" / job.name)

    def job(self, n: int, name: str = "", *, fine_tune: bool = False, **options: Any) -> Job:
        treatment = Treatment("A", "B", n, fine_tune=fine_tune)
        given = {
            "base": "baseA",
            "seed": 7,
            "copied": CopySettings(),
            "layers": self.layers,
            "base_data": A,
            **options,
        }
        return treatment_job(self.root, name or treatment.name, treatment, self.fit, B, **given)

    def treat(self, n: int, name: str = "", **options: Any) -> Run:
        return self.do(self.job(n, name, **options))


def weights_of(run: Run) -> dict[str, Tensor]:
    return run.load_weights()[0]


def is_cached(run: Run) -> bool:
    return bool(run.result()["metrics"]["prefix_cached"])


# The cache


@pytest.mark.parametrize(
    ("name", "n", "options"),
    [
        ("mlp:16x2", 1, {}),
        ("convnet:4", 2, {"weight_decay": 0.01}),
        ("normalised", 1, {"bias_rate_factor": 2.0, "ema_decay": 0.9}),
        ("resnet:8", 2, {"optimiser": "adamw", "learning_rate": 0.01}),
    ],
)
def test_a_cached_prefix_gives_what_the_whole_network_gives(
    name: str, n: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path, settings(name, **options))
    cached = study.treat(n, "cached")
    monkeypatch.setattr(features, "CACHE_BYTES", 0)
    whole = study.treat(n, "whole")
    assert (is_cached(cached), is_cached(whole)) == (True, False)
    one, other = weights_of(cached), weights_of(whole)
    assert one.keys() == other.keys() == weights_of(study.base).keys()
    frozen = cached.load_weights()[1]["frozen"]
    assert same_bits({key: one[key] for key in frozen}, {key: weights_of(study.base)[key] for key in frozen})
    for key, value in one.items():
        assert torch.allclose(value.double(), other[key].double(), rtol=1e-2, atol=1e-4), key
    for row, same in zip(cached.result()["rows"], whole.result()["rows"], strict=True):
        assert row["train_loss"] == pytest.approx(same["train_loss"], rel=1e-3)
        assert abs(row["validation_errors"] - same["validation_errors"]) <= 1


@pytest.mark.parametrize(
    ("name", "n", "options"),
    [
        ("mlp:16x2", 2, {"dropout": 0.3}),
        ("mlp:16x2", 2, {"views": "jitter:1"}),
        ("dropping", 1, {}),
        ("batchwise", 2, {}),
        ("positioned", 1, {}),  # a weight that no layer has learns too
    ],
)
def test_a_prefix_whose_features_are_not_always_the_same_is_not_cached(
    name: str, n: int, options: dict[str, Any], tmp_path: Path
) -> None:
    study = Study(tmp_path, settings(name, epochs=1, **options))
    run = study.treat(n)
    assert not is_cached(run)
    assert run.result()["metrics"]["num_frozen"] == len(run.load_weights()[1]["frozen"]) > 0


def test_dropout_that_is_switched_off_in_frozen_layers_lets_them_be_cached(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("mlp:16x2", epochs=1, dropout=0.3))
    assert is_cached(study.treat(2, copied=CopySettings(frozen_dropout=False)))
    by_hand = Study(tmp_path / "by-hand", settings("dropping", epochs=1))
    assert is_cached(by_hand.treat(1, copied=CopySettings(frozen_dropout=False)))


def test_a_loose_weight_learns_as_it_does_without_freezing(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("positioned", epochs=1))
    weights, base = weights_of(study.treat(1)), weights_of(study.base)
    assert torch.equal(weights["positions"], base["positions"])
    assert not torch.equal(weights["scale"], torch.ones(5))


# The proof


def test_a_study_on_a_network_that_unfreezes_its_normalisation_fails(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("unfreezing", epochs=1, views="jitter:1"))
    with pytest.raises(TrainingError, match=r"frozen layers changed in training: one\.1\.norm\.running_mean"):
        study.treat(2)
    assert not (tmp_path / "jobs" / "A2B" / "DONE").exists()
    study.treat(2, fine_tune=True)  # where nothing is frozen it may


def test_frozen_statistics_of_the_target_and_of_random_layers(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("normalised", epochs=1))
    copied, measured = (
        weights_of(study.treat(1, name, copied=CopySettings(frozen_norm=name))) for name in ("source", "target")
    )
    base = weights_of(study.base)
    assert torch.equal(copied["one.1.running_mean"], base["one.1.running_mean"])
    assert torch.equal(measured["one.0.weight"], base["one.0.weight"])
    assert not torch.allclose(measured["one.1.running_mean"], base["one.1.running_mean"], rtol=0.01)
    random = treatment_job(
        tmp_path, "R1B", Treatment(None, "B", 1), study.fit, B, base=None, seed=7, copied=CopySettings()
    )
    statistics = weights_of(study.do(random))["one.1.running_var"]
    assert not torch.equal(statistics, torch.ones(4))


def test_layers_by_name(tmp_path: Path) -> None:
    layers = ["model.1", "model.4", "model.6"]
    study = Study(tmp_path, settings("wrapped", epochs=1), layers=layers)
    run = study.treat(2)
    weights, base = weights_of(run), weights_of(study.base)
    frozen = run.load_weights()[1]["frozen"]
    assert {name.rpartition(".")[0] for name in frozen} == {"model.1", "model.2", "model.4"}
    assert [key for key in weights if torch.equal(weights[key], base[key])] == [k for k in weights if k in frozen]
    assert run.config["layers"] == layers


# Factors


def test_copied_layers_learn_with_their_factor_of_the_rate(tmp_path: Path) -> None:
    """One step of plain SGD: copied layers move by factor times what they move without it, the rest as without."""
    fit = settings("mlp:16x2", epochs=1, batch_size=4096, momentum=0.0, schedule="constant", weight_decay=0.02)
    study = Study(tmp_path, fit)
    plain, slow = (
        weights_of(study.treat(2, name, fine_tune=True, copied=CopySettings(learning_rate_factor=factor)))
        for name, factor in (("plain", 1.0), ("slow", 0.25))
    )
    begun = {**load_run_network(study.base.path).state_dict()}
    copied = [key for key in begun if key.startswith(("fc1", "fc2"))]
    for key in copied:
        moved = plain[key] - begun[key]
        assert moved.abs().max() > 1e-4
        assert torch.allclose(slow[key] - begun[key], 0.25 * moved, atol=1e-7), key
    assert same_bits(*({key: value for key, value in one.items() if key not in copied} for one in (plain, slow)))


def test_biases_learn_with_their_factor_too(tmp_path: Path) -> None:
    moved = {}
    for factor in (None, 2.0):
        fit = settings(
            "mlp:16x1", epochs=1, batch_size=4096, momentum=0.0, schedule="constant", bias_rate_factor=factor
        )
        moved[factor] = weights_of(Study(tmp_path / str(factor), fit).base)
    assert torch.equal(moved[2.0]["fc1.1.weight"], moved[None]["fc1.1.weight"])
    for key in ("fc1.1.bias", "fc2.0.bias"):  # they begin at 0
        assert moved[None][key].abs().max() > 1e-4
        assert torch.allclose(moved[2.0][key], 2 * moved[None][key], atol=1e-8)


# What it leaves, and what it refuses


def test_manifests_stand_with_the_weights_and_in_the_configuration(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("mlp:16x2", epochs=1))
    for run in (study.base, study.treat(1, manifest=MANIFEST), study.treat(1, fine_tune=True, manifest=MANIFEST)):
        about = load_tensors(run.path / FINAL)[1]
        assert about["manifest"] == run.config["manifest"] == MANIFEST
        assert about["steps"] > 0
    assert study.base.load_weights()[1].get("frozen") is None


def test_a_checkpoint_holds_the_manifest_too(tmp_path: Path) -> None:
    with Run(tmp_path / "run", recipe="fit", config={}) as run:
        run.about_weights = {"manifest": MANIFEST}
        run.save_checkpoint({"weight": torch.zeros(2)}, {"step": 3})
        loaded = run.load_checkpoint()
    assert loaded is not None
    assert (loaded[1]["manifest"], loaded[1]["step"]) == (MANIFEST, 3)


def test_a_base_of_other_data_is_refused(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("mlp:16x2", epochs=1))
    with pytest.raises(
        RunError, match="baseA was trained on other data than A1B copies from; remove it and run again"
    ):
        study.treat(1, base_data=DataSettings(name="digits", classes=("0", "1", "2")))


def test_a_base_of_another_architecture_is_refused(tmp_path: Path) -> None:
    study = Study(tmp_path, settings("mlp:16x2", epochs=1))
    study.fit = settings("mlp:12x2", epochs=1)
    with pytest.raises(InstarError, match=r"A1B: the base has another architecture: fc1\.1\.weight is \(16, 64\)"):
        study.treat(1)
