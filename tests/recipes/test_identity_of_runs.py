"""A run directory is that of its data, networks and stores as they are, whatever they are called."""

import importlib
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import instar
from command_line import Command
from instar.data import unlabelled_pictures
from instar.errors import UsageError
from instar.identity import first_difference
from instar.jobs import Job
from instar.jobs.execution import attempt, execute
from instar.recipes.commands import ADVISE, DISTILL, SPECIALISTS, SPEECH, TRANSFER
from instar.recipes.contents import contents_of
from instar.recipes.fitting import adopt_job, fit_job
from instar.recipes.loading import load_run_network
from instar.recipes.options import Command as Options
from instar.recipes.options import from_keywords
from instar.recipes.reproductions import reproduction_config
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.splits import load_pictures, load_splits
from instar.recipes.study import Execution
from instar.runs import run_hash

MINE = """
import torch
from torch import nn
def data():
    torch.manual_seed(SEED)
    inputs, labels = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    return (inputs[:40], labels[:40]), (inputs[40:], labels[40:])
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.last = nn.Linear(64, num_classes)
    def forward(self, inputs):
        return self.last(torch.ACT(inputs.flatten(1) - SHIFT))
def net(num_classes):
    return Net(num_classes)
"""
MINE_AS_IT_IS = {"SEED": "0", "ACT": "relu", "SHIFT": "0.0"}


@pytest.fixture
def mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write the module `mended`, as in a new process."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**changed: str) -> None:
        content = MINE
        for name, value in {**MINE_AS_IT_IS, **changed}.items():
            content = content.replace(name, value)
        (tmp_path / "mended.py").write_text(content)
        sys.modules.pop("mended", None)
        importlib.invalidate_caches()
        load_splits.cache_clear()

    write()
    yield write
    sys.modules.pop("mended", None)


FIT = FitSettings(network="python:mended:net", epochs=1)
DIGITS, OWN = DataSettings(), DataSettings(name="python:mended:data")


def job(path: Path, data: DataSettings = DIGITS, **changed: Any) -> Job:
    return fit_job(path, "student", FIT.model_copy(update=changed), data, seed=0)


def test_a_network_whose_code_was_changed_is_another_one(mended: Callable[..., None], tmp_path: Path) -> None:
    execute(job(tmp_path / "run"), tmp_path / "run", 1)
    load_run_network(tmp_path / "run" / "jobs" / "student")
    for changed, key in (({"ACT": "tanh"}, "outputs"), ({"SHIFT": "0.3"}, "outputs")):
        mended(**changed)
        done = attempt(job(tmp_path / "run"), tmp_path / "run", 1)
        assert done is not None
        assert f"another configuration: config.network_identity.{key} is about [" in done
        with pytest.raises(
            UsageError, match=rf"student: python:mended:net gives another .* network.{key} is about \["
        ):
            load_run_network(tmp_path / "run" / "jobs" / "student")
    mended()
    assert attempt(job(tmp_path / "run"), tmp_path / "run", 1) is None


def test_a_network_that_changes_between_plan_and_job_is_refused(
    mended: Callable[..., None], tmp_path: Path
) -> None:
    for make in (job, adopted):
        planned = make(tmp_path / make.__name__)
        mended(ACT="tanh")
        said = attempt(planned, tmp_path / make.__name__, 1)
        mended()
        assert said is not None
        assert "python:mended:net gives another network now than when this run began" in said


def adopted(path: Path) -> Job:
    return adopt_job("teacher", FIT.model_copy(update={"pretrained": True}), DIGITS)


@pytest.mark.parametrize("network", ["mlp:4x1", "python:mended:net"])
def test_an_adopted_network_holds_all_that_its_answers_follow_from(
    mended: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Neither another training of its source, nor another folder, nor a source that is gone changes them."""
    monkeypatch.chdir(tmp_path)
    normalised = DataSettings(normalise="0.5/0.25")
    execute(job(Path("source"), normalised, network=network), Path("source"), 1)
    for name, source in (("once", "source:student"), ("twice", "once:teacher")):
        execute(adopt_job("teacher", FitSettings(network=source), DIGITS), Path(name), 1)
    inputs = load_splits(DIGITS).test.examples()
    expected = load_run_network(Path("source/jobs/student"))((inputs - 0.5) / 0.25)
    shutil.rmtree("source")
    execute(job(Path("source"), DIGITS, network=network), Path("source"), 1)
    shutil.move("once", "moved")
    monkeypatch.chdir("/")
    for name in ("moved", "twice"):
        torch.testing.assert_close(load_run_network(tmp_path / name / "jobs" / "teacher")(inputs), expected)
    mended(ACT="tanh")
    if network.startswith("python:"):
        with pytest.raises(UsageError, match=r"twice.*: python:mended:net gives another network now than when"):
            load_run_network(tmp_path / "twice" / "jobs" / "teacher")


def test_data_that_differ_each_time_stop_the_job(mended: Callable[..., None], tmp_path: Path) -> None:
    mended(SEED="torch.seed() % 1000")
    planned = job(tmp_path, OWN, network="mlp:8x1")
    load_splits.cache_clear()  # as in a worker
    said = attempt(planned, tmp_path, 1)
    assert said is not None
    assert said.startswith(
        "python:mended:data: the function gives other data each time it is called: seed it (finger"
    )


@pytest.mark.slow
def test_a_run_of_the_command_line_follows_what_it_names(typed: Command, tmp_path: Path) -> None:
    """An edited module, by default in another run directory; a given one is refused, with the key that differs."""
    (tmp_path / "edited.py").write_text("from torch import nn\n" + NET)
    few = ("--teacher", "mlp:8x1", "--teacher-epochs", "1", "--epochs", "1", "--seeds", "1", "--temperature", "2")
    few = (*few, "--learning-rate", "0.1", "--student", "python:edited:net", "--quiet")
    for place in ((), ("--run-dir", "given")):
        done = typed("distill", *few, *place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (tmp_path / "edited.py").write_text("from torch import nn\n" + NET.replace("ReLU", "Tanh"))
    assert typed("distill", *few, cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "runs" / "distill").iterdir())) == 2
    done = typed("distill", *few, "--run-dir", "given", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "given belongs to another configuration: contents.student.python:edited:net.outputs is about ["
        in done.stderr
    )


NET = """
def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def pictures(folder: Path, *, grey: int = 0) -> Path:
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            shade = (number * 11 + 5 * (kind == "cat") + grey) % 256
            Image.new("L", (8, 8), shade).save(folder / kind / f"{number}.png")
    return folder


def test_contents_are_those_of_pictures_stores_and_trained_networks(tmp_path: Path) -> None:
    folder, photos = pictures(tmp_path / "photos"), f"folder:{tmp_path / 'photos'}"
    data = DataSettings(name=photos)
    fit = FitSettings(network="mlp:4x1", epochs=1)

    def train(seed: int) -> None:
        work = fit_job(tmp_path / "run", "teacher", fit, data, seed=seed)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        execute(work, tmp_path / "run", 1)

    def contents() -> dict[str, Any]:
        for cached in (load_splits, load_pictures):
            cached.cache_clear()
        given = {"data": {"name": photos}, "transfer": {"folder": str(folder)}}
        given |= {"teacher": {"network": f"{tmp_path / 'run'}:teacher"}}
        return contents_of(DISTILL.read_config(given))

    train(0)
    first = contents()
    assert set(first) == {"data", "teacher", "transfer"}
    assert first_difference(first, contents()) is None
    train(1)
    assert "weights is about" in str(first_difference(first["teacher"], contents()["teacher"]))
    assert run_hash("", {}, contents=first) != run_hash("", {}, contents=contents())
    train(0)
    assert first_difference(first, contents()) is None
    extra = Image.new("L", (8, 8), 255)
    extra.save(folder / "dog" / "extra.png")
    found = load_splits.__wrapped__(data).identity
    assert str(first_difference(first["data"], found)).startswith("fingerprint is ")
    assert "fingerprint" in str(first_difference(first["transfer"][str(folder)], pictures_of(folder, data)))


def pictures_of(folder: Path, data: DataSettings) -> dict[str, Any]:
    return unlabelled_pictures(folder, load_splits(data).train).identity


EXECUTION = {
    "run_dir": "the run directory itself",
    "device": "a run goes on elsewhere",
    "engine": "where jobs run changes no number",
    "processes": "how many share a fit; the last bits alone depend on it",
    "tensorboard": "other files are written, of the same numbers",
    "quiet": "what is shown changes no number",
    "settings": "any other option, in the same configuration",
}
"""Arguments that are not part of the identity of a run, each with the reason."""

OTHER: dict[str, Any] = {
    "data": "mnist", "teacher": "mlp:7x1", "student": "mlp:7x1", "network": "mlp:7x3", "source": "mnist",
    "temperature": 3.0, "hard_weight": 0.3, "epochs": 7, "teacher_epochs": 7, "specialist_epochs": 7,
    "learning_rate": 0.07, "seeds": 7, "seed": 7, "splits": 7, "cuts": [1], "treatments": ["AnB"], "examples": 7,
    "loss": "dkd", "same_cost": True, "controls": True, "sets": 4, "classes_per_set": 3, "distill": True,
    "grammar": "one", "fraction": 0.7,
}  # fmt: skip
OTHER_FOR = {
    ("specialists_study", "controls"): ["random"],
    ("speech_study", "data"): {"name": "kaldi:somewhere"},
    ("speech_study", "teacher"): "runs/other",
}
COMMANDS: list[tuple[Callable[..., Any], Options]] = [
    (instar.distill_study, DISTILL),
    (instar.transfer_study, TRANSFER),
    (instar.advise, ADVISE),
    (instar.specialists_study, SPECIALISTS),
    (instar.speech_study, SPEECH),
]


@pytest.mark.parametrize(("function", "options"), COMMANDS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_argument_of_an_experiment_changes_its_configuration(
    function: Callable[..., Any], options: Options
) -> None:
    given = {"data": "digits", "source": "digits"} if function is instar.advise else {}
    plain = options.read_config(from_keywords(options, given))
    for name in inspect.signature(function).parameters:
        if name not in (*EXECUTION, "task"):  # a task has a configuration of its own
            value = OTHER_FOR.get((function.__name__, name), OTHER.get(name))
            changed = options.read_config(from_keywords(options, {**given, name: value}))
            assert changed != plain, name
            assert run_hash("", changed.model_dump()) != run_hash("", plain.model_dump()), name


def test_every_argument_of_a_study_changes_its_configuration() -> None:
    plain = reproduction_config("specialists", "tiny", "digits", None, {})
    others = {"name": ("mnist", "tiny", None, None, {}), "scale": ("specialists", "small", "digits", None, {})}
    others |= {"data": ("specialists", "tiny", "omniglot", None, {})}
    arguments = set(inspect.signature(instar.reproduce).parameters) - set(EXECUTION)
    assert arguments == {*others, "config"}  # a file of settings, in place of the others
    for name, given in others.items():
        assert run_hash("", reproduction_config(*given).model_dump()) != run_hash("", plain.model_dump()), name


def test_nothing_of_how_a_run_is_executed_is_missing_in_the_list() -> None:
    names = {*Execution.__dataclass_fields__, "run_dir"}
    assert names <= set(EXECUTION)
