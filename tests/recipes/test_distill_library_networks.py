"""A fine-tuned ViT directory into a network of timm in one command."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import instar
from command_line import Command
from data_files import write_image_folder
from instar.deploy.loading import load_run_network
from instar.errors import DataWarning, UsageError
from instar.evaluation import predict_logits
from instar.networks import build_network, forward_logits
from instar.recipes.distill.recipe import STUDY
from instar.recipes.distill.settings import read_config
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.study import run_path
from instar.recipes.transfer.plan import Plan as TransferPlan
from instar.recipes.transfer.settings import read_config as read_transfer_config
from instar.runs import Run
from library_networks import vit_folder
from small_studies import distilled

NAMES = ("cat", "cow", "dog")
STUDENT = {"network": "timm:test_vit:32", "epochs": 1, "learning_rate": 0.01, "batch_size": 16}


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return f"folder:{write_image_folder(tmp_path / 'photos', classes=NAMES, per_class=20)}"


@pytest.mark.slow
def test_one_command_teaches_a_network_of_timm_by_a_folder(
    instar_process: Command, photos: str, tmp_path: Path
) -> None:
    theirs = vit_folder(tmp_path / "vit", ("dog", "cat", "cow"))
    command = [
        *("distill", "--data", photos, "--teacher", f"transformers:{tmp_path / 'vit'}"),
        *("--student", "timm:test_vit:32", "--epochs", "1", "--learning-rate", "0.01", "--temperature", "2"),
        *("--seeds", "2", "--run-dir", "run", "--json"),
    ]
    done = instar_process(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "are put into the order of the data's, by name" in done.stderr
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["rows"]] == ["teacher", "student-alone", "student-distilled"]
    again = instar_process(*command, cwd=tmp_path)
    assert json.loads(again.stdout) == result  # nothing is computed anew

    data = load_splits(DataSettings(name=photos)).test
    shutil.rmtree(tmp_path / "vit")  # the run has all that it needs
    found = predict_logits(load_run_network(tmp_path / "run" / "jobs" / "teacher"), data)
    inputs = torch.nn.functional.interpolate(
        (data.gather(data.ids, 0) - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1))
        / torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1),
        size=(16, 16),
        mode="bicubic",
        antialias=True,
    )
    with torch.no_grad():
        assert torch.allclose(found, theirs(inputs).logits[:, [1, 2, 0]], atol=1e-5)
    model = instar.load(tmp_path / "run")
    assert model.class_names == NAMES
    assert set(model.predict(sorted((tmp_path / "photos").rglob("*.png"))[:3])) <= set(NAMES)


def test_a_teacher_of_other_classes_is_refused_with_their_names(photos: str, tmp_path: Path) -> None:
    vit_folder(tmp_path / "vit", ("cat", "dog", "fox"))
    teacher = {"network": f"transformers:{tmp_path / 'vit'}"}
    with pytest.raises(UsageError, match=r"trained for 3 classes \('cat', 'dog', 'fox'\) and lacks 'cow'"):
        distilled(tmp_path / "run", data={"name": photos}, teacher=teacher, student=STUDENT, temperature=2.0)
    assert not (tmp_path / "run").exists()


def test_a_run_is_that_of_the_content_of_the_files(photos: str, tmp_path: Path) -> None:
    def path() -> Path:
        vit = f"transformers:{tmp_path / 'vit'}"
        settings = {"data": {"name": photos}, "teacher": {"network": vit}, "student": STUDENT, "temperature": 2.0}
        return run_path(STUDY, read_config(settings))

    vit_folder(tmp_path / "vit", NAMES)
    first = path()
    assert path() == first
    shown = tmp_path / "vit" / "preprocessor_config.json"
    shown.write_text(shown.read_text().replace("0.25", "0.26"))
    second = path()
    vit_folder(tmp_path / "vit", NAMES, hidden_act="relu")
    assert len({first, second, path()}) == 3


@pytest.mark.slow
def test_a_student_starts_from_the_weights_of_a_folder_with_a_new_head(photos: str, tmp_path: Path) -> None:
    theirs = vit_folder(tmp_path / "vit", ("lion", "tiger"))
    student = {"network": f"transformers:{tmp_path / 'vit'}", "epochs": 1, "learning_rate": 1e-9}
    with pytest.warns(DataWarning, match="has a head of 2 other classes: it got a new one of 3"):
        distilled(
            tmp_path / "run",
            data={"name": photos},
            teacher={"network": "mlp:8x1", "epochs": 1},
            student=student,
            temperature=2.0,
            seeds=1,
        )
    fit = tmp_path / "run" / "jobs" / "student-distilled" / "seed-0"
    trained = load_run_network(fit)
    assert torch.allclose(trained.vit.embeddings.cls_token, theirs.vit.embeddings.cls_token, atol=1e-4)
    assert set(Run.read(fit).config["described"]) == {"config.json", "preprocessor_config.json"}
    assert forward_logits(trained, torch.rand(2, 3, 6, 5)).shape == (2, 3)


def test_a_student_starts_from_a_file_of_weights(tmp_path: Path) -> None:
    first = build_network("mlp:4x1", input_shape=(1, 8, 8), num_classes=10, seed=7)
    save_file(first.state_dict(), tmp_path / "mine.safetensors")
    student = {"network": f"mlp:4x1@{tmp_path / 'mine.safetensors'}", "epochs": 1, "learning_rate": 1e-9}
    distilled(
        tmp_path / "run", teacher={"network": "mlp:8x1", "epochs": 1}, student=student, temperature=2.0, seeds=1
    )
    for kind in ("student-alone", "student-distilled"):
        trained = load_run_network(tmp_path / "run" / "jobs" / kind / "seed-0").state_dict()
        assert all(torch.allclose(trained[name], value, atol=1e-5) for name, value in first.state_dict().items())


def test_a_study_from_scratch_refuses_a_network_that_brings_weights(photos: str, tmp_path: Path) -> None:
    vit_folder(tmp_path / "vit", NAMES)
    network = {"network": f"transformers:{tmp_path / 'vit'}", "epochs": 1}
    settings = {"network": network, "data": {"name": photos}, "source": {"name": photos}}
    with pytest.raises(
        UsageError, match=r"brings weights, and a transfer study .* --set network.new_weights=true"
    ):
        TransferPlan(read_transfer_config(settings), tmp_path / "run").check()
