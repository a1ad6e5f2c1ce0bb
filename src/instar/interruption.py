"""Ctrl-C, and SIGTERM where Python handles it, wait for the end of a step: what is saved then is whole."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Holds signals back that a Python handler takes, until `deliver`; a second one is delivered at once.

    Only the main thread can do so; in another one nothing is held back.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._waiting: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):  # neither ignored nor the system's own
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
        """Whether a signal waits."""
        return self._waiting is not None

    def deliver(self) -> None:
        """Let the handler that was there have the signal that waits: mostly, it raises KeyboardInterrupt."""
        number, self._waiting = self._waiting, None
        if number is not None:
            self._handlers[number](number, None)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._waiting is not None:
            self._handlers[number](number, frame)
        self._waiting = number
