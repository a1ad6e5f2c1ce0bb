"""Worker processes: what they inherit, what they leave alone, and scripts that start them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import job_functions
from instar.jobs import Job, open_engine, run_jobs
from instar.runs import Run

PLAIN = """
import sys
del sys.path[0]  # as it is where `instar` is a command: the folder is no place to import from
import instar

tiny = {"network": "mlp:8x2", "fit": {"epochs": 2}, "base": {"epochs": 1}, "num_cuts": 1}
result = instar.advise(run_dir=sys.argv[1], **tiny)
print(result["recipe"], len(result["rows"]) > 0)
"""

BESIDE_THE_USERS_OWN = """
import multiprocessing, signal
from instar.processes import start_server

def child():
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)

if __name__ == "__main__":
    start_server()
    forked = multiprocessing.get_context("fork").Process(target=start_server)
    theirs = multiprocessing.get_context("forkserver").Process(target=child)
    for process in (forked, theirs):
        process.start()
        process.join()
        print(process.exitcode, flush=True)
"""

WITH_JOBS = """
import os, sys
import instar

def function(run, needs):
    return {"metrics": {"here": os.getpid()}}

%s
    jobs = [instar.Job("alone", function, {}), instar.Job("shared", function, {}, processes=2)]
    report = instar.run_jobs(jobs, sys.argv[1], quiet=True)
    print(sorted(report.done), report.failed)
"""


def run_script(folder: Path, content: str) -> "subprocess.CompletedProcess[str]":
    (folder / "script.py").write_text(content)
    command = [sys.executable, "script.py", str(folder / "run")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)


@pytest.mark.slow
def test_a_plain_script_calls_what_starts_workers(tmp_path: Path) -> None:
    """Without `if __name__ == "__main__"`; and a module of the folder is not taken for one that torch imports."""
    (tmp_path / "queue.py").write_text("raise RuntimeError('not the one that torch imports')\n")
    done = run_script(tmp_path, PLAIN)
    assert (done.returncode, done.stdout) == (0, "advise True\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_users_own_processes_have_no_part_in_the_server(tmp_path: Path) -> None:
    """A forked one inherits a server that is not its child; one of their own fork server receives Ctrl-C."""
    done = run_script(tmp_path, BESIDE_THE_USERS_OWN)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "False", "0"]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_workers_start_where_streams_are_closed(tmp_path: Path, closed: tuple[int, ...]) -> None:
    script = f"import os\nfor number in {closed}:\n    os.close(number)\n{PLAIN.rpartition('print')[0]}"
    run_script(tmp_path, script)
    assert Run.read(tmp_path / "run").is_done


@pytest.mark.slow
def test_a_script_whose_jobs_have_functions_of_its_own(tmp_path: Path) -> None:
    guarded = run_script(tmp_path, WITH_JOBS % 'if __name__ == "__main__":')
    assert (guarded.returncode, guarded.stdout) == (0, "['alone', 'shared'] {}\n"), guarded.stderr


@pytest.mark.slow
def test_such_a_script_without_the_guard_is_told_so(tmp_path: Path) -> None:
    unguarded = run_script(tmp_path, WITH_JOBS % "if True:")
    assert unguarded.stdout.startswith("[] {'alone': 'a worker imports this script to find a function of a job")
    assert unguarded.stderr == ""


def test_a_worker_finds_the_environment_the_folder_and_the_modules_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that it is forked from may have started long before."""
    with open_engine(cores=1) as engine:
        run_jobs([Job("before", job_functions.note, {})], tmp_path / "run", engine=engine, quiet=True)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "made_just_now.py").write_text("VALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTAR_TOLD", "now")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with open_engine(cores=1) as engine:
        report = run_jobs(
            [Job("look", job_functions.look_around, {})], tmp_path / "run", engine=engine, quiet=True
        )
    assert report.done == ["look"], report.failed
    found = Run.read(tmp_path / "run" / "jobs" / "look").result()["rows"][0]
    assert (found["folder"], found["told"], found["value"]) == (str(tmp_path), "now", 7)
    assert found["safe_path"] is None
    assert found["path"] == sys.path


def test_a_worker_can_use_cuda_and_is_forked_from_a_process_without_threads(tmp_path: Path) -> None:
    """CUDA that a parent has initialised cannot be used after a fork; nor do a parent's threads live on."""
    report = run_jobs([Job("look", job_functions.look_around, {})], tmp_path, quiet=True)
    assert report.done == ["look"], report.failed
    found = Run.read(tmp_path / "jobs" / "look").result()["rows"][0]
    assert found["cuda_is_lost"] is False
    if sys.platform == "linux":
        assert found["threads_of_parent"] == 1


def test_the_last_lines_of_a_worker_that_dies_are_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_jobs([Job("dies", job_functions.die_with_words, {})], tmp_path, quiet=True)
    assert report.failed == {
        "dies": "its process died 3 times (exit status 3); its last lines on stderr: out of patience | the end"
    }
    assert capsys.readouterr().err.count("the end\n") == 3  # shown as it is written, too


def test_what_a_worker_writes_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_jobs([Job("warns", job_functions.warn, {})], tmp_path, quiet=True)
    assert capsys.readouterr().err == "take care\n"


FORKS_AFTER_A_FIT = """
import os, signal, torch, instar
torch.set_num_threads(2)
inputs, labels = torch.randn(3000, 64), torch.arange(3000) % 4
def fitted():
    network = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 4))
    return instar.fit(network, (inputs, labels), epochs=1).num_steps
print(fitted())
child = os.fork()
if child == 0:
    signal.alarm(60)  # where it hangs
    os._exit(int(fitted() != 24))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_process_that_is_forked_after_a_fit_fits_too() -> None:
    command = [sys.executable, "-c", FORKS_AFTER_A_FIT]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.stdout.split() == ["24", "0"], done.stderr
