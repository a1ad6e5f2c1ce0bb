"""Recordings in a page: to be played, with a picture of them and what is said when."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from instar.errors import UsageError

_LEAST_BYTES = 44  # of a wav file: its header


@dataclass(frozen=True)
class Span:
    """Words over a part of a recording, from `begin` to `end`, as shares of its length."""

    words: str
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise UsageError(f"span {self.words!r} should be within 0 to 1, not {self.begin} to {self.end}")


@dataclass(frozen=True)
class Track:
    """A row of spans under a picture: who or what tells them."""

    name: str
    spans: Sequence[Span]


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording: a wav file, its picture from left to right (uint8, height x width) and tracks under it.

    Raises:
        UsageError: no wav file, or pixels of another type or shape.
    """

    wav: bytes
    caption: str = ""
    pixels: NDArray[np.uint8] | None = None
    tracks: Sequence[Track] = ()

    def __post_init__(self) -> None:
        if self.wav[:4] != b"RIFF" or len(self.wav) < _LEAST_BYTES:
            raise UsageError(f"sound {self.caption!r} should be the bytes of a wav file")
        if self.pixels is not None and (self.pixels.dtype != np.uint8 or self.pixels.ndim != 2):
            raise UsageError(
                f"sound {self.caption!r}: its picture should be uint8 of (height, width), not "
                f"{self.pixels.dtype} of {self.pixels.shape}"
            )


@dataclass(frozen=True)
class Audio:
    """Recordings to be played, one under the other.

    Example:
        >>> wav = b"RIFF" + bytes(40)  # in earnest with all of its header and samples
        >>> len(Audio("Heard", [Sound(wav, tracks=[Track("said", [Span("one", 0, 0.5)])])]).items)
        1

    Raises:
        UsageError: no recording.
    """

    title: str
    items: Sequence[Sound]
    _: KW_ONLY
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError(f"audio {self.title!r} has no recordings")
