"""Progress bars with the time left, on stderr, where it is a terminal."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")


@contextmanager
def download_progress(show: bool) -> Iterator["Progress"]:
    """Progress bars of downloads, in bytes; nothing is drawn where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    disabled = not (show and console.is_terminal)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, console=console, transient=True, disable=disabled
    ) as progress:
        yield progress


def tracked(items: Iterable[Item], *, total: int, description: str, show: bool) -> Iterator[Item]:
    """Iterate over items with a progress bar, where one is to be shown and stderr is a terminal."""
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    yield from track(items, description, total=total, console=console, transient=True, disable=hidden)
