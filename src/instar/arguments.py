"""Refuses arguments of another kind: an array for a tensor, a name for a network, a path for a name."""

from torch import Tensor, nn

from instar.errors import UsageError
from instar.naming import described


def require_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor.

    Raises:
        UsageError: says how to make one.
    """
    if not isinstance(value, Tensor):
        raise UsageError(f"{name}: expected a tensor, found {type(value).__name__}; torch.as_tensor makes one")


def require_network(name: str, value: object) -> None:
    """Refuse what is no network.

    Raises:
        UsageError: says where the network is, if that can be told.
    """
    if isinstance(value, nn.Module):
        return
    cures = [
        (isinstance(value, type), "make one, with its sizes in parentheses"),
        (isinstance(getattr(value, "network", None), nn.Module), "take its .network"),
        (isinstance(value, str), "instar.build_network builds one of its name"),
    ]
    cure = next((f"; {words}" for fits, words in cures if fits), "")
    raise UsageError(f"{name}: expected a torch.nn.Module, found {described(value)}{cure}")


def require_text(name: str, value: object, example: str) -> None:
    """Refuse what is no text.

    Raises:
        UsageError: with an example of the text.
    """
    if not isinstance(value, str):
        raise UsageError(f"{name}: expected a text like {example!r}, found {described(value)}")
