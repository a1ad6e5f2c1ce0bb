"""The Ray engine on a real cluster: what the local engine does, with the same bits, whatever is killed."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from interrupted_jobs import CONFIG, EPOCHS
from test_interrupted_jobs import Interrupted

import job_functions
from instar.errors import UsageError
from instar.jobs import Batch, Engine, Job, check_engine, open_engine, run_jobs
from instar.jobs import ray as ray_engine
from instar.jobs.graph import threads_of
from instar.runs import Run
from instar.training import fit
from small_fits import perceptron, same_bits

FIT = {"dies_at": 5, "epochs": 3}
GRAPH = [
    Job("student", job_functions.note, {}, needs=("teacher",)),
    Job("teacher", job_functions.note, {}),
    Job("refused", job_functions.refuse, {}),
    Job("after refused", job_functions.note, {}, needs=("refused",)),
    Job("dies always", job_functions.die, {}),
    Job("dies once", job_functions.fragile_fit, FIT),
    Job("one of two dies once", job_functions.fragile_fit, {**FIT, "rank": 1}, processes=2),
]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Engine]:
    """A cluster on this machine, for all tests; it leaves nothing over."""
    handler = signal.getsignal(signal.SIGTERM)
    with open_engine("ray", cores=2) as engine:
        import ray  # what an engine sets goes before

        folder = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[2]
        assert folder.name.startswith("instar-ray-")
        yield engine
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.slow
def test_a_graph_with_processes_that_die_ends_as_on_the_local_engine(
    cluster: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, events = tmp_path / "ray", []
    batches = iter([Batch(GRAPH)])
    report = cluster.run(root, lambda _: next(batches, None), on_change=lambda *event: events.append(event))
    assert sorted(report.done) == ["dies once", "one of two dies once", "student", "teacher"]
    assert report.failed == {"refused": "this was not to be", "dies always": "its process died 3 times"}
    assert report.kept_back == {"after refused": "refused"}
    assert [state for name, state in events if name == "dies always"] == [
        *(2 * ["started", "died, tried again"]),
        *("started", "failed"),
    ]
    once = ["started", "died, tried again", "started", "done"]
    for name in ("dies once", "one of two dies once"):
        assert [state for other, state in events if other == name] == once
        assert "resumed from epoch 0, step 4" in (root / "jobs" / name / "log.txt").read_text()
    rows = {name: Run.read(root / "jobs" / name).result()["rows"][0] for name in ("teacher", "student")}
    assert rows["student"]["there"] == ["teacher"]
    assert {name: row["threads"] for name, row in rows.items()} == {
        name: threads_of(GRAPH, 2)[name] for name in rows
    }
    assert capfd.readouterr() == ("", "")  # Ray says nothing, even of processes that die

    with open_engine("local", cores=1) as local:
        alone = run_jobs([Job("fit", job_functions.fragile_fit, {**FIT, "dies_at": 0})], tmp_path, engine=local)
    assert alone.done == ["fit"]
    ours, theirs = (Run.read(path) for path in (root / "jobs" / "dies once", tmp_path / "jobs" / "fit"))
    assert same_bits(ours.load_weights()[0], theirs.load_weights()[0])
    assert ours.result()["rows"] == theirs.result()["rows"]

    again = run_jobs(GRAPH[:2], root, engine=cluster, quiet=True)
    assert (again.done, sorted(again.skipped)) == ([], ["student", "teacher"])


@pytest.mark.slow
def test_a_command_joins_by_address_and_goes_on_after_ctrl_c(cluster: Engine, tmp_path: Path) -> None:
    import ray

    command = Interrupted(tmp_path)
    del command.paths[1:]
    address = ray.get_runtime_context().gcs_address
    process = command.start(f"--engine=ray:{address}", "--quiet", seconds_of_a_step=0.1)
    command.wait_for_news()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert (process.returncode, said) == (130, "")
    with Run(command.paths[0], recipe="job", config=CONFIG) as run:  # nobody holds it
        loaded = run.load_checkpoint()
    assert loaded is not None

    process = command.start(f"--engine=ray:{address}", "--quiet")
    assert (process.communicate(timeout=600), process.returncode) == ((None, ""), 0)
    done = Run.read(command.paths[0])
    assert f", step {loaded[1]['step']}\n" in (done.path / "log.txt").read_text()
    alone = fit(job_functions.Fragile(perceptron(dropout=0.2)), job_functions.TRAIN, epochs=EPOCHS, batch_size=50)
    assert same_bits(done.load_weights()[0], alone.network.state_dict())


@pytest.mark.slow
def test_more_gpus_than_any_machine_has_are_refused(cluster: Engine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"job 'fit' computes on 99 GPUs, and no machine of the cluster has more"):
        run_jobs([Job("fit", job_functions.note, {}, gpus=99)], tmp_path, engine=cluster, quiet=True)


def test_an_address_where_something_else_listens_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"what listens at {address} does not answer as a Ray cluster does"):
            open_engine(f"ray:{address}")
    with pytest.raises(UsageError, match=f"nothing listens at {address} "):
        open_engine(f"ray:{address}")


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray is not installed: pip install 'instar\[ray\]'"):
        check_engine("ray")
