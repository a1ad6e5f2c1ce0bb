"""Check probabilities before anything is computed from them."""

import torch
from torch import Tensor

from instar.arguments import require_tensor
from instar.errors import UsageError

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of the sum of a row; 1e-2 in half precision


def checked_probs(what: str, probs: Tensor, num_classes: int | None = None) -> Tensor:
    """Return `probs` unchanged if each row is a distribution.

    Args:
        what: what the probabilities are, for the error message.
        probs: (examples, classes).
        num_classes: expected number of classes; None accepts any.

    Raises:
        UsageError: wrong shape or dtype, NaN, a negative number, or a row that does not sum to 1.

    Example:
        >>> checked_probs("probs", torch.tensor([[0.25, 0.75]]))
        tensor([[0.2500, 0.7500]])
    """
    require_tensor(what, probs)
    if probs.dim() != 2 or not probs.is_floating_point() or (num_classes or probs.shape[1]) != probs.shape[1]:
        width = "classes" if num_classes is None else num_classes
        raise UsageError(
            f"{what}: expected floating-point probabilities (examples, {width}), found {probs.dtype} of shape "
            f"{tuple(probs.shape)}"
        )
    if not len(probs):
        return probs
    if bool(probs.isnan().any()):
        row = int(probs.isnan().any(1).nonzero()[0])
        raise UsageError(f"{what}: NaN in row {row}; check the network that predicted it")
    if bool((probs < 0).any()):
        raise UsageError(f"{what}: {probs.min().item():g} is below 0; give probabilities, not logits")
    sums = probs.sum(1, dtype=torch.float64)
    off = (sums - 1).abs()
    if float(off.max()) > _TOLERANCE.get(probs.dtype, 1e-2):
        row = int(off.argmax())
        raise UsageError(f"{what}: row {row} sums to {sums[row].item():.6g}, expected 1; give probabilities")
    return probs
