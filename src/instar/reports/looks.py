"""The looks of the series of a page: distinct by colour, and without colour by dash and shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NUM_COLOURS = 6  # custom properties --series-0 to --series-5 of page.css
_DASHES = ((1, 0), (6, 3), (2, 2.5), (9, 3, 2, 3), (4, 2))
_SHAPES = (  # in a box from -1 to 1
    "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.1L1.1,.9H-1.1Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,1.1L1.1,-.9H-1.1Z",
)


@dataclass(frozen=True)
class Look:
    """The colour, dash and marker of a series in every chart of a page."""

    colour: str
    dash: tuple[float, ...]
    shape: str


Looks = Mapping[str, Look]


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """A look for each series, by its position; a chart without series has the first one.

    Example:
        >>> looks_of(["student", "teacher"])["teacher"].colour
        'var(--series-1)'
    """
    unique = list(dict.fromkeys(name for name in names if name))
    return {"": _look(0)} | {name: _look(place) for place, name in enumerate(unique)}


def _look(place: int) -> Look:
    return Look(
        colour=f"var(--series-{place % _NUM_COLOURS})",
        dash=_DASHES[place % len(_DASHES)],
        shape=_SHAPES[place % len(_SHAPES)],
    )
