"""What several test folders share: the command line as a process, and one small finished run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import TINY, Command

_ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """A shell that runs pytest in the background has it ignore Ctrl-C, and so would all processes of the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def instar() -> Command:
    """Call the command line as a user does, in a process of its own."""

    def call(
        *arguments: str | Path, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "instar", *map(str, arguments)]
        settings = {**os.environ, "COLUMNS": "100", **environment}
        return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=1200)

    return call


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The same in this process: for the many calls that end before any work is begun."""
    from instar.cli.app import main
    from instar.recipes.fitting import load_splits

    def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = ["instar", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.chdir(cwd or Path.cwd())
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        # A process of its own would forget them: the next test's module of this name is another one.
        for name in [name for name, module in sys.modules.items() if _is_below(module, Path.cwd())]:
            del sys.modules[name]
        load_splits.cache_clear()
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), said.out, said.err)

    return call


def _is_below(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and folder in Path(file).parents and folder != _ROOT


@pytest.fixture(scope="session")
def finished_run(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small distillation on the digits."""
    folder = tmp_path_factory.mktemp("distill")
    done = instar("distill", *TINY, "--run-dir", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="session")
def finished_study(instar: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the transfer study at its smallest, on the digits; `results/` beside it."""
    path = tmp_path_factory.mktemp("study") / "run"
    tiny = ("--scale", "tiny", "--data", "digits", "--run-dir", path, "--publish", "--quiet")
    done = instar("reproduce", "transfer", *tiny, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return path
