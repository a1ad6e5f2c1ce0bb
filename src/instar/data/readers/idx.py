"""The idx format of MNIST: a header with the shape, then bytes."""

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from instar.data.readers import read_bytes
from instar.errors import DataError

_LIMIT_BYTES = 1 << 28  # MNIST's largest file holds 47 MB
_UINT8 = 8


def read_idx(path: Path, *, dims: int) -> Tensor:
    """The array of an idx file, plain or gzip.

    Args:
        path: the file.
        dims: number of dimensions: 3 for images, 1 for labels.

    Returns: uint8, in the shape of the header.

    Raises:
        DataError: missing, truncated, corrupted, or another kind of file.
    """
    content = read_bytes(path, limit_bytes=_LIMIT_BYTES)
    magic = bytes((0, 0, _UINT8, dims))
    header_bytes = 4 + 4 * dims
    if content[:4] != magic or len(content) < header_bytes:
        raise DataError(
            f"{path}: an idx file of {dims}-dimensional bytes starts with {magic.hex()}, "
            f"found {content[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack(f">{dims}I", content[4:header_bytes])
    found = len(content) - header_bytes
    if found != math.prod(shape):
        raise DataError(
            f"{path}: expected {'x'.join(map(str, shape))} bytes by the header, found {found:,}; "
            "the file is truncated or corrupted, get it again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy())
