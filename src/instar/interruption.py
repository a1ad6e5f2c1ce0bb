"""Delays Ctrl-C, and SIGTERM where Python handles it, to the end of a step, so that checkpoints are consistent."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Delays signals that have a Python handler until `deliver`; a second signal is delivered at once.

    Works in the main thread only; in other threads nothing is delayed.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):  # neither ignored nor the default of the system
                    self._handlers[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.deliver()

    @property
    def is_waiting(self) -> bool:
        """Whether a signal is waiting."""
        return self._waiting is not None

    def deliver(self) -> None:
        """Call the original handler of the waiting signal, which usually raises KeyboardInterrupt."""
        number, self._waiting = self._waiting, None
        if number is not None:
            self._handlers[number](number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._waiting is not None:
            self._handlers[number](number, frame)
        self._waiting = number
