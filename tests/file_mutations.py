"""How a file of any format gets damaged: bytes flipped, cut off, put in, overwritten."""

import functools
from collections.abc import Callable

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]


def flip(place: float, value: int, content: bytes) -> bytes:
    at = int(place * len(content))
    return content[:at] + bytes(byte ^ value for byte in content[at : at + 1]) + content[at + 1 :]


def truncate(place: float, content: bytes) -> bytes:
    return content[: int(place * len(content))]


def insert(place: float, extra: bytes, content: bytes) -> bytes:
    at = int(place * len(content))
    return content[:at] + extra + content[at:]


def overwrite(place: float, extra: bytes, content: bytes) -> bytes:
    at = int(place * len(content))
    return content[:at] + extra + content[at + len(extra) :]


# Half of the places near the start or the end, where headers and footers are.
places = st.floats(0, 0.999) | st.floats(0, 0.02) | st.floats(0.9, 0.999)
extras = st.binary(min_size=1, max_size=12) | st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 8])
mutations = st.lists(
    st.builds(functools.partial, st.just(flip), places, st.integers(1, 255))
    | st.builds(functools.partial, st.just(truncate), places)
    | st.builds(functools.partial, st.just(insert), places, extras)
    | st.builds(functools.partial, st.just(overwrite), places, extras),
    min_size=1,
    max_size=3,
)


def changed(content: bytes, changes: list[Mutation]) -> bytes:
    for change in changes:
        content = change(content)
    return content
