"""The head of somebody else's network: which tensors it is, and its classes in the order of the data."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from instar.errors import DataError, UsageError
from instar.naming import few

Head = Mapping[str, int]
"""The dimension that counts the classes, by the name of a tensor."""


def head_of(build: Callable[[int], nn.Module], num_classes: int) -> Head:
    """The tensors of a network whose shape depends on the number of classes.

    Args:
        build: from a number of classes.
        num_classes: a number that it can be built for.

    Raises:
        UsageError: no tensor does: the network has no classification head.

    Example:
        >>> head_of(lambda n: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, n)), 2)
        {'1.weight': 0, '1.bias': 0}
    """
    with torch.device("meta"):  # shapes alone
        one, other = (
            {name: tuple(value.shape) for name, value in build(n).state_dict().items()}
            for n in (num_classes, num_classes + 1)
        )
    return {
        name: next(place for place, sizes in enumerate(zip(shape, other[name], strict=True)) if len({*sizes}) > 1)
        for name, shape in one.items()
        if shape != other[name]
    }


def with_classes(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    head: Head,
    *,
    names: Sequence[str],
    wanted: Sequence[str] | None,
    spec: str,
    as_it_is: bool,
) -> tuple[dict[str, Tensor], str]:
    """Weights whose head has the classes of the data, and what was done to it, in words; empty for nothing.

    The rows of the head are put into the order of the data's classes, by their names; those of other classes are
    left out. Where this is not possible, the head of the network itself is taken, which is untrained.

    Args:
        state: weights, with their own head.
        own: the tensors of the network that they are for.
        head: which of them are its head.
        names: the classes of the weights' head; empty where they are not known: a head of as many classes as the
            network's is then taken as it is.
        wanted: the classes of the data in order; None where they are not known.
        spec: what the errors call the weights.
        as_it_is: refuse a head that is not of the data's classes.

    Raises:
        UsageError: the head has other classes and is to be used as it is.
        DataError: there is no head, and it is to be used as it is.
    """
    found = dict(state)
    some = next(iter(head))
    if some not in found:
        if as_it_is:
            raise DataError(
                f"{spec} has no classification head ({some} is not there): it can be trained, not used as it is"
            )
        return {
            **found,
            **{name: own[name] for name in head},
        }, f"{spec} has no classification head: it got a new one"
    num_own, num_wanted = found[some].shape[head[some]], own[some].shape[head[some]]
    known = names if len(names) == num_own else ()
    if known and wanted is not None:
        missing = [name for name in wanted if name not in known]
        twice = [name for name in wanted if known.count(name) > 1]
        if not missing and not twice:
            if tuple(known) == tuple(wanted):
                return found, ""
            order = torch.tensor([known.index(name) for name in wanted])
            moved = {name: found[name].index_select(place, order) for name, place in head.items()}
            left_out = len(known) - len(wanted)
            about = f"; {left_out} others are left out" * bool(left_out)
            return found | moved, f"the classes of {spec} are put into the order of the data's, by name{about}"
        if as_it_is:
            problem = f"lacks {few(missing)}" if missing else f"has {few(twice)} more than once"
            raise UsageError(
                f"{spec} was trained for {len(known)} classes ({few(known)}) and {problem}: expected all "
                f"{len(wanted)} of the data by name; give both the same names (id2label, folders), or train it on "
                "the data first"
            )
    elif num_own == num_wanted:
        return found, ""
    elif as_it_is:
        raise UsageError(
            f"{spec} has {num_own} classes, whose names are not known; the data have {num_wanted}: train it on "
            "them first"
        )
    return {**found, **{name: own[name] for name in head}}, (
        f"{spec} has a head of {num_own} other classes: it got a new one of {num_wanted}"
    )
