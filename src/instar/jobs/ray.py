"""The Ray engine: Ray finds each job its CPUs and GPUs, on this machine or on many, and tries again what died.

The only file that knows Ray, which is imported where an engine is opened.
"""

import contextlib
import importlib
import importlib.util
import ipaddress
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from instar.errors import UsageError
from instar.jobs.execution import ProcessDiedError, attempt
from instar.jobs.graph import Batch, Job, threads_of
from instar.jobs.walk import DIED, DONE, FAILED, MAX_TRIES, STARTED, Engine, News, Task

TRIES = "processes.txt"  # in a job's run directory: machine and process of each try
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0  # the latter for a busy machine: mostly, Ray answers in one or two
# Read by Ray when it is imported: it reports its use to nobody, prints nothing, and tries a job that takes too
# much memory as often as any other, not for ever.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_task_oom_retries": str(MAX_TRIES - 1),
}
# This name decides, on any system, whether Ray takes the machine's address in the network or the loopback's. Its
# argument for the address does not: it turns 127.0.0.1 into the former.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
SMALLEST_STORE_BYTES = 80 * 2**20  # of objects that jobs share: they share none, and Ray wants 75 MiB at least
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=50)"


class Home(NamedTuple):
    """What a process of the cluster takes over from the command, as a child of it would."""

    folder: str
    python_path: list[str]
    variables: dict[str, str]

    @classmethod
    def here(cls) -> "Home":
        """Of this process."""
        variables = {name: value for name, value in os.environ.items() if name.startswith("INSTAR_")}
        return cls(str(Path.cwd()), sys.path, variables)


@dataclass
class _Open:
    task: Task
    tries_before: int
    tries_told: int = 0

    @property
    def tries_file(self) -> Path:
        return self.task.root / "jobs" / self.task.job.name / TRIES


def check_ray(address: str) -> None:
    """Check at once, without Ray, that it is installed and that something listens at an address.

    Raises:
        UsageError: it is not so, or the address is none.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed: pip install 'instar[ray]'")
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(f"engine 'ray:{address}' should be ray:HOST:PORT, for instance ray:10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"nothing listens at {address} ({error}): start a cluster there with `ray start --head`, "
            "or take --engine ray for one on this machine"
        ) from error


class RayEngine(Engine):
    """Runs jobs on a Ray cluster.

    Args:
        address: of a cluster that runs; by default one is started on this machine, that no other one can reach.
        cores: to be shared among the jobs of a level; all of the cluster by default.

    Raises:
        UsageError: no cluster answers, or none could be started.
    """

    def __init__(self, address: str = "", *, cores: int | None = None) -> None:
        os.environ.update(SETTINGS if address else SETTINGS | LOOPBACK)
        if address:
            _take_token()
            _check_that_it_answers(address)
        ray: Any = importlib.import_module("ray")
        self._ray = ray
        self._open: dict[Any, _Open] = {}
        self._folder = None if address else tempfile.mkdtemp(prefix="instar-ray-", dir="/tmp")  # its socket's
        self._sigterm = signal.getsignal(signal.SIGTERM)  # path has to be short; and Ray takes the signal over
        try:
            if address:
                ray.init(address=address, **QUIET)
            else:
                ray.init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    object_store_memory=SMALLEST_STORE_BYTES,
                    _temp_dir=self._folder,
                    **QUIET,
                )
                if not ipaddress.ip_address(ray.util.get_node_ip_address()).is_loopback:
                    raise UsageError("it was imported too early to be kept from the network: import it later")
            machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
        except Exception as error:  # Ray raises errors of many types
            self.close()
            raise UsageError(f"Ray cannot be used: {_last_line(str(error))}") from error
        except BaseException:  # Ctrl-C in the seconds that it takes
            self.close()
            raise
        self._largest = {kind: int(max(has.get(kind, 0) for has in machines)) for kind in ("CPU", "GPU")}
        self._cores = cores or int(sum(has.get("CPU", 0) for has in machines))
        # After a job with GPUs Ray ends the process, which could not change to another GPU: only if told so here.
        self._on_cpus, self._on_gpus = ray.remote(_work), ray.remote(num_gpus=1)(_work)

    def threads(self, batch: Batch) -> dict[str, int]:
        """As the local engine's on one machine; on many, no job gets more than one of them has.

        Raises:
            UsageError: a job computes on more GPUs than any machine has.
        """
        for job in batch.jobs:
            if job.gpus > self._largest["GPU"]:
                raise UsageError(
                    f"job {job.name!r} computes on {job.gpus} GPUs, and no machine of the cluster has more than "
                    f"{self._largest['GPU']}"
                )
        threads = threads_of(batch.jobs, self._cores, batch.beside)
        most = self._largest["CPU"]
        return {job.name: max(1, min(threads[job.name], most // job.processes)) for job in batch.jobs}

    def submit(self, task: Task) -> None:
        """Take a job: Ray starts it as soon as there is room, and again when its process dies."""
        job, threads = task.job, task.threads
        task.root.mkdir(parents=True, exist_ok=True)
        remote = (self._on_gpus if job.gpus else self._on_cpus).options(
            name=job.name,
            num_cpus=min(threads * job.processes, self._largest["CPU"]),
            num_gpus=job.gpus,
            max_retries=MAX_TRIES - 1,
            retry_exceptions=[ProcessDiedError],
        )
        content = self._ray.cloudpickle.dumps(job)  # not pickle: a function of the command's own script goes along
        opened = _Open(task, tries_before=0)
        opened.tries_before = _num_lines(opened.tries_file)
        self._open[remote.remote(content, task.root.resolve(), threads, Home.here())] = opened

    def news(self) -> Iterator[News]:
        """What was started, died and ended; waits for half a second at most."""
        ready, _ = self._ray.wait(list(self._open), timeout=0.5) if self._open else ([], [])
        for opened in self._open.values():
            yield from _tries(opened)
        for reference in ready:
            opened = self._open.pop(reference)
            yield from _tries(opened)
            yield self._end_of(reference, opened.task.job)

    def _end_of(self, reference: Any, job: Job) -> News:
        errors = self._ray.exceptions
        try:
            problem = self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.NodeDiedError, ProcessDiedError):
            problem = f"its process died {MAX_TRIES} times"
        except errors.RayError as error:
            problem = _last_line(str(error))
        return News(job, DONE) if problem is None else News(job, FAILED, problem)

    def close(self) -> None:
        """Let what runs save a checkpoint, and leave the cluster; one that was started here ends."""
        if self._open:
            for reference in self._open:
                self._ray.cancel(reference)
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.wait(list(self._open), num_returns=len(self._open), timeout=20)
            self._open.clear()
        self._ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _take_token() -> None:
    """Show the cluster the token that is here: `ray start` asks for it, Ray alone takes it for `auto` only."""
    if any(name in os.environ for name in TOKENS) or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_that_it_answers(address: str) -> None:
    """In a process of its own: where something else than Ray listens, Ray waits for two minutes."""
    try:
        command = [sys.executable, "-c", PROBE, address]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        said = _last_line((error.stderr or b"").decode())  # bytes, whatever was asked for
        raise UsageError(f"what listens at {address} does not answer as a Ray cluster does: {said}") from None
    if asked.returncode != 0:
        raise UsageError(f"Ray cannot join the cluster at {address}: {_last_line(asked.stderr)}")


def _tries(opened: _Open) -> Iterator[News]:
    while opened.tries_told < _num_lines(opened.tries_file) - opened.tries_before:
        if opened.tries_told:
            yield News(opened.task.job, DIED)
        yield News(opened.task.job, STARTED)
        opened.tries_told += 1


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it does not say why"])[-1]


def _work(content: bytes, root: Path, threads: int, home: Home) -> str | None:
    """What a process of the cluster does with a job."""
    host = socket.gethostname()
    if not (root.is_dir() and Path(home.folder).is_dir()):
        return f"{root} or {home.folder} is not on {host}: a cluster's machines have to share a file system"
    os.environ.update(home.variables)
    os.chdir(home.folder)
    sys.path.extend(folder for folder in home.python_path if folder not in sys.path)
    job: Job = pickle.loads(content)
    path = root / "jobs" / job.name
    path.mkdir(parents=True, exist_ok=True)
    with open(path / TRIES, "a") as tries:
        tries.write(f"{host} {os.getpid()}\n")
    return attempt(job, root, threads)
