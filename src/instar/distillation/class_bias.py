"""Corrects the logit biases of a student whose transfer set lacked some classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from instar.arguments import require_tensor
from instar.data.splits import class_numbers
from instar.errors import UsageError
from instar.logit_values import refuse_probabilities
from instar.networks import shift_logits_
from instar.structures import Inputs

_SWEEPS = 10  # at most, over the classes; every change lowers the errors, so it ends sooner
_ROUNDING = 4 * torch.finfo(torch.float32).eps  # rounding error of a float32 sum, relative to the largest logit


def fit_class_bias(
    logits: Tensor,
    labels: Tensor,
    *,
    classes: Sequence[str | int],
    class_names: Sequence[str] | None = None,
    shared: bool = True,
) -> Tensor:
    """The bias to add to the logits of some classes so that a student makes the fewest errors.

    b* = argmin_b sum_examples [argmax_i (z_i + b_i) != label],  b_i = 0 outside the classes

    A student that never saw a class gives it too low a logit: raise the logits of the missing classes, or lower
    those of the present classes. The number of errors is a step function of one shift, so the best shift is found
    exactly: the middle of the widest interval with the fewest errors, among those wide enough for float32. With
    one shift for each class, the classes take turns. Where no bias reduces the errors, it may be 0.

    Args:
        logits: (n, classes), of validation examples, never of test examples.
        labels: (n,); examples without a label (-1) are left out.
        classes: names or numbers of the classes whose bias changes.
        class_names: all names, in the order of the logits; by default their numbers.
        shared: whether all of `classes` share one shift, or each has its own.

    Returns:
        (classes,), 0 outside `classes`; to be added to the logits, or to the student by `add_class_bias_`.

    Raises:
        UsageError: `classes` is empty, holds all classes, an unknown class or one without a labelled example;
            logits that are not finite, or are probabilities; shapes of logits, labels and names that do not match.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
        >>> fit_class_bias(logits, torch.tensor([0, 1, 0]), classes=[1])
        tensor([0.0000, 1.5000])

    References:
        Hinton, Vinyals, Dean 2015, section 3: the bias of class 3 raised by 3.5, those of 7 and 8 lowered by 7.6,
        there chosen on the test set.
    """
    require_tensor("fit_class_bias: logits", logits)
    require_tensor("fit_class_bias: labels", labels)
    names = class_names or [str(number) for number in range(logits.shape[-1])]
    _check(logits, labels, names)
    numbers = sorted(class_numbers(names, classes))
    known = labels >= 0
    given, labels = logits[known], labels[known]
    logits = given.double()
    if not 0 < len(numbers) < len(names):
        raise UsageError(
            f"fit_class_bias: {len(numbers)} of {len(names)} classes are named; name some of them, but not all"
        )
    for number in numbers:
        if not bool((labels == number).any()):
            raise UsageError(
                f"fit_class_bias: the validation data has no example of class {names[number]!r}, whose bias is to "
                "be fitted; use validation data with all classes"
            )
    none = torch.zeros(len(names), dtype=torch.float64, device=logits.device)
    found = [none, none.clone()]
    found[1][numbers] = _best_shift(logits, labels, numbers)
    if not shared:
        found.append(found[1].clone())
        _improve_one_by_one_(found[2], logits, labels, numbers)
    # Count again in float32, in which the bias will be added: rounding may change which bias is best.
    return min((bias.float() for bias in reversed(found)), key=lambda bias: _errors(given + bias, labels))


def _check(logits: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    if labels.dim() != 1 or logits.shape != (*labels.shape, len(names)):
        raise UsageError(
            f"fit_class_bias: expected logits (n, {len(names)}) for {len(names)} class names and labels (n,), "
            f"found {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not bool(logits.isfinite().all()):
        raise UsageError("fit_class_bias: the logits contain NaN or infinity; check the network")
    refuse_probabilities("fit_class_bias", logits)
    if len(labels) and int(labels.max()) >= len(names):
        raise UsageError(f"fit_class_bias: label {int(labels.max())} is not one of the {len(names)} classes")


def _improve_one_by_one_(bias: Tensor, logits: Tensor, labels: Tensor, numbers: Sequence[int]) -> None:
    for _ in range(_SWEEPS):
        before = _errors(logits + bias, labels)
        for number in numbers:
            shift = torch.zeros_like(bias)
            shift[number] = _best_shift(logits + bias, labels, [number])
            if _errors(logits + bias + shift, labels) < _errors(logits + bias, labels):
                bias += shift
        if _errors(logits + bias, labels) == before:
            return


def _errors(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(-1) != labels).sum())


def _best_shift(logits: Tensor, labels: Tensor, numbers: Sequence[int]) -> float:
    """The shift s of some classes with the fewest errors.

    One of these classes is predicted for an example where s is above its margin m = (highest logit of the other
    classes) - (highest logit of these). With the examples sorted by m, the errors for s between two margins are
    those of the examples below s, predicted as these classes, plus those of the examples above s.
    """
    inside = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    inside[numbers] = True
    winner, winner_at = logits.masked_fill(~inside, -torch.inf).max(-1)
    other, other_at = logits.masked_fill(inside, -torch.inf).max(-1)
    margins, order = (other - winner).sort()
    wrong_if_won = (winner_at != labels)[order].long().cumsum(0)
    wrong_if_not = (other_at != labels)[order].long()
    above = wrong_if_not.sum() - wrong_if_not.cumsum(0)
    errors = torch.cat((wrong_if_not.sum()[None], wrong_if_won + above))  # [k]: s lies above k margins
    ends = torch.cat((margins[:1] - 1, margins, margins[-1:] + 1))
    width = ends[1:] - ends[:-1]
    wide_enough = width > _ROUNDING * max(float(logits.abs().max()), float(margins.abs().max()))
    wide_enough[0] = wide_enough[-1] = True  # these two are unbounded
    candidates = wide_enough & (errors == errors[wide_enough].min())
    best = int(torch.where(candidates, width, -1.0).argmax())
    return float((ends[best] + ends[best + 1]) / 2)


def add_class_bias_(network: nn.Module, bias: Tensor, example_inputs: Inputs) -> None:
    """Add a class bias to the last linear layer, in place: it costs nothing at inference.

    Args:
        network: a network whose logits come from a linear layer.
        bias: (classes,).
        example_inputs: (n, ...), at least one, to check that the logits of the network change by exactly the bias.

    Raises:
        UsageError: the logits do not come straight from a linear layer, or there is no example to check it with;
            the network is unchanged.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 2))
        >>> add_class_bias_(network, torch.tensor([0.0, 3.5]), torch.zeros(1, 4))
    """
    shift_logits_(network, bias, example_inputs, caller="add_class_bias_")
