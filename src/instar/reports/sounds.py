"""Recordings in a page, with a player, an image and transcripts in time."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from instar.errors import UsageError

_LEAST_BYTES = 44  # of a wav file, for its header


@dataclass(frozen=True)
class Span:
    """A text for a part of a recording, from `begin` to `end`, as fractions of its length."""

    words: str
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise UsageError(f"span {self.words!r} should be within 0 to 1, not {self.begin} to {self.end}")


@dataclass(frozen=True)
class Track:
    """A named row of spans, for instance the transcript of a recogniser."""

    name: str
    spans: Sequence[Span]


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording: a wav file, an image along its time (uint8, height x width) and tracks under it.

    Raises:
        UsageError: not a wav file, or pixels of another type or shape.
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
                f"sound {self.caption!r}: its image should be uint8 of (height, width), not "
                f"{self.pixels.dtype} of {self.pixels.shape}"
            )


@dataclass(frozen=True)
class Audio:
    """Recordings with players, one below the other.

    Example:
        >>> wav = b"RIFF" + bytes(40)  # a real file has a full header and samples
        >>> len(Audio("Heard", [Sound(wav, tracks=[Track("said", [Span("one", 0, 0.5)])])]).items)
        1

    Raises:
        UsageError: there is no recording.
    """

    title: str
    items: Sequence[Sound]
    _: KW_ONLY
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError(f"audio {self.title!r} has no recordings")
