"""What a network takes and gives: inputs in the type of its weights, and of its output the logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.structures import Inputs, in_type

_KEY = "logits_key"  # the attribute that `name_logits_` sets


def name_logits_(network: nn.Module, key: str | int) -> None:
    """Say which part of a network's output is its logits, where it gives several and calls none `logits`.

    Args:
        network: any module; copies of it give the same part.
        key: of a dict, the name of an attribute, or the place in a tuple.

    Example:
        >>> class TwoHeads(nn.Linear):
        ...     def forward(self, inputs):
        ...         return super().forward(inputs), inputs
        >>> network = TwoHeads(4, 3)
        >>> name_logits_(network, 0)
        >>> forward_logits(network, torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    setattr(network, _KEY, key)


def named_logits(network: nn.Module) -> str | int | None:
    """The part that `name_logits_` named; None by default."""
    key: str | int | None = getattr(network, _KEY, None)
    return key


def call(network: Callable[..., Any], inputs: Inputs) -> Any:
    """What a network gives for a tensor, for a mapping by the names in it, or for a tuple.

    Example:
        >>> call(nn.Bilinear(2, 3, 4), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
        torch.Size([5, 4])
    """
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs) if isinstance(inputs, tuple) else network(inputs)


def forward_logits(network: nn.Module, inputs: Inputs) -> Tensor:
    """The logits of a network for a batch: numbers are converted to the type of its weights; ids and masks stay.

    Raises:
        UsageError: as `as_logits`.
    """
    return as_logits(call(network, in_type(inputs, input_type(network))), network)


def input_type(network: nn.Module) -> torch.dtype:
    """The type of a network's weights; where they have several, that of the first layer.

    The first layer has the first weights with two dimensions larger than 1, as `network.parameters()` has them:
    a scale or a mean in another type before it says nothing of what the network computes in.

    Example:
        >>> input_type(nn.Linear(2, 2).double()), input_type(nn.Flatten())
        (torch.float64, torch.float32)
    """
    weights: list[Tensor] = [value for value in network.parameters() if value.is_floating_point()]
    weights = weights or [value for value in network.buffers() if value.is_floating_point()]
    if len({value.dtype for value in weights}) > 1:
        weights = [value for value in weights if sum(size > 1 for size in value.shape) > 1]
    return weights[0].dtype if weights else torch.float32


def as_logits(output: Any, network: nn.Module) -> Tensor:
    """The logits in the output of a network: a tensor, `.logits`, the key `logits`, or the part that was named.

    Raises:
        UsageError: there is none of these; the first of several tensors is not taken for it.

    Example:
        >>> as_logits({"logits": torch.zeros(2, 3), "features": torch.zeros(2, 8)}, nn.Identity()).shape
        torch.Size([2, 3])
    """
    if isinstance(output, Tensor):
        return output
    key = named_logits(network)
    found = (
        output[0] if key is None and _is_one_tensor(output) else _part(output, "logits" if key is None else key)
    )
    if isinstance(found, Tensor):
        return found
    lacks = "of which none is called logits" if key is None else f"with no logits at {key!r}"
    raise UsageError(
        f"{type(network).__name__} gives {_in_words(output)}, {lacks}: return the logits alone, or say which they "
        f"are, instar.name_logits_(network, {_first_key(output)!r}) for instance"
    )


def check_shape(logits: Tensor, num_examples: int, num_classes: int | None = None) -> Tensor:
    """The logits, if they are (examples, classes); of one example also (classes,), which `squeeze()` leaves.

    Args:
        logits: what a network gives.
        num_examples: in the batch.
        num_classes: None where it is not known.

    Raises:
        UsageError: they have another shape; the error says what to do about it.
    """
    if num_examples == 1 and logits.ndim == 1 and len(logits) > 1:
        logits = logits[None]
    found = tuple(logits.shape)
    if logits.ndim == 2 and found == (num_examples, found[1] if num_classes is None else num_classes):
        return logits
    examples = f"{num_examples} example{'s' * (num_examples != 1)}"
    if num_classes is not None:
        examples += f" of {num_classes} classes"
    expected = f"({num_examples}, {'classes' if num_classes is None else num_classes})"
    cure = _cure(found, num_examples, num_classes)
    raise UsageError(f"the network gives {found} for {examples}, expected logits {expected}{cure}")


def _cure(found: tuple[int, ...], n: int, classes: int | None) -> str:
    if len(found) == 1 or found == (n, 1):
        return ": one number for each example is no logits; give one for each class, (0, z) where there are two"
    is_first, is_last = (classes in (None, size) for size in (found[1], found[-1]))
    if found[0] == n and is_first and set(found[2:]) == {1}:
        return ": end it with nn.Flatten()"
    if len(found) == 3 and found[0] == n and is_last:
        return (
            f": one row for each of {found[1]} positions of a sequence; return the logits of one position, "
            "output[:, -1], or their mean, output.mean(1)"
        )
    if len(found) == 3 and found[1] == n:
        return ": the batch is its second dimension; use batch_first=True, and return the logits of one position"
    if len(found) > 2 and found[0] == n and is_first:
        return ": logits at every place; return their mean, output.flatten(2).mean(2)"
    if len(found) == 2 and found[0] == n and classes is not None and found[1] > classes:
        return (
            "; where the data has no example of some classes, name them all: "
            "instar.data.as_dataset((inputs, labels), class_names=[...])"
        )
    return ""


def _is_one_tensor(output: Any) -> bool:
    return isinstance(output, (tuple, list)) and len(output) == 1


def _part(output: Any, key: str | int) -> Any:
    if isinstance(output, Mapping) and key in output:
        return output[key]
    if isinstance(key, str):
        return getattr(output, key, None)
    if isinstance(output, Sequence) and -len(output) <= key < len(output):
        return output[key]
    return None


def _in_words(output: Any) -> str:
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {kind} of " + ", ".join(f"{key!r} {_shape(value)}" for key, value in list(output.items())[:5])
    if isinstance(output, (tuple, list)):
        return f"a {kind} of " + ", ".join(map(_shape, output[:5]))
    return kind


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _first_key(output: Any) -> str | int:
    return str(next(iter(output), "logits")) if isinstance(output, Mapping) else 0
