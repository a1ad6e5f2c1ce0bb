"""What several test folders share: the command line, and small finished runs."""

import os
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client, which reads it once

from command_line import TINY, Command, run_here, run_process


def pytest_configure() -> None:
    """A shell that runs pytest in the background has it ignore Ctrl-C, and so would all processes of the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def instar() -> Command:
    """Call the command line in this process."""
    return run_here


@pytest.fixture(scope="session")
def typed() -> Command:
    """The same, where a command is to end before any work begins."""
    return run_here


@pytest.fixture(scope="session")
def instar_process() -> Command:
    """Call the command line in a process of its own, where that makes a difference: it takes seconds to start."""
    return run_process


@pytest.fixture(scope="session")
def finished_run(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small distillation on the digits."""
    folder = tmp_path_factory.mktemp("distill")
    done = instar("distill", *TINY, "--run-dir", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="session")
def finished_transfer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small transfer study with every treatment, on the digits."""
    from instar.recipes.study import Execution, run_study
    from instar.recipes.transfer.recipe import STUDY
    from instar.recipes.transfer.settings import read_config

    path = tmp_path_factory.mktemp("transfer") / "run"
    config = read_config({"network": {"network": "mlp:12x2", "epochs": 3, "learning_rate": 0.1}, "splits": 2})
    run_study(STUDY, config, path, Execution(quiet=True))
    return path


@pytest.fixture(scope="session")
def finished_study(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the transfer study at its smallest, on the digits; `results/` beside it."""
    path = tmp_path_factory.mktemp("study") / "run"
    tiny = ("--scale", "tiny", "--data", "digits", "--run-dir", path, "--publish", "--quiet")
    done = instar("reproduce", "transfer", *tiny, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return path
