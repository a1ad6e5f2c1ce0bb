"""Teachers that need other pictures than their students: colour, size and normalisation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from data_files import write_image_folder
from instar.errors import DataWarning, UsageError
from instar.evaluation import predict_logits
from instar.files import load_tensors
from instar.networks import build_network
from instar.recipes.fitting import LOGITS
from instar.recipes.loading import load_network, load_run_network
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.splits import load_splits
from instar.runs import Run
from small_studies import distilled

TEACHERS = """
import torch
from torch import nn
def plain(num_classes):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    return nn.Sequential(*layers)
def stating(num_classes):
    network = plain(num_classes)
    network.input_normalisation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    network.input_size = 12
    return network
"""


@pytest.fixture(autouse=True)
def grey_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "picture_teachers.py").write_text(TEACHERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"folder:{write_image_folder(tmp_path / 'grey', per_class=12, channels=1)}"


def small(data: dict[str, Any], teacher: str, path: Path, **settings: Any) -> dict[str, Any]:
    student = {"network": "mlp:4x1", "epochs": 1, "learning_rate": 0.1}
    about = {"network": f"python:picture_teachers:{teacher}", "pretrained": True}
    options = {"data": data, "teacher": about, "student": student, "temperature": 2.0, "seeds": 1, **settings}
    return distilled(path, **options)


def test_a_colour_teacher_of_grey_pictures_is_refused_with_the_option_that_mends_it(
    tmp_path: Path, grey_folder: str
) -> None:
    with pytest.raises(UsageError, match=r"takes colour pictures, those of the data are grey: .* --colour rgb"):
        small({"name": grey_folder}, "plain", tmp_path / "run")
    with pytest.warns(DataWarning, match="comes with weights and sees pixels from 0 to 1"):
        result = small({"name": grey_folder, "colour": "rgb"}, "plain", tmp_path / "run")
    assert [row["name"] for row in result["rows"]] == ["teacher", "student-alone", "student-distilled"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [None, "none", "data", "0.2/0.4"])
def test_a_teacher_is_given_what_it_states_and_the_student_what_the_data_have(
    tmp_path: Path, grey_folder: str, how: str | None
) -> None:
    data = {"name": grey_folder, "colour": "rgb", "normalise": how}
    small(data, "stating", tmp_path / "run")
    jobs = tmp_path / "run" / "jobs"
    stored, _ = load_tensors(jobs / "teacher-logits" / LOGITS)
    pixels = load_splits(DataSettings(**data | {"normalise": "none"})).train
    bare = build_network("python:picture_teachers:plain", input_shape=(3, 6, 5), num_classes=2, seed=0).eval()
    wanted = pixels.with_normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    inputs = wanted.gather(wanted.ids, 0)
    larger = torch.nn.functional.interpolate(inputs, size=(12, 12), mode="bilinear", antialias=True)
    rows = [stored["ids"].tolist().index(number) for number in wanted.ids.tolist()]
    with torch.no_grad():
        assert torch.allclose(stored["logits"][rows], bare(larger), atol=1e-5)
    config = Run.read(jobs / "student-distilled" / "seed-0").config
    given = load_splits(DataSettings(**data)).train
    names = ("mean", "std")
    assert config["normalisation"] == {
        name: numbers for name, numbers in zip(names, given.normalisation[1:], strict=True) if numbers is not None
    }


@pytest.mark.slow
def test_a_teacher_of_another_run_keeps_its_normalisation(tmp_path: Path, grey_folder: str) -> None:
    theirs = {"name": grey_folder, "normalise": "0.5/0.25"}
    options = {"seeds": 1, "temperature": 2.0, "student": {"network": "mlp:4x1", "epochs": 1}}
    options["teacher"] = {"network": "mlp:8x1", "epochs": 2}
    distilled(tmp_path / "first", data=theirs, **options)
    spec, data = f"{tmp_path / 'first'}:teacher", {"name": grey_folder, "normalise": "data"}
    result = distilled(tmp_path / "second", **options | {"data": data, "teacher": {"network": spec}})
    assert result["rows"][0]["mean"] == Run.read(tmp_path / "first").result()["rows"][0]["mean"]
    before, after = (load_splits(DataSettings(**settings)).test for settings in (theirs, data))
    expected = predict_logits(load_run_network(tmp_path / "first" / "jobs" / "teacher"), before)
    for network in (
        load_run_network(tmp_path / "second" / "jobs" / "teacher"),
        load_network(FitSettings(network=spec), load_splits(DataSettings(**data))),
    ):
        assert torch.allclose(predict_logits(network, after), expected, atol=1e-5)


@pytest.mark.slow
def test_a_statement_of_the_user_ends_the_warning(
    tmp_path: Path, grey_folder: str, recwarn: pytest.WarningsRecorder
) -> None:
    small({"name": grey_folder, "colour": "rgb", "normalise": "none"}, "plain", tmp_path / "run")
    small({"name": grey_folder, "colour": "rgb"}, "stating", tmp_path / "other")
    assert not [warning for warning in recwarn if issubclass(warning.category, DataWarning)]
