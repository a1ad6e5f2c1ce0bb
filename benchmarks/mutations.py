"""Damage to files, drawn from a seed: what transfers, disks and hurried editors do to them."""

import random
import re
from collections.abc import Callable

Files = dict[str, bytes]
"""Contents by path within a folder."""

_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3.5",
    b"nan",
    b"1e999",
    b"255",
    b"65536",
    b"2147483648",
    b"99999999999999999999",
)
_BYTES = (
    b"\0",
    b"\xff",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\0" * 8,
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\xc2\xa0",
    b"\\",
    b'"',
)
_SIZES = (1, 2, 4, 8)  # bytes of an integer


def mutated(files: Files, draw: random.Random) -> Files:
    """The files with one to three changes; of several files one may be empty or gone."""
    files = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        name = draw.choice(sorted(files))
        if len(files) > 1 and draw.random() < 0.03:
            del files[name]
        else:
            files[name] = draw.choice(_CHANGES)(files[name], draw)
    return files


def _place(content: bytes, draw: random.Random) -> int:
    """Anywhere, or in half of the draws near the start or the end, where headers and footers are."""
    near = min(64, len(content))
    return draw.choice(
        (
            draw.randint(0, len(content)),
            draw.randint(0, len(content)),
            draw.randint(0, near),
            len(content) - draw.randint(0, near),
        )
    )


def _flip_bit(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in content[at : at + 1]) + content[at + 1 :]


def _truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _extra(draw: random.Random) -> bytes:
    return draw.choice((*_BYTES, draw.randbytes(draw.randint(1, 12))))


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + _extra(draw) + content[at:]


def _overwrite(content: bytes, draw: random.Random) -> bytes:
    at, extra = _place(content, draw), _extra(draw)
    return content[:at] + extra + content[at + len(extra) :]


def _remove(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at + draw.randint(1, 16) :]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    at, size = _place(content, draw), draw.randint(1, 64)
    return content[: at + size] + content[at:]


def _change_length(content: bytes, draw: random.Random) -> bytes:
    """An integer of the file, such as a length, a little or very different."""
    at, size, order = _place(content, draw), draw.choice(_SIZES), draw.choice(("little", "big"))
    if at + size > len(content):
        return content
    most = 2 ** (8 * size)
    found = int.from_bytes(content[at : at + size], order)
    other = draw.choice((found + 1, found - 1, 2 * found, most // 2, most - 1)) % most
    return content[:at] + other.to_bytes(size, order) + content[at + size :]


def _swap_number(content: bytes, draw: random.Random) -> bytes:
    """A number of a text becomes another one, from the same text or from the edges of a type."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return _insert(content, draw)
    old, other = draw.choice(found), draw.choice(found)
    return content[: old.start()] + draw.choice((*_NUMBERS, other[0], other[0])) + content[old.end() :]


def _change_lines(content: bytes, draw: random.Random) -> bytes:
    """A line twice, away, joined with the next one, or in the place of another."""
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            lines.insert(other, lines[one])
        case 1:
            del lines[one]
        case 2:
            lines[one : one + 2] = [b" ".join(lines[one : one + 2])]
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bit,
    _flip_bit,
    _truncate,
    _insert,
    _overwrite,
    _remove,
    _repeat,
    _change_length,
    _change_length,
    _swap_number,
    _swap_number,
    _change_lines,
    _change_lines,
)
