"""Where a network can be cut: after which layers there are weights to copy, and weights left to train."""

from collections.abc import Sequence

from torch import nn

from instar.data import Splits
from instar.errors import UsageError
from instar.guards import try_forward
from instar.networks import check_same_path, layers_of, prefix_state
from instar.structures import Inputs

NUM_TRIED = 8  # examples in a trial run: enough to see whether the path through the network depends on them


def check_cut(what: str, n: int, layers: Sequence[str]) -> None:
    """Refuse a number of layers to copy that leaves nothing to copy or nothing to train.

    Args:
        what: the object that the error message names.
        n: the number of copied layers.
        layers: the names of the layers, first to last.

    Raises:
        UsageError: gives the allowed range and the names.

    Example:
        >>> check_cut("cut", 2, ["fc1", "fc2", "fc3"])
    """
    if not 1 <= n < len(layers):
        raise UsageError(
            f"{what}: n is {n}, expected 1 to {len(layers) - 1}: the last of the {len(layers)} layers "
            f"({', '.join(layers)}) is always trained"
        )


def check_forward(network: nn.Module, name: str, splits: Splits) -> None:
    """Refuse a network that cannot take these examples, or whose path through its layers depends on them.

    Raises:
        UsageError: quotes the error of the network's forward.
    """
    examples = splits.train.gather(splits.train.ids[:NUM_TRIED], 0)
    try_forward(network, name, examples, None, data_name=splits.name)
    check_same_path(network, examples)
    layers_of(network, examples)


def copied_weights(network: nn.Module, example_input: Inputs) -> list[int]:
    """How many weights are copied by a cut after each layer, first to last."""
    num_layers = len(layers_of(network, example_input))
    states = (prefix_state(network, n, example_input=example_input) for n in range(1, num_layers + 1))
    return [sum(value.numel() for value in state.values()) for state in states]


def possible_cuts(copied: Sequence[int]) -> list[int]:
    """The cuts that have weights before them to copy, and a layer with weights directly after them.

    Args:
        copied: as `copied_weights` returns it.

    Example:
        >>> possible_cuts([0, 10, 10, 25])
        [3]
    """
    return [n for n in range(1, len(copied)) if 0 < copied[n - 1] < copied[n]]


def check_cuts(network: str, cuts: Sequence[int], layers: Sequence[str], copied: Sequence[int]) -> None:
    """Refuse cuts that leave no weights to copy or to train.

    Args:
        network: its name.
        cuts: numbers of copied layers.
        layers: the names of the layers, first to last.
        copied: as `copied_weights` returns it.

    Raises:
        UsageError: there is no cut, or one leaves no weights before or after it.
    """
    if len(layers) < 2:
        raise UsageError(f"{network} has one stage, {layers[0]}: name layers inside it with --layers NAME,NAME")
    if not cuts:
        raise UsageError(f"{network} cannot be cut: of its layers {', '.join(layers)} two need to have weights")
    for n in cuts:
        check_cut("cuts", n, layers)
        if not 0 < copied[n - 1] < copied[-1]:
            lacks = "train after it" if copied[n - 1] else "copy before it"
            before = (0, *copied)
            weighted = [name for name, less, more in zip(layers, before, copied, strict=False) if more > less]
            raise UsageError(
                f"cuts: n is {n}, with no weights to {lacks}: of the layers {', '.join(layers)} only "
                f"{', '.join(weighted)} have weights"
            )
