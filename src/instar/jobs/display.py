"""What a person sees while jobs run: bars with the time left in a terminal, plain lines in a log."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from instar.jobs.graph import Batch
from instar.runs import PROGRESS

PLAIN_SECONDS = 20.0  # between two lines of progress in a log
_LEAST_NAME, _BESIDE_NAME = 24, 84  # columns of a job's name at least, and those that its bar and its note take


class Display:
    """Shows jobs on stderr; what it knows it reads from the run directories."""

    def __init__(self, root: Path, *, quiet: bool = False) -> None:
        self._root = root
        self._title = ""
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._costs: dict[str, float] = {}  # of all jobs that have come
        self._fractions: dict[str, float] = {}
        self._first: dict[str, float] = {}  # what earlier processes had done
        self._running: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._started = self._printed = time.monotonic()
        if not self._quiet and self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}", style="bold"),
                BarColumn(bar_width=28),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[note]}", style="dim"),
                console=self._console,
                transient=True,
            )
            self._bars.start()
            self._total = self._bars.add_task(self._title, total=1.0, note="")
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if self._bars is not None:
            self._bars.stop()

    def add(self, batch: Batch) -> None:
        """Jobs have come: the total is now of these too."""
        with self._lock:
            self._title = batch.title
            self._costs = {job.name: job.cost for job in batch.jobs} | self._costs
            self._fractions = {name: self._fractions.get(name, 0.0) for name in self._costs}
            if self._bars is not None:
                self._bars.update(self._total, description=self._title)

    def change(self, name: str, state: str) -> None:
        """A job was skipped, started, done, failed, kept back, or died and is tried again."""
        with self._lock:
            started = self._running.pop(name, None)
            if state == "started":
                self._running[name] = time.monotonic()
            else:
                self._fractions[name] = 0.0 if state == "died, tried again" else 1.0
            if self._bars is not None:
                self._change_bar(self._bars, name, state)
            elif not self._quiet and state not in ("skipped", "kept back"):
                took = f" after {duration(time.monotonic() - started)}" if started is not None else ""
                self._print(f"{name}: {state}{took}")
            if state == "started":
                self._look_at(name)  # one that was cut off goes on from there
            if state in ("skipped", "started"):
                self._first.setdefault(name, self._fractions[name])
            elif state in ("failed", "kept back"):  # nothing is left of it to do, and nothing of it was gained
                self._first[name] = 1.0

    def _change_bar(self, bars: Progress, name: str, state: str) -> None:
        if state == "started":
            room = max(_LEAST_NAME, self._console.width - _BESIDE_NAME)
            self._tasks[name] = bars.add_task(f"  {_end_of(name, room)}", total=1.0, note="")
        elif name in self._tasks:
            bars.remove_task(self._tasks.pop(name))
        if state in ("failed", "died, tried again"):
            self._print(f"{name}: {state}")

    def _follow(self) -> None:
        while not self._stopping.wait(0.5):
            with self._lock:
                for name in list(self._running):
                    self._look_at(name)
                self._show_total()

    def _look_at(self, name: str) -> None:
        try:
            latest = json.loads((self._root / "jobs" / name / PROGRESS).read_text())
        except (OSError, ValueError):
            return
        self._fractions[name] = latest["fraction"]
        if self._bars is not None:
            shown = {
                "epoch": latest.get("epoch"),
                "loss": latest.get("train_loss"),
                "validation errors": latest.get("validation_errors"),
            }
            note = "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in shown.items()
                if value is not None
            )
            self._bars.update(self._tasks[name], completed=latest["fraction"], note=note)

    def _whole(self, fractions: Mapping[str, float]) -> float:
        """Of all jobs, by their costs."""
        total = sum(self._costs.values())
        return sum(fraction * self._costs[name] for name, fraction in fractions.items()) / total if total else 0.0

    def _show_total(self) -> None:
        fraction, now = self._whole(self._fractions), time.monotonic()
        gained = fraction - self._whole(self._first)
        left = (now - self._started) * (1 - fraction) / gained if gained > 0.01 else None
        note = f"{duration(left)} left" if left is not None else ""
        if self._bars is not None:
            self._bars.update(self._total, completed=fraction, note=note)
        elif not self._quiet and now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self._print(f"{self._title}: {fraction:.0%} done" + (f", {note}" if note else ""))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def _end_of(name: str, width: int) -> str:
    """A name that is too long without its beginning.

    Example:
        >>> _end_of("student-alone/seed-3", 30), _end_of("tuning/student-alone/seed-3", 10)
        ('student-alone/seed-3', '.../seed-3')
    """
    return name if len(name) <= width else f"...{name[3 - width :]}"


def duration(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> duration(4.24), duration(75), duration(7300)
        ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
