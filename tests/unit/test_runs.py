"""Run directories: whole files or none, one process at a time, and what is said of damage."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instar.errors import RunError, UsageError
from instar.files import load_tensors, tensor_bytes, write_bytes, write_tensors
from instar.runs import FINAL, LAST, Run, find_run, is_run, list_runs, remove_run, run_hash
from instar.training import fit
from small_fits import digits, perceptron, same_bits

CONFIG = {"epochs": 3, "network": {"name": "mlp:8x1", "dropout": 0.5}, "rates": (0.1, 0.2), "views": None}
WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(4)}


def run_in(path: Path, **changes: object) -> Run:
    return Run(path, recipe="fit", config={**CONFIG, **changes})


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run with a file of each kind, the checkpoint that finishing removes included."""
    with run_in(tmp_path / "finished") as run:
        run.log_metrics({"epoch": 1, "loss": 0.5})
        run.save_checkpoint(WEIGHTS, {"step": 7})
        run.save_weights(WEIGHTS, {"steps": 9})
        checkpoint = (run.path / LAST).read_bytes()
        run.finish({"rows": [{"loss": 0.5}]})
        (run.path / LAST).write_bytes(checkpoint)
    return run.path


def files_in(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# What is written is read


def test_a_run_gives_back_what_was_put_in(finished: Path) -> None:
    run = Run.read(finished)
    assert (run.recipe, run.is_done) == ("fit", True)
    assert run.config == {"epochs": 3, "network": {"name": "mlp:8x1", "dropout": 0.5}, "rates": [0.1, 0.2]}
    assert run.config == run_in(finished).config
    assert run.metrics() == [{"epoch": 1, "loss": 0.5}]
    tensors, about = run.load_weights()
    assert same_bits(tensors, WEIGHTS)
    assert about == {"steps": 9}
    result = run.result()
    assert (result["recipe"], result["config"], result["rows"]) == ("fit", run.config, [{"loss": 0.5}])
    assert result["environment"]["torch"] == torch.__version__
    assert set(files_in(finished)) == {
        *("config.toml", "environment.json", "metrics.jsonl", "result.json", "log.txt", "DONE", FINAL, LAST)
    }


def test_what_is_not_finished_has_no_result_and_no_weights(tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        assert run.load_checkpoint() is None
        assert run.metrics() == []
        for read in (run.result, run.load_weights):
            with pytest.raises(RunError, match="run the same command again"):
                read()


def test_tied_weights_are_saved_under_both_names(tmp_path: Path) -> None:
    tied = torch.arange(4.0)
    with run_in(tmp_path) as run:
        run.save_weights({"in": tied, "out": tied, "half": tied[:2]}, {})
        tensors, _ = run.load_weights()
    assert same_bits(tensors, {"in": tied, "out": tied, "half": tied[:2]})


def test_a_number_that_is_not_finite_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        run.log_metrics({"loss": 1.0})
        with pytest.raises(RunError, match=r"metrics.jsonl: a number in it is not finite"):
            run.log_metrics({"loss": float("nan")})
        with pytest.raises(RunError, match=r"result.json: a number in it is not finite"):
            run.finish({"metrics": {"loss": float("inf")}})
        assert run.metrics() == [{"loss": 1.0}]
        assert not (tmp_path / "result.json").exists()


def test_the_hash_changes_with_all_that_changes_the_numbers() -> None:
    hashes = [
        run_hash("fit", CONFIG),
        run_hash("other", CONFIG),
        run_hash("fit", {**CONFIG, "epochs": 4}),
        run_hash("fit", CONFIG, contents={"data": {"fingerprint": "12"}}),
    ]
    assert len(set(hashes)) == 4
    assert run_hash("fit", {key: CONFIG[key] for key in reversed(CONFIG) if key != "views"}) == hashes[0]


def test_a_run_and_its_jobs_are_found_by_name(tmp_path: Path) -> None:
    for name, time in (("later", 200), ("earlier", 100)):
        with run_in(tmp_path / "distill" / name) as run, run_in(run.job("teacher")):
            os.utime(run.path / "config.toml", (time, time))
    assert [path.name for path in list_runs(tmp_path)] == ["earlier", "later"]
    assert Run.read(find_run(f"{run.path}:teacher")).path == run.job("teacher")


# Whole or not at all


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what a process sees is what it sees on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_tensors_are_written_as_their_bytes_would_be_and_may_be_read_by_others(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    values, state = {"a": shared, "b": shared, "c": torch.eye(3)[:, 1], "d": 3}, {"step": 1}
    write_tensors(tmp_path / "tensors", values, state)
    (tmp_path / "bytes").write_bytes(tensor_bytes(values, state))
    (one, about), (other, same) = load_tensors(tmp_path / "tensors"), load_tensors(tmp_path / "bytes")
    assert about == same == state
    assert one.pop("d") == other.pop("d") == 3
    assert all(torch.equal(one[name], other[name]) for name in ("a", "b", "c"))
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "bytes").stat().st_mode
    with pytest.raises(OSError, match="no folder"):
        write_tensors(tmp_path / "no folder" / "tensors", values)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    large = {"weight": torch.zeros(100_000)}
    with run_in(tmp_path) as run:
        run.save_checkpoint(WEIGHTS, {"step": 1})
        run.save_weights(WEIGHTS, {})
        run.log_metrics({"epoch": 1})
        before = files_in(tmp_path)
        writes: list[Callable[[], None]] = [
            lambda: run.save_checkpoint(large, {"step": 2}),
            lambda: run.save_weights(large, {}),
            lambda: run.write_text("config.toml", "x" * 100_000),
            lambda: run.finish({"rows": ["x" * 100_000]}),
        ]
        for write in writes:
            with (
                largest_file(10_000),
                pytest.raises(RunError, match=r"the disk is full .* run the same command"),
            ):
                write()
            assert files_in(tmp_path) == before
        with largest_file(20), pytest.raises(RunError, match=r"metrics.jsonl: the disk is full"):
            run.log_metrics({"epoch": 2})
        assert run.metrics() == [{"epoch": 1}]


def test_a_fit_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    def attempt() -> None:
        with run_in(tmp_path) as run:
            network = perceptron()
            fit(network, digits(), epochs=3, run=run, checkpoint_seconds=0.0)
            weights.append(network.state_dict())

    weights: list[dict[str, torch.Tensor]] = []
    with largest_file(8_000), pytest.raises(RunError, match="the disk is full"):
        attempt()
    attempt()
    alone = perceptron()
    fit(alone, digits(), epochs=3)
    assert same_bits(weights[0], alone.state_dict())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    with run_in(small_disk / "run") as run:
        run.save_checkpoint({"weight": torch.zeros(100_000)}, {"step": 1})
        for step in (2, 3):
            with pytest.raises(RunError, match=r"last.safetensors: the disk is full \(No space left on device\)"):
                run.save_checkpoint({"weight": torch.ones(200_000)}, {"step": step})
        run.log_metrics({"epoch": 1})
        with pytest.raises(RunError, match="room"):
            write_bytes(small_disk / "filler", b"x" * 2**20)
        loaded = run.load_checkpoint()
    assert loaded is not None
    assert (loaded[0]["weight"].sum(), loaded[1]["step"]) == (0, 1)
    assert not list(small_disk.rglob(".*"))


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        run.save_weights(WEIGHTS, {})
    for name in (".config.toml.4711.tmp", "checkpoints/.last.safetensors.4711.tmp"):
        (tmp_path / name).write_text("half")
    with run_in(tmp_path):
        assert not list(tmp_path.rglob("*.tmp"))


# One process at a time

HOLDER = """
import os, sys, time
from instar.runs import Run
with Run(sys.argv[1], recipe="fit", config={}):
    forked = os.fork()
    if forked:
        print(forked, flush=True)
    time.sleep(60)
"""


def test_a_run_in_use_is_refused_and_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    """Even while a process that it forked, as a loader of data is, still lives."""
    path = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    forked = int(holder.stdout.readline())
    try:
        for use in (lambda: Run(path, recipe="fit", config={}).__enter__(), lambda: remove_run(path)):
            with pytest.raises(RunError, match="run is in use by another process") as caught:
                use()
            assert "\n" not in str(caught.value)
        holder.kill()
        holder.wait()
        os.kill(forked, 0)  # it is there
        with Run(path, recipe="fit", config={}):
            pass
        remove_run(path)
        assert not path.exists()
    finally:
        holder.kill()
        os.kill(forked, signal.SIGKILL)
        holder.communicate()


def test_a_run_may_wait_for_its_turn(tmp_path: Path) -> None:
    with run_in(tmp_path) as first:
        release = threading.Timer(0.3, first.__exit__)
        release.start()
        with Run(tmp_path, recipe="fit", config=CONFIG, wait_seconds=30):
            release.join()
            with pytest.raises(RunError, match="in use"):
                run_in(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 4}, "epochs is 3 there and 4 here"),
        ({"network": {"name": "mlp:8x1", "dropout": 0.4}}, "network.dropout is 0.5 there and 0.4 here"),
        ({"network": {"name": "mlp:8x1"}}, "network.dropout is 0.5 there and None here"),
        ({"rates": [0.1]}, r"rates is \[0.1, 0.2\] there and \[0.1\] here"),
        ({"views": "jitter:1"}, "views is None there and 'jitter:1' here"),
    ],
)
def test_another_configuration_is_refused_by_its_first_key(
    finished: Path, changes: dict[str, object], words: str
) -> None:
    before = files_in(finished)
    with pytest.raises(RunError, match=f"belongs to another configuration: config.{words}"):
        run_in(finished, **changes).__enter__()
    assert files_in(finished) == before
    with run_in(finished):  # and the lock was let go
        pass


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be written"):
            run_in(path).__enter__()


# Going on


@pytest.mark.parametrize("between", ["\r", "\u2028", "\x0c"])
def test_a_line_of_metrics_ends_with_a_newline_and_nothing_else(tmp_path: Path, between: str) -> None:
    with Run(tmp_path, recipe="fit", config={}) as run:
        (tmp_path / "metrics.jsonl").write_text(f'{{"epoch": 1}}{between}{{"epoch": 2}}\n', newline="")
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            run.metrics()


def test_metrics_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        run.log_metrics({"epoch": 1})
        run.save_checkpoint(WEIGHTS, {"step": 7})
        run.log_metrics({"epoch": 2})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"epoch": 3, "lo')  # killed as it wrote
    with run_in(tmp_path) as run:
        assert run.metrics() == [{"epoch": 1}, {"epoch": 2}]
        loaded = run.load_checkpoint()
        assert loaded is not None
        assert same_bits(loaded[0], WEIGHTS)
        assert loaded[1]["step"] == 7
        assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
        (tmp_path / LAST).unlink()
        assert run.load_checkpoint() is None
        assert run.metrics() == []


def test_metrics_that_are_shorter_than_the_checkpoint_says_are_refused(finished: Path) -> None:
    (finished / "metrics.jsonl").write_text("")
    with run_in(finished) as run, pytest.raises(RunError, match="do not belong together; remove both"):
        run.load_checkpoint()


# Damage


def reads(path: Path) -> list[Callable[[], object]]:
    run = run_in(path)
    return [lambda: Run.read(path), run.load_checkpoint, run.load_weights, run.metrics, run.result]


def problem_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except (RunError, UsageError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("name", "reader"),
    [("config.toml", 0), (LAST, 1), (FINAL, 2), ("metrics.jsonl", 3), ("result.json", 4)],
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_in_one_line(
    finished: Path, name: str, reader: int, data: st.DataObject
) -> None:
    whole, metrics = (finished / name).read_bytes(), (finished / "metrics.jsonl").read_bytes()
    content = bytearray(whole)
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), label="length") :]
    for _ in range(data.draw(st.integers(0, 4), label="changes")):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (finished / name).write_bytes(content)
    problem = problem_of(reads(finished)[reader])
    (finished / name).write_bytes(whole)
    (finished / "metrics.jsonl").write_bytes(metrics)
    assert problem is None or str(finished) in problem
    assert problem is None or "\n" not in problem


@pytest.mark.parametrize(
    ("name", "reader", "words"),
    [
        (LAST, 1, "cannot be read as safetensors: .*; remove it and run again"),
        (FINAL, 2, "cannot be read as safetensors"),
        ("metrics.jsonl", 3, "metrics.jsonl is damaged"),
        ("result.json", 4, "result.json cannot be read"),
        ("config.toml", 0, "config.toml cannot be read as TOML"),
    ],
)
def test_a_file_of_noise_is_named(finished: Path, name: str, reader: int, words: str) -> None:
    (finished / name).write_bytes(b"\xff\x00 noise = = \n")
    with pytest.raises(RunError, match=words):
        reads(finished)[reader]()


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_of_an_older_instar_is_read_and_not_resumed(finished: Path, version: int) -> None:
    text = (finished / "config.toml").read_text()
    (finished / "config.toml").write_text(text.replace("format_version = 3", f"format_version = {version}"))
    before = files_in(finished)
    assert Run.read(finished).result()["recipe"] == "fit"
    with pytest.raises(
        RunError, match=rf"has format version {version}, from an older instar.*choose another --run-dir"
    ):
        run_in(finished).__enter__()
    assert files_in(finished) == before


def test_a_run_of_a_newer_instar_is_left_alone(finished: Path) -> None:
    text = (finished / "config.toml").read_text()
    (finished / "config.toml").write_text(text.replace("format_version = 3", "format_version = 4"))
    before = files_in(finished)
    for use in (lambda: Run.read(finished), lambda: run_in(finished).__enter__()):
        with pytest.raises(RunError, match="has format version 4, this instar reads up to 3: update instar"):
            use()
    assert files_in(finished) == before


def test_only_a_run_is_removed(tmp_path: Path, finished: Path) -> None:
    for name, text in (("empty", None), ("website", "title = 'mine'\n"), ("words", "these are words")):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "config.toml").write_text(text)
        with pytest.raises((UsageError, RunError)):
            remove_run(tmp_path / name)
        assert (tmp_path / name).exists()
    with pytest.raises(UsageError, match="is not a run directory"):
        remove_run(tmp_path / "nowhere")
    remove_run(finished)
    assert not finished.exists()


def test_a_run_in_a_folder_with_a_colon_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run-mlp:8x1", "convnet:8"):
        with Run(tmp_path / name, recipe="fit", config={}):
            pass
    assert find_run("run-mlp:8x1") == Path("run-mlp:8x1")
    assert (
        find_run(f"{tmp_path}/run-mlp:8x1:student/seed-0") == tmp_path / "run-mlp:8x1" / "jobs" / "student/seed-0"
    )
    assert find_run("nowhere:teacher") == Path("nowhere/jobs/teacher")
    assert not is_run("convnet:8")  # a network, whatever a folder is called
