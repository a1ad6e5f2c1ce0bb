"""Run directories: the configuration, metrics, checkpoints and result of one run, safe against interruption.

Files are written atomically. Only `metrics.jsonl` grows in place: a checkpoint records its length, and a resumed
run truncates it to that length. `DONE` is written last.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import tomli_w

from instar.errors import RunError, UsageError
from instar.files import file_hash, load_tensors, read_toml, tensor_bytes, write_bytes, writing
from instar.identity import exact, first_difference, plain, without_none
from instar.machine import environment
from instar.naming import LIBRARIES

FORMAT_VERSION = 3
CONFIG, ENVIRONMENT, METRICS, RESULT, REPORT, LOG, DONE, PROGRESS = (
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "report.html",
    "log.txt",
    "DONE",
    "progress.json",
)
LAST, FINAL = "checkpoints/last.safetensors", "checkpoints/final.safetensors"


class Run:
    """One run directory, locked by one process at a time.

    Args:
        path: the folder, new or of the same run.
        recipe: what the run does.
        config: all that decides its result; written into `config.toml`.
        contents: by name, what the configuration names and does not hold, by content: data, networks, stores.
        wait_seconds: how long to wait for another process that has the run.

    Example:
        >>> import tempfile
        >>> with Run(Path(tempfile.mkdtemp()) / "first", recipe="fit", config={"epochs": 3}) as run:
        ...     run.log_metrics({"epoch": 1, "loss": 0.5})
        ...     run.finish({"metrics": {"loss": 0.5}})
        >>> run.is_done, run.metrics()
        (True, [{'epoch': 1, 'loss': 0.5}])
    """

    def __init__(
        self,
        path: str | Path,
        *,
        recipe: str,
        config: Mapping[str, Any],
        contents: Mapping[str, Any] | None = None,
        wait_seconds: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.recipe = recipe
        self.config: dict[str, Any] = without_none(plain(config))  # as it will be read back
        self._contents = without_none(plain(contents or {}))
        self._wait_seconds = wait_seconds
        self.about_weights: dict[str, Any] = {}  # saved with the weights and with each checkpoint
        self.tensorboard = False  # whether metrics are also written to TensorBoard's event files
        self._lock: int | None = None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Open an existing run directory for reading: no lock is taken and nothing is written.

        Raises:
            UsageError: there is no run directory at `path`.
            RunError: its configuration is damaged, or was written by a newer instar.
        """
        content = _read_config(Path(path))
        return cls(path, recipe=content["recipe"], config=content["config"])

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        deadline = time.monotonic() + self._wait_seconds
        while not _try_lock(self.path, lock):
            if time.monotonic() >= deadline:
                os.close(lock)
                raise RunError(f"{self.path} is in use by another process: wait for it or stop it")
            time.sleep(0.05)
        self._lock = lock
        _open_locks.add(lock)
        try:
            self._claim()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock in _open_locks:  # false in a process that was forked inside the with block
            _open_locks.remove(self._lock)
            os.close(self._lock)
        self._lock = None

    def _claim(self) -> None:
        """Write the configuration, or check that it equals the existing one."""
        content = {"recipe": self.recipe, "format_version": FORMAT_VERSION, "config": self.config}
        content |= {"contents": self._contents} if self._contents else {}
        for folder in (self.path, (self.path / LAST).parent):
            for temporary in folder.glob(".*.tmp"):  # from a process that was killed while writing
                temporary.unlink(missing_ok=True)
        if (self.path / CONFIG).exists():
            there = _read_config(self.path)
            if there["format_version"] < FORMAT_VERSION:
                raise RunError(
                    f"{self.path} has format version {there['format_version']}, from an older instar: it can "
                    f"be read, but not resumed by this one (version {FORMAT_VERSION}); choose another --run-dir"
                )
            key = first_difference(there, content)
            if key:
                raise RunError(
                    f"{self.path} belongs to another configuration: {key}; choose another --run-dir or remove it"
                )
        else:
            self.write_text(CONFIG, tomli_w.dumps(content))
        if not (self.path / ENVIRONMENT).exists():
            self.write_json(ENVIRONMENT, environment())

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return (self.path / DONE).exists()

    def write_text(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        write_bytes(self.path / name, text.encode())

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file atomically."""
        self.write_text(name, _json(self.path / name, content, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run; None where it does not exist."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise RunError(f"{self.path / name} cannot be read: {error}; remove it and run again") from error

    def log(self, message: str) -> None:
        """Append a line to `log.txt`."""
        self._append(LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def log_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`, and to TensorBoard's event files where `tensorboard` is set."""
        self._append(METRICS, _json(self.path / METRICS, dict(metrics)) + "\n")
        if self.tensorboard:
            self._log_to_tensorboard(metrics)

    def _log_to_tensorboard(self, metrics: Mapping[str, Any]) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        epoch = int(metrics["epoch"])
        # A writer for each line: its purge_step hides what an interrupted run had written after this epoch.
        with SummaryWriter(str(self.path / "tensorboard"), purge_step=epoch) as writer:
            for name, value in metrics.items():
                if isinstance(value, (int, float)) and name != "epoch":
                    writer.add_scalar(name, value, epoch)

    def _append(self, name: str, line: str) -> None:
        with writing(self.path / name), open(self.path / name, "a") as stream:
            stream.write(line)

    def report_progress(self, fraction: float, latest: Mapping[str, Any]) -> None:
        """Write the progress to `progress.json`, for the display; `finish` removes the file."""
        path = self.path / f".{PROGRESS}.tmp"
        with writing(path):
            path.write_text(json.dumps({"fraction": fraction, "time": time.time(), **latest}))
            path.replace(self.path / PROGRESS)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, without a truncated last line."""
        try:
            lines = (self.path / METRICS).read_bytes().decode().split("\n")[:-1]
            return [dict(json.loads(line)) for line in lines]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.path / METRICS} is damaged: {error}; remove the run and run again") from error

    def save_checkpoint(self, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; the length of `metrics.jsonl` is saved with it."""
        self._save(LAST, tensors, {**state, "metrics_bytes": self._metrics_bytes(flush=True)})

    def load_checkpoint(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The checkpoint to resume from, or None; metrics that were logged after it are removed.

        Raises:
            RunError: the checkpoint or its metrics are damaged.
        """
        path = self.path / LAST
        loaded = load_tensors(path) if path.exists() else None
        length = loaded[1].get("metrics_bytes", -1) if loaded else 0
        if not 0 <= length <= self._metrics_bytes():
            raise RunError(f"{path} and {METRICS} do not belong together; remove both and run again")
        if length < self._metrics_bytes():
            with writing(self.path / METRICS):
                os.truncate(self.path / METRICS, length)
        return loaded

    def _metrics_bytes(self, *, flush: bool = False) -> int:
        path = self.path / METRICS
        if not path.exists():
            return 0
        with writing(path), open(path, "rb") as stream:
            if flush:
                os.fsync(stream.fileno())
            return os.fstat(stream.fileno()).st_size

    def save_weights(self, tensors: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write the final weights: tensors, and extra state that JSON can hold."""
        self._save(FINAL, tensors, about)

    def load_weights(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The final weights and what was saved with them.

        Raises:
            RunError: the run has no final weights yet, or their file is damaged or was changed.
        """
        path = self.path / FINAL
        if not path.exists():
            raise RunError(f"{self.path} has no {FINAL}: its fit is not finished; run the same command again")
        loaded = load_tensors(path)
        if self.weights_checksum() not in (None, file_hash(path)):
            raise RunError(f"{path} was changed after the run was finished, says its checksum: train it again")
        return loaded

    def weights_checksum(self) -> str | None:
        """The SHA-256 of the file of the final weights, as the run ended; None of older and of unfinished runs."""
        content = self.read_json(RESULT)
        return content.get("weights_sha256") if isinstance(content, dict) else None

    def _save(self, name: str, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        write_bytes(self.path / name, tensor_bytes(tensors, {**self.about_weights, **state}))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, then `DONE`, and remove the checkpoint."""
        content = {"recipe": self.recipe, "config": self.config, "metrics": {}, "rows": [], **result}
        content["environment"] = self.read_json(ENVIRONMENT)
        if (self.path / FINAL).exists():
            content["weights_sha256"] = file_hash(self.path / FINAL)
        self.write_json(RESULT, content)
        self.write_text(DONE, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
        for name in (LAST, PROGRESS):
            (self.path / name).unlink(missing_ok=True)

    def result(self) -> dict[str, Any]:
        """The content of `result.json`.

        Raises:
            RunError: the run is not finished.
        """
        content = self.read_json(RESULT)
        if not self.is_done or content is None:
            raise RunError(f"{self.path} is not finished: run the same command again to resume it")
        if not isinstance(content, dict):
            raise RunError(f"{self.path / RESULT} is damaged: remove the run and run again")
        return content

    def job(self, name: str) -> Path:
        """The run directory of a job of this run, which is also called `RUN:name`."""
        return self.path / "jobs" / name


def check_tensorboard() -> None:
    """Check, without importing it, that TensorBoard is installed.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("TensorBoard is not installed: pip install 'instar[tensorboard]'")


def run_hash(recipe: str, config: Mapping[str, Any], *, contents: Mapping[str, Any] | None = None) -> str:
    """Eight hexadecimal digits of a configuration and, but for sketches, of the `contents` of a run.

    Example:
        >>> run_hash("fit", {"epochs": 3}) == run_hash("fit", {"epochs": 3})
        True
    """
    known = [FORMAT_VERSION, recipe, *(without_none(plain(part)) for part in (config, exact(contents or {})))]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]


_NETWORKS = ("mlp", "convnet", "resnet", "mixture", "python", *LIBRARIES)


def find_run(spec: str | Path) -> Path:
    """The path of the run directory that `RUN` or `RUN:job` names; it need not exist.

    Example:
        >>> str(find_run("runs/distill/digits-1234:student-alone/seed-3"))
        'runs/distill/digits-1234/jobs/student-alone/seed-3'
    """
    parts = str(spec).split(":")
    # The name of a folder may have colons; but `convnet:8` is a network, whatever a folder is called.
    lengths = range(2, len(parts) + 1) if parts[0] not in _NETWORKS else ()
    length = next((n for n in (1, *lengths) if (Path(":".join(parts[:n])) / CONFIG).is_file()), 1)
    run, job = Path(":".join(parts[:length])), ":".join(parts[length:])
    return run / "jobs" / job if length < len(parts) else run


def is_run(spec: str) -> bool:
    """Whether a name is a run directory, `RUN` or `RUN:job`."""
    return (find_run(spec) / CONFIG).is_file()


def list_runs(root: str | Path = "runs") -> list[Path]:
    """The run directories of commands one or two levels below `root`, oldest first."""
    paths = [config.parent for depth in ("*", "*/*") for config in Path(root).glob(f"{depth}/{CONFIG}")]
    return sorted(paths, key=lambda path: (path / CONFIG).stat().st_mtime)


_open_locks: set[int] = set()  # file descriptors of this process


def _leave_locks_to_parent() -> None:
    """Close the locks in a forked process: a data loader would keep the run locked after its parent is killed."""
    for lock in _open_locks:
        os.close(lock)
    _open_locks.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _try_lock(path: Path, lock: int) -> bool:
    with writing(path):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _read_config(path: Path) -> dict[str, Any]:
    """The content of `config.toml`: `recipe`, `format_version` and `config`."""
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path} is not a run directory: it has no {CONFIG}")
    try:
        content = read_toml(path / CONFIG)
    except UsageError as error:
        raise RunError(f"{error}; remove the folder and run again") from error
    version = content.get("format_version")
    if not isinstance(version, int) or not isinstance(content.get("config"), dict) or "recipe" not in content:
        raise UsageError(f"{path} is not a run directory: instar did not write its {CONFIG}")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path / CONFIG} has format version {version}, this instar reads up to {FORMAT_VERSION}: "
            "update instar"
        )
    return content


def _json(path: Path, content: object, *, indent: int | None = None) -> str:
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise RunError(f"{path}: a number in it is not finite ({error})") from error


def remove_run(path: Path) -> None:
    """Delete a run directory, and no other folder.

    Raises:
        UsageError: there is no run directory at `path`.
        RunError: a process is using it, or its configuration is damaged.
    """
    _read_config(path)
    with writing(path):
        lock = os.open(path / LOG, os.O_RDWR | os.O_CREAT)
        try:
            if not _try_lock(path, lock):
                raise RunError(f"{path} is in use by another process: stop it first")
            shutil.rmtree(path)
        finally:
            os.close(lock)
