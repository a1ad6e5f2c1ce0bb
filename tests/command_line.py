"""The command line in tests: called in this process or in one of its own, and a small experiment."""

import contextlib
import io
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Command = Callable[..., subprocess.CompletedProcess[str]]

TINY = [
    *("--teacher", "mlp:64x1", "--teacher-epochs", "8", "--student", "mlp:8x1", "--epochs", "6", "--seeds", "3"),
    *("--temperature", "2,8", "--learning-rate", "0.1,0.3", "--set", "tuning_seeds=1"),
    *("--teacher-learning-rate", "0.05"),
]
"""A whole experiment on the digits in a few seconds."""

_ROOT = Path(__file__).parent.parent


def command_options() -> dict[str, set[str]]:
    """The options of every command, by its words: `speech train`."""
    return {words: options_of(command) for words, command in commands().items()}


def commands() -> dict[str, Any]:
    """Every command with all its options, by its words; the program itself is the empty text."""
    import typer

    from instar.cli.app import app
    from instar.cli.commands import complete

    found = {}

    def walk(path: str, command: object) -> None:
        found[path] = whole = complete(command)
        for name, inner in getattr(whole, "commands", {}).items():
            walk(f"{path} {name}".strip(), inner)

    walk("", typer.main.get_command(app))
    return found


def options_of(command: Any) -> set[str]:
    """What may be typed after a command."""
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def run_here(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call the command line in this process, which has imported torch already; its workers are processes."""
    from instar.cli.app import main

    command = ["instar", *map(str, arguments)]
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        _as_a_process_of_its_own(command, cwd or Path.cwd(), {"COLUMNS": "100", **environment}),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
            status: int | str | None = 0
        except SystemExit as ended:
            status = ended.code
        except Exception:  # what `--debug` lets through
            traceback.print_exc()
            status = 1
    said, told = (stream.buffer.getvalue().decode() for stream in (stdout, stderr))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(command, int(status or 0), said, told)


def run_process(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call the command line as a user does, in a process of its own, which takes seconds to import torch."""
    command = [sys.executable, "-m", "instar", *map(str, arguments)]
    settings = {**os.environ, "COLUMNS": "100", **environment}
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=1200)


@contextlib.contextmanager
def _as_a_process_of_its_own(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Put back whatever the end of a process would: the next command finds nothing of this one."""
    before = sys.argv, list(sys.path), dict(os.environ), Path.cwd(), warnings.formatwarning
    sys.argv = command
    os.environ.update(environment)
    os.chdir(folder)
    try:
        yield
    finally:
        for name in [name for name, module in sys.modules.copy().items() if _is_below(module, folder)]:
            del sys.modules[name]
        _clear_caches()
        sys.argv, sys.path[:] = before[0], before[1]
        os.environ.clear()
        os.environ.update(before[2])
        os.chdir(before[3])
        warnings.formatwarning = before[4]


def _is_below(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and folder in Path(file).parents and folder != _ROOT


def _clear_caches() -> None:
    """What a process keeps by its settings, and not by content, is another one in the next test."""
    for name, module in list(sys.modules.items()):
        if name.startswith("instar."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
