"""What things are known by: exact values, and sketches of floating point numbers, compared up to rounding.

Another machine, another number of threads or a GPU changes the last bits of floating point numbers: a hash of them
recognises nothing elsewhere. A sketch does: it is a few numbers, and says how far they may differ.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from instar.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK, _DIRECTIONS = 2**16, 8
_WITHIN, _VALUES = "within", "values"


def sketch(tensors: "Iterable[Tensor]", *, relative: float = 1e-3) -> dict[str, Any]:
    """A few numbers that tell tensors x apart, up to rounding: y_k = sum_i s_ki x_i, with signs s_ki drawn once.

    y_k moves by about ||dx||: the tensors count as equal while every |dy_k| <= relative * ||x||.

    Args:
        tensors: of any shapes and types; their order counts, their shapes do not.
        relative: how far they may differ.

    Returns:
        `values`, the eight y_k, and `within`, how far these may differ.

    Example:
        >>> import torch
        >>> x = torch.randn(1000)
        >>> first_difference(sketch([x]), sketch([x * (1 + 1e-6)])) is None
        True
        >>> first_difference(sketch([x]), sketch([x * 1.1])) is None
        False

    References:
        Achlioptas 2003, "Database-friendly random projections".
    """
    import torch

    signs = _signs()
    found, square, number = torch.zeros(_DIRECTIONS, dtype=torch.float64), 0.0, 0
    for tensor in tensors:
        values = _flat(tensor)
        square += float(values @ values)
        for part in torch.split(values, _BLOCK):
            number += 1
            found += signs[:, -number % _BLOCK] * (signs[:, : len(part)] @ part)
    return {_WITHIN: relative * math.sqrt(square) + 1e-9, _VALUES: found.tolist()}


def each_alone(tensors: "Iterable[Tensor]") -> "Iterator[Tensor]":
    """x / ||x|| and log ||x|| of each tensor: in a sketch of these none hides another, as -1e9 of a mask would.

    Example:
        >>> import torch
        >>> mask, one, other = torch.full((9,), -1e9), torch.ones(9), torch.zeros(9)
        >>> first_difference(sketch([mask, one]), sketch([mask, other])) is None
        True
        >>> first_difference(sketch(each_alone([mask, one])), sketch(each_alone([mask, other]))) is None
        False
    """
    for tensor in tensors:
        values = _flat(tensor)
        norm = values.norm()
        yield from (values / norm, norm.log()) if norm > 0 else (values, norm)


def _flat(tensor: "Tensor") -> "Tensor":
    """All numbers of a tensor, finite, in double precision."""
    import torch

    values = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).detach()
    return values.reshape(-1).to("cpu", torch.float64).nan_to_num(nan=1.0, posinf=2.0, neginf=-2.0)


@functools.cache
def _signs() -> "Tensor":
    """(directions, block) of -1 and 1, the same everywhere: integers of torch's Mersenne Twister."""
    import torch

    bits = torch.randint(2, (_DIRECTIONS, _BLOCK), generator=torch.Generator().manual_seed(0))
    return bits.double() * 2 - 1


def is_sketch(content: Any) -> bool:
    """Whether a part of a configuration is a `sketch`."""
    return isinstance(content, Mapping) and content.keys() == {_WITHIN, _VALUES}


def first_difference(there: Any, here: Any, key: str = "") -> str | None:
    """The first difference between two nested configurations, in words; None where they are equal.

    Example:
        >>> first_difference({"epochs": 3}, {"epochs": 4})
        'epochs is 3 there and 4 here'
    """
    if is_sketch(there) and is_sketch(here):
        within = max(there[_WITHIN], here[_WITHIN])
        pairs = zip(there[_VALUES], here[_VALUES], strict=True)
        return None if all(abs(one - other) <= within for one, other in pairs) else _words(key, there, here)
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in [*here, *(name for name in there if name not in here)]:
            inner = f"{key}.{name}" if key else str(name)
            found = first_difference(there.get(name), here.get(name), inner)
            if found:
                return found
        return None
    return None if _are_equal(there, here) else _words(key, there, here)


def _are_equal(there: Any, here: Any) -> bool:
    """Whether two values are the same; floating point numbers may differ by a millionth, as means of data do."""
    if isinstance(there, list) and isinstance(here, list):
        return len(there) == len(here) and all(map(_are_equal, there, here))
    if isinstance(there, float) and isinstance(here, float):
        return there == here or math.isclose(there, here, rel_tol=1e-6)
    return bool(there == here)


def _words(key: str, there: Any, here: Any) -> str:
    return f"{key} is {_shown(there)} there and {_shown(here)} here"


def _shown(value: Any) -> str:
    if is_sketch(value):
        return f"about [{', '.join(f'{number:.4g}' for number in value[_VALUES][:3])}, ...]"
    return repr(value)


def exact(content: Any) -> Any:
    """The content without sketches, which no hash can cover."""
    if isinstance(content, Mapping):
        return {key: exact(value) for key, value in content.items() if not is_sketch(value)}
    return [exact(value) for value in content] if isinstance(content, (list, tuple)) else content


def plain(content: Any) -> Any:
    """The content with Python's own numbers in place of those of numpy and torch, at any depth.

    Example:
        >>> import numpy as np
        >>> plain({"seed": np.int64(1), "rates": (np.float64(0.5),)})
        {'seed': 1, 'rates': (0.5,)}
    """
    if isinstance(content, Mapping):
        return {key: plain(value) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(plain(value) for value in content)
    return content.tolist() if hasattr(content, "tolist") and not getattr(content, "ndim", 0) else content


def without_none(content: Any) -> Any:
    """The content without keys whose value is None, which TOML cannot express."""
    if isinstance(content, Mapping):
        return {key: without_none(value) for key, value in content.items() if value is not None}
    if isinstance(content, (list, tuple)):
        return [without_none(value) for value in content]
    return content


def stated_fingerprint(owner: Any) -> str | None:
    """The attribute `fingerprint` of an object, by which it says that it has changed.

    Raises:
        UsageError: it is no text.
    """
    stated = getattr(owner, "fingerprint", None)
    if stated is not None and not (isinstance(stated, str) and stated):
        raise UsageError(f"{type(owner).__name__}.fingerprint should be a text, found {type(stated).__name__}")
    return stated
