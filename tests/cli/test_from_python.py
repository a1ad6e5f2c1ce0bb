"""The experiments as functions: the options of their commands, and what they refuse."""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import instar
from command_line import Command
from instar.recipes.commands import ADVISE, DISTILL, SPECIALISTS, SPEECH, TRANSFER
from instar.recipes.options import Command as Options
from instar.recipes.options import from_keywords

FUNCTIONS: list[tuple[Callable[..., Any], Options]] = [
    (instar.distill_study, DISTILL),
    (instar.transfer_study, TRANSFER),
    (instar.advise, ADVISE),
    (instar.specialists_study, SPECIALISTS),
    (instar.speech_study, SPEECH),
]
SHARED = {"task", "run_dir", "device", "engine", "processes", "tensorboard", "quiet", "settings"}


@pytest.mark.parametrize(("function", "options"), FUNCTIONS, ids=lambda one: getattr(one, "__name__", ""))
def test_each_argument_is_an_option_or_a_setting_and_described(
    function: Callable[..., Any], options: Options
) -> None:
    description = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters:
        assert name in SHARED or name in options.options or name in options.kind.model_fields, name
        assert f"\n    {name}: " in description, name


WRONG: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (instar.distill_study, {"lr": 0.1}, "unknown setting 'lr'; did you mean learning_rate?"),
    (instar.distill_study, {"T": 4}, "unknown setting 'T'; did you mean temperature?"),
    (instar.distill_study, {"num_epochs": 3}, "unknown setting 'num_epochs'; did you mean epochs?"),
    (instar.distill_study, {"student": {"lr": 0.1}}, "did you mean student.learning_rate?"),
    (instar.distill_study, {"batch_size": 3}, "did you mean teacher.batch_size or student.batch_size?"),
    (instar.distill_study, {"seeds": "many"}, "seeds should be a valid integer"),
    (instar.distill_study, {"device": "cuda:99"}, "device 'cuda:99' is not available here"),
    (instar.transfer_study, {"split": 3}, "did you mean splits or split_by?"),
    (instar.advise, {"shots": 10}, "unknown setting 'shots'; did you mean examples or examples_per_class?"),
    (instar.specialists_study, {"model": "mlp:8x1"}, "unknown setting 'model'; did you mean network?"),
    (instar.speech_study, {"learning_rates": 1}, "did you mean learning_rate?"),
    (instar.reproduce, {"name": "minst"}, "unknown study 'minst'; did you mean mnist?"),
    (instar.reproduce, {"name": "mnist", "scale": "smal"}, "unknown scale 'smal'; did you mean small?"),
    (instar.reproduce, {"name": "mnist", "colour": 3}, "unknown setting 'colour'"),
]


@pytest.mark.parametrize(
    ("function", "arguments", "words"), WRONG, ids=lambda one: getattr(one, "__name__", str(one))[:40]
)
def test_a_wrong_argument_is_answered_with_the_nearest(
    function: Callable[..., Any], arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(instar.UsageError) as refused:
        function(**({"run_dir": tmp_path / "run"} | arguments))
    assert words in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_call_shows_the_progress_of_its_command_unless_it_is_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small: dict[str, Any] = {
        "teacher": "mlp:8x1",
        "student": "mlp:4x1",
        "teacher_epochs": 1,
        "epochs": 1,
        "seeds": 1,
    }
    small |= {"temperature": 2, "learning_rate": 0.1}
    instar.distill_study(**small, run_dir=tmp_path / "told")
    assert "teacher: done after" in capfd.readouterr().err
    instar.distill_study(**small, run_dir=tmp_path / "silent", quiet=True)
    assert capfd.readouterr().err == ""


def test_names_and_settings_of_a_part_are_the_same_keyword() -> None:
    assert from_keywords(DISTILL, {"teacher": "mlp:4x1", "teacher_epochs": 2, "temperature": 3.0}) == {
        "teacher": {"network": "mlp:4x1", "epochs": 2},
        "temperature": [3.0],
    }
    assert from_keywords(DISTILL, {"student": {"network": "mlp:4x1", "dropout": 0.1}, "epochs": 5}) == {
        "student": {"network": "mlp:4x1", "dropout": 0.1, "epochs": 5}
    }
    assert from_keywords(SPECIALISTS, {"distill": True, "temperature": 2}) == {"distill": {"temperature": [2]}}
    assert from_keywords(SPECIALISTS, {"distill": False, "sets": [{"num_sets": 2}]}) == {"sets": [{"num_sets": 2}]}


STUDIES = [("mnist", "digits"), ("transfer", "digits"), ("specialists", "digits"), ("advise", None)]
STUDIES += [("transfer-or-distil", None), ("texts", "sst2"), ("tables", "digits"), ("speech", "fsdd")]


@pytest.mark.parametrize(("name", "data"), STUDIES)
def test_a_scale_is_shown_as_a_file_that_gives_it_back(
    typed: Command, tmp_path: Path, name: str, data: str | None
) -> None:
    about = ("--data", data) if data else ()
    shown = typed("reproduce", name, "--scale", "tiny", *about, "--show")
    assert shown.returncode == 0, shown.stderr
    assert tomllib.loads(shown.stdout)["scale"] == "tiny"
    (tmp_path / "mine.toml").write_text(shown.stdout)
    again = typed("reproduce", name, "--config", tmp_path / "mine.toml", "--show")
    assert again.stdout == shown.stdout


def test_a_changed_scale_is_called_custom_and_needs_no_scale(typed: Command, tmp_path: Path) -> None:
    shown = typed("reproduce", "mnist", "--scale", "tiny", "--data", "digits", "--set", "pairs=7", "--show")
    assert shown.returncode == 0, shown.stderr
    assert tomllib.loads(shown.stdout)["scale"] == "custom"
    (tmp_path / "mine.toml").write_text(shown.stdout)
    refused = typed("reproduce", "mnist", "--config", tmp_path / "mine.toml", "--scale", "tiny")
    assert (refused.returncode, "leave out --scale and --data" in refused.stderr) == (2, True)
