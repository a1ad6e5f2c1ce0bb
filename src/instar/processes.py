"""Worker processes: how they start, what they inherit, and how they end.

On Linux they are forked from a server that has imported torch once. Elsewhere each process imports torch, which
takes seconds: Metal and Accelerate on macOS do not survive a fork, and Windows has no fork.
"""

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from instar.errors import UsageError

FORKS = sys.platform == "linux"
STDOUT, STDERR = 1, 2
LAST_LINES, LAST_CHARACTERS = 3, 300
SPIN_COUNT = "3000"  # a thread waits awake for microseconds; OpenMP's milliseconds take a core from other workers

_LOCK = threading.Lock()  # what a process inherits while it starts is changed for all threads
_imports_script = False
_server, _owner = forkserver.ForkServer(), os.getpid()  # ours, not the one of the user's own processes


def start_server(*modules: str) -> None:
    """Start the server that workers are forked from, unless it runs already, and do not wait for its imports.

    The server ends when this process and all workers have ended.

    Args:
        modules: what else it imports, beside all of instar that is imported here.

    Raises:
        UsageError: this is a worker, which imports a script that starts jobs.
    """
    if _imports_script:
        raise UsageError(
            "a worker imports this script to find a function of a job, and the script starts jobs itself: start "
            'them under `if __name__ == "__main__":`, or move the function into a module'
        )
    if not FORKS:
        return
    ours = [name for name in list(sys.modules) if name.startswith("instar.") and not name.startswith("instar.cli")]
    _open_closed_streams()
    resource_tracker.ensure_running()  # before the signals are blocked: it unblocks them
    with _LOCK, _blocked(signal.SIGINT, signal.SIGTERM), _server_environment():
        server = _own_server()
        server.set_forkserver_preload(["instar.fork_server", *modules, *ours])
        server.ensure_running()


def _own_server() -> forkserver.ForkServer:
    """The server of this process: a process that was forked from the one that started a server cannot use it."""
    global _server, _owner
    if _owner != os.getpid():
        _server, _owner = forkserver.ForkServer(), os.getpid()
    return _server


def _open_closed_streams() -> None:
    """Give stdin, stdout and stderr a file where they are closed, or pipes to workers would take their numbers."""
    for number in (0, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def start_process(
    target: Callable[..., None], *arguments: Any, daemon: bool = False, stderr: int = STDERR
) -> BaseProcess:
    """Start a process that ignores Ctrl-C: a terminal sends it to all processes, and the parent decides.

    The process inherits the environment, the streams, the working directory and `sys.path` as they are now, and
    ends when its parent ends. It does not import the parent's script: that needs no `if __name__ == "__main__"`.

    Args:
        target: a function of a module.
        arguments: of the function.
        daemon: the process may start no processes, and is killed when this one exits.
        stderr: file descriptor of its stderr.

    Raises:
        UsageError: this is a worker, which imports a script that starts jobs.
    """
    start_server()
    streams = {} if os.name == "nt" else {STDOUT: _handed_on(STDOUT), STDERR: _handed_on(stderr)}
    context = multiprocessing.get_context("forkserver") if FORKS else multiprocessing.get_context("spawn")
    process: BaseProcess = context.Process(
        target=_begin, args=(dict(os.environ), streams, target, arguments), daemon=daemon
    )
    with _LOCK, _script_hidden(), _from_own_server() if FORKS else _blocked(signal.SIGINT):
        process.start()
    return process


def _begin(
    environment: Mapping[str, str],
    streams: Mapping[int, Connection],
    target: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Bring a new process up to date: it is a fork of the server, which may have started long ago."""
    for number, stream in streams.items():
        os.dup2(stream.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    importlib.invalidate_caches()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments)


def _end_with_parent() -> None:
    """Wait until the parent ends, and end: else this process would continue alone and lock the run directory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class Written:
    """The stderr of a process: copied to this process's stderr, and quoted when the process dies."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("ab+", buffering=0)  # noqa: SIM115 - closed with the process
        self._shown = self._beginning = 0

    def fileno(self) -> int:
        """The descriptor to write to."""
        return self._file.fileno()

    def begin(self) -> None:
        """Forget what was written before: `last_lines` begins here."""
        self._beginning = self._size()

    def show(self) -> None:
        """Copy what is new to this process's stderr."""
        new = self._read(self._shown)
        if new:
            self._shown += len(new)
            sys.stderr.write(new.decode(errors="replace"))
            sys.stderr.flush()

    def last_lines(self) -> str:
        """The last lines since `begin`, joined into one."""
        text = self._read(max(self._beginning, self._size() - 4096)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-LAST_LINES:])[-LAST_CHARACTERS:]

    def close(self) -> None:
        """Copy the rest, and close the file."""
        self.show()
        self._file.close()

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _read(self, start: int) -> bytes:
        return os.pread(self._file.fileno(), self._size() - start, start)


def pack(message: Any) -> tuple[bytes, dict[str, Any]]:
    """A pickled message to a worker, and where to find the script if the message refers to a function of it.

    A script's module is `__main__` here, and `__mp_main__` in a worker that has processes itself.
    """
    content = pickle.dumps(message)
    about = spawn.get_preparation_data("") if b"_main__" in content else {}
    return content, {key: value for key, value in about.items() if key.startswith("init_main")}


def unpack(content: bytes, script: dict[str, Any]) -> Any:
    """The message; imports the script first, if the message refers to it."""
    global _imports_script
    if script:
        _imports_script = True
        spawn.prepare(script)
        _imports_script = False
    return pickle.loads(content)


def _handed_on(descriptor: int) -> Connection:
    """A copy of a file descriptor, in a form that can be sent to a process."""
    return Connection(os.dup(descriptor), readable=False)


@contextlib.contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Processes that start in this block do not receive these signals."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _server_environment() -> Iterator[None]:
    """A Python that starts in this block imports from the same folders as this one; its threads wait asleep."""
    changed = {
        "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path),
        "PYTHONSAFEPATH": "1",
    }
    if "OMP_WAIT_POLICY" not in os.environ:
        changed["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT)
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _from_own_server() -> Iterator[None]:
    """Processes that start in this block are forked from our server, not from that of the user's own processes."""
    before = forkserver.connect_to_new_process
    forkserver.connect_to_new_process = _own_server().connect_to_new_process
    try:
        yield
    finally:
        forkserver.connect_to_new_process = before


@contextlib.contextmanager
def _script_hidden() -> Iterator[None]:
    """Processes that start in this block do not import the script, as `multiprocessing` would have them do."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
