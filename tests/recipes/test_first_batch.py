"""Every network of a plan sees one batch, and every extra is looked for, before the first job starts."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import instar
from command_line import Command
from instar.errors import UsageError
from instar.recipes.distill.checks import check
from instar.recipes.distill.plan import Plan
from instar.recipes.distill.settings import read_config
from speech_files import made_corpus, write_kaldi_dir


def of_another_size(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(99, num_classes))


def of_ten_classes() -> nn.Module:
    """Whatever it is asked for."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


class Two(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, num_classes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.layer(inputs.flatten(1))
        return logits.exp(), logits


def two_outputs(num_classes: int) -> nn.Module:
    return Two(num_classes)


def named_output(num_classes: int) -> nn.Module:
    network = Two(num_classes)
    instar.name_logits_(network, 1)
    return network


def without_last_linear(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class FailsBackward(Two):
    def forward(self, inputs: Tensor) -> Any:
        return self.layer(inputs.flatten(1)).exp().add_(1)


def no_backward(num_classes: int) -> nn.Module:
    return FailsBackward(num_classes)


HERE = "python:test_first_batch:"
REFUSED = {
    f"distill --student {HERE}of_another_size": "of_another_size cannot take the examples of digits",
    f"distill --teacher {HERE}of_another_size": "of_another_size cannot take the examples of digits",
    f"distill --student {HERE}two_outputs": "two_outputs: Two gives a tuple of (4, 10), (4, 10), of which none is",
    f"distill --student {HERE}no_backward": "no_backward cannot take the examples of digits, (1, 8, 8): one of",
    f"distill --teacher {HERE}two_outputs --set teacher.pretrained=true": "two_outputs: Two gives a tuple of",
    f"transfer --network {HERE}of_ten_classes": "the network gives (4, 10) for 4 examples of 5 classes",
    f"specialists --network {HERE}of_another_size": "of_another_size cannot take the examples of digits",
    f"specialists --network {HERE}of_ten_classes": "the network gives (4, 10) for 4 examples of",
    f"specialists --network {HERE}without_last_linear": "the network has no last linear layer",
    f"advise --network {HERE}two_outputs": "two_outputs: Two gives a tuple of",
    f"reproduce mnist --data digits --scale tiny --set student.network={HERE}two_outputs": "Two gives a tuple",
    "distill --tensorboard": "TensorBoard is not installed: pip install 'instar[tensorboard]'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_plan_is_refused_before_anything_is_trained(
    typed: Command, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    if "tensorboard" in arguments:
        monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = typed(*arguments.split(" "), "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert REFUSED[arguments] in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_acoustic_network_is_tried_before_the_first_alignment(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    folder = write_kaldi_dir(tmp_path / "data", made_corpus(("ann", "bob", "cy", "di"), each=5))
    (folder / "lexicon.txt").write_text("low L OW\nhigh HH AY\nup AH P\n")
    network = ("--network", f"{HERE}of_another_size", "--set", "network.dropout=0.0")
    done = typed("speech", "train", folder, *network, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "of_another_size cannot take the examples of this recogniser" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_network_whose_logits_are_named_is_distilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    result = instar.distill_study(
        teacher=f"{HERE}named_output", student="mlp:8x1", teacher_epochs=2, epochs=2, temperature=4,
        learning_rate=0.1, seeds=1, run_dir=tmp_path / "run",
    )  # fmt: skip
    teacher = next(row for row in result["rows"] if row["name"] == "teacher")
    assert teacher["parameters"] == 650
    assert teacher["mean"] < 150


def test_what_a_trial_costs() -> None:
    """A tenth of a second at most, for the default teacher and student, once torch has run before."""
    plan = Plan(read_config({}), Path("nowhere"))
    check(plan)
    random_state = torch.get_rng_state()
    started = time.process_time()
    check(plan)
    assert time.process_time() - started < 0.4  # also builds the networks; a busy machine takes longer
    assert torch.equal(torch.get_rng_state(), random_state)


def test_an_engine_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing listens at 127.0.0.1:9"):
        instar.distill_study(engine="ray:127.0.0.1:9", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
