"""Ctrl-C and `kill -9` of a command with workers: nothing left over, and the same command goes on."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from interrupted_jobs import CONFIG, EPOCHS, JOBS

from instar.runs import LAST, PROGRESS, Run
from instar.training import fit
from job_functions import TRAIN, Fragile
from small_fits import perceptron, same_bits

SCRIPT = Path(__file__).with_name("interrupted_jobs.py")


class Interrupted:
    """What a command said and left, at each of its starts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = [root / "jobs" / job.name for job in JOBS]

    def start(
        self, *options: str, stderr: int = subprocess.PIPE, seconds_of_a_step: float = 0.0
    ) -> subprocess.Popen[str]:
        """In a session of its own, so that its processes can be counted."""
        import_path = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
        settings = {"INSTAR_SECONDS_OF_A_STEP": str(seconds_of_a_step), "PYTHONPATH": import_path}
        settings |= {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.root), *options],
            env={**os.environ, **settings},
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def wait_for_news(self) -> None:
        """Until each job has told of its progress since now."""
        began = time.time()
        wait_until(lambda: all(file_time(path / PROGRESS) > began for path in self.paths), "progress")
        time.sleep(0.3)


def file_time(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"no {what} in {seconds} s"
        time.sleep(0.02)


def processes_of_session(session: int) -> list[int]:
    """The living processes of a session, itself included."""
    living = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            living.append(int(folder.name))
    return living


def read_terminal(terminal: int) -> str:
    """All that is shown, until nobody writes any more."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            return shown.decode()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
def test_ctrl_c_and_kill_9_of_a_command_leave_nothing_over_and_it_goes_on(tmp_path: Path) -> None:
    command = Interrupted(tmp_path)

    # Ctrl-C reaches every process of the terminal.
    process = command.start(seconds_of_a_step=1.0)  # a busy machine takes a while until both have begun
    command.wait_for_news()
    workers = processes_of_session(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert len(workers) >= 4  # the command, two workers, and the second process of the shared job
    wait_until(lambda: processes_of_session(process.pid) == [], "end of all processes")
    news = [line for line in said.splitlines() if "all jobs: " not in line]  # a slow machine says how far it is
    assert sorted(news) == ["alone: started", "shared: started"], said
    steps = []
    for path in command.paths:
        with Run(path, recipe="job", config=CONFIG) as run:  # nobody holds it
            loaded = run.load_checkpoint()
        assert loaded is not None
        steps.append(loaded[1]["step"])
    assert all(0 < step < 4 * EPOCHS for step in steps)

    # kill -9 reaches the command alone.
    process = command.start("--quiet", seconds_of_a_step=1.0)  # a busy machine takes a while until both have begun
    command.wait_for_news()
    process.kill()
    _, said = process.communicate(timeout=600)
    wait_until(lambda: processes_of_session(process.pid) == [], "end of the workers")
    assert said == ""
    assert all((path / LAST).exists() for path in command.paths)

    # In a terminal, there are bars with the time left.
    terminal, end = pty.openpty()
    process = command.start(stderr=end, seconds_of_a_step=0.02)
    os.close(end)
    shown = read_terminal(terminal)
    os.close(terminal)
    assert process.wait(timeout=600) == 0, shown
    wait_until(lambda: processes_of_session(process.pid) == [], "end of all processes")
    for words in ("all jobs", "alone", "shared", "epoch", "loss", " left"):
        assert words in shown

    for path, step in zip(command.paths, steps, strict=True):
        assert f", step {step}\n" in (path / "log.txt").read_text()
    alone = fit(Fragile(perceptron(dropout=0.2)), TRAIN, epochs=EPOCHS, batch_size=50)
    done = Run.read(command.paths[0])
    assert same_bits(done.load_weights()[0], alone.network.state_dict())
    assert done.result()["rows"] == alone.metrics
    assert [line["epoch"] for line in Run.read(command.paths[1]).metrics()] == list(range(1, EPOCHS + 1))

    # What is done is said to be so.
    process = command.start("--quiet")
    assert process.communicate(timeout=600) == (None, "")
    assert process.returncode == 0
