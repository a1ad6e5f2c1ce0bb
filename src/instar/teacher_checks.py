"""Checks of a teacher before the first step: what it gives, whether it gives it again, and how right it is."""

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instar import intervals
from instar.data import Dataset
from instar.errors import DataWarning, TrainingError, UsageError
from instar.logit_values import check_probabilities, check_teacher_logits
from instar.losses import LogitTargets, SoftTargets, Targets, at_least_float32
from instar.naming import described
from instar.networks import as_logits, call, evaluation_mode, forward_logits, input_type
from instar.positions import is_sequence
from instar.structures import Inputs, are_equal, copied_inputs, in_type

NUM_JUDGED = 512
"""A teacher is compared with the labels of so many examples; of five for each class where that is more."""

_REPEATS = 1e-4  # of the largest logit: two passes of the same batch may differ by this much (on a GPU they do)
_ENOUGH = 100  # labelled examples: of fewer, an honest teacher of many classes may have few right
_LIKELIER = 0.8  # level: few examples of a rare class show little, and a teacher that guesses is far less likely
_FEW = 20  # classes whose order is written out
_MOST_CLASSES = 2000  # of which an order is looked for
_MOST_NUMBERS = 2**24  # in the soft targets that are looked at


def require_targets(name: str, targets: Any) -> None:
    """Refuse what is no function of (ids, views), and say how to make one of it.

    Args:
        name: of the argument, for the message.
        targets: of a fit.

    Raises:
        UsageError: they cannot be called so.
    """
    cures = {
        "SoftTargetStore": "take store.targets(data, temperature=...)",
        "Tensor": "if they are logits, instar.StoredLogits(data.ids, logits, temperature=...)",
        "ndarray": "if they are logits, instar.StoredLogits(data.ids, torch.from_numpy(logits), temperature=...)",
        "dict": "if they are networks, an ensemble is list(teachers.values())",
        "FitResult": "take its .network",
    }
    try:
        inspect.signature(targets).bind("ids", "views")
        if not isinstance(targets, nn.Module | type):
            return
    except ValueError:
        return  # a function of C, which does not say what it takes
    except TypeError:
        pass
    cure = cures.get(type(targets).__name__, "instar.Teacher(network, data, temperature=...) makes one")
    raise UsageError(
        f"{name}: expected a function of (ids, views) that gives soft targets, found {described(targets)}; {cure}"
    )


def check_network(
    network: nn.Module, inputs: Inputs, *, name: str = "the teacher", temperature: float = 1.0
) -> None:
    """Run a teacher twice on a batch, and refuse what no student should learn from.

    Args:
        network: returns logits, (batch, classes).
        inputs: (batch, ...), on the device of the network.
        name: of the teacher, for the message.
        temperature: of the soft targets.

    Raises:
        UsageError: it returns probabilities.
        TrainingError: it writes into its input, returns something else in the second pass, or returns NaN,
            infinity or, beside rows without a negative number, many rows of zeros.
    """
    inputs = in_type(inputs, input_type(network))
    given = copied_inputs(inputs)
    with evaluation_mode(network), torch.no_grad():
        logits = as_logits(call(network, inputs), network)
        if not are_equal(inputs, given):
            raise TrainingError(
                f"{name} writes into its input, so that the student would see other examples: let it work on a "
                "copy (no inplace=True in its first layer, no += on its input)"
            )
        if logits.dim() != 2:
            return  # said where the logits are used
        check_teacher_logits(name, logits, temperature=temperature)
        check_repeats(f"{name}, in evaluation mode", logits, forward_logits(network, inputs))


def check_repeats(what: str, one: Tensor, again: Tensor) -> None:
    """Refuse two passes over the same batch that differ.

    Raises:
        TrainingError: names the difference.
    """
    one, again = (values.nan_to_num(neginf=0.0) for values in (one, again))
    largest = float((one - again).abs().max())
    if largest > _REPEATS * float(one.abs().max()):
        raise TrainingError(
            f"{what}: two passes over the same batch differ by up to {largest:.2g}, and a student would learn the "
            "noise; switch it off outside training, F.dropout(x, p, self.training), or seed it by example and view"
        )


def check_soft_targets(targets: Targets, data: Dataset, *, batch_size: int) -> None:
    """Ask for some soft targets before the first step: refuse what is none, warn of a teacher that is wrong.

    Args:
        targets: of a fit.
        data: its training data.
        batch_size: the most examples to ask for at once.

    Raises:
        UsageError: they are no probabilities, or the logits to match are.
        TrainingError: they hold NaN, or are different when they are asked for again.

    Warns:
        DataWarning: what `about_classes` has to say.
    """
    if is_sequence(data.labels(data.ids[:1])):  # the loss checks what it gets; classes are too many for an order
        return
    ids = judged_ids(data)
    asked = [targets(part, 0) for part in torch.split(ids, batch_size)]
    found = [part for part in asked if isinstance(part, SoftTargets | LogitTargets)]
    again = targets(ids[:batch_size], 0)
    if len(found) < len(asked) or not isinstance(again, SoftTargets | LogitTargets):
        return  # of a vocabulary, or refused by the loss
    values = [_values(part) for part in found]
    if isinstance(found[0], LogitTargets):
        check_teacher_logits("the logits to match", torch.cat(values), temperature=math.inf)
    else:
        check_probabilities("the soft targets", torch.cat(values))
    check_repeats("the soft targets", values[0], _values(again))
    warn_of_classes(torch.cat([_logits(part) for part in found]), data.labels(ids), data.class_names)


def _values(targets: SoftTargets | LogitTargets) -> Tensor:
    return targets.logits if isinstance(targets, LogitTargets) else targets.probs


def _logits(targets: SoftTargets | LogitTargets) -> Tensor:
    """Logits that give these targets at their temperature."""
    if isinstance(targets, LogitTargets):
        return targets.logits
    probs = at_least_float32(targets.probs)
    return targets.temperature * probs.clamp(min=torch.finfo(probs.dtype).tiny).log()


def judged_ids(data: Dataset) -> Tensor:
    """The ids of some examples, those with a label first; drawn, so that sorted data shows all classes."""
    num_judged = min(max(NUM_JUDGED, 5 * data.num_classes), max(_MOST_NUMBERS // data.num_classes, 2))
    drawn = data.ids[torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).to(data.ids.device)]
    is_unlabelled = (data.labels(drawn) < 0).to(drawn.device)
    return drawn[is_unlabelled.long().argsort(stable=True)][:num_judged]


def warn_of_classes(
    logits: Tensor, labels: Tensor, class_names: Sequence[str], *, name: str = "the teacher"
) -> None:
    """Warn of what `about_classes` has to say."""
    said = about_classes(logits, labels, class_names, name=name)
    if said:
        warnings.warn(said, DataWarning, stacklevel=2)


def about_classes(logits: Tensor, labels: Tensor, class_names: Sequence[str], *, name: str = "the teacher") -> str:
    """What labels say against a teacher, in a sentence: another order of its classes, or no better than guessing.

    Args:
        logits: (examples, classes).
        labels: (examples,); -1 means no label.
        class_names: in the order of the labels.
        name: of the teacher.

    Returns:
        The sentence; empty where there is nothing to say.
    """
    if bool((logits == logits[:, :1]).all()):  # uniform targets smooth the labels and predict nothing
        return ""
    order = about_order(logits, labels, class_names, name=name)
    known = (labels >= 0).cpu()
    labels, logits = labels.cpu()[known], at_least_float32(logits.cpu()[known])
    if order or len(labels) < _ENOUGH or logits.shape[-1] != len(class_names):
        return order
    num_right, num_commonest = int((logits.argmax(-1) == labels).sum()), int(labels.bincount().max())
    if intervals.is_above_chance(num_right, len(labels), num_commonest):
        return ""
    nll = F.cross_entropy(logits, labels, reduction="none")
    if intervals.is_likelier_than_shares(nll, labels, level=_LIKELIER):
        return ""  # a rare class need not be the likeliest of any example
    return (
        f"{name} is right on {num_right:,} of {len(labels):,} labelled examples, where the commonest class alone "
        f"is right on {num_commonest:,}: is it trained, for these classes and for inputs normalised like these?"
    )


def about_order(logits: Tensor, labels: Tensor, class_names: Sequence[str], *, name: str) -> str:
    """That a teacher's classes are in another order than the data's, in a sentence; empty where they are not.

    Args:
        logits, labels, class_names, name: as for `about_classes`.

    Example:
        >>> labels = torch.arange(3).repeat(40)
        >>> outputs = torch.eye(3)[labels][:, [0, 2, 1]]
        >>> about_order(outputs, labels, ("ant", "bee", "cat"), name="it").partition("; ")[2]
        'reorder its outputs: logits[:, [0, 2, 1]]'
    """
    known = (labels >= 0).cpu()
    labels, predicted = labels.cpu()[known], logits.argmax(-1).cpu()[known]
    if logits.shape[-1] != len(class_names) or len(class_names) > _MOST_CLASSES:
        return ""
    order = order_of_classes(predicted, labels, len(class_names))
    if order is None:
        return ""
    num_right = int((predicted == labels).sum())
    fitted = int((torch.tensor(order)[labels] == predicted).sum())
    moves = [f"{output} is {class_names[number]!r}" for number, output in enumerate(order) if output != number]
    more = ", ..." if len(moves) > _FEW else ""
    cure = f": logits[:, {list(order)}]" if len(order) <= _FEW else " to the order of the data's class names"
    return (
        f"{name} is right on {num_right:,} of {len(labels):,} labelled examples, and on {fitted:,} if its classes "
        f"are in another order than the data's (output {', '.join(moves[:_FEW])}{more}); reorder its outputs{cure}"
    )


def order_of_classes(predicted: Tensor, labels: Tensor, num_classes: int) -> list[int] | None:
    """The order of a teacher's outputs that its labels ask for: output `order[i]` stands for class i.

    The order with the most right answers on one half of the examples. It counts only if it is the right one on the
    other half too: it leaves at most half of the errors of always answering the commonest class; for the classes
    that it moves at least half of the answers are right, and they are more than as the outputs stand, by
    three standard deviations of chance.

    Args:
        predicted: (examples,), the output that is largest.
        labels: (examples,), from 0.
        num_classes: number of classes.

    Returns:
        None where the outputs stand in the order of the classes, or where that is not certain.

    Example:
        >>> labels = torch.arange(2).repeat(40)
        >>> order_of_classes(1 - labels, labels, 2), order_of_classes(labels, labels, 2)
        ([1, 0], None)
    """
    cells = (num_classes * labels + predicted)[::2].bincount(minlength=num_classes**2)
    counts = cells.view(num_classes, num_classes)
    present = counts.any(1).nonzero().flatten()
    if bool((counts.argmax(1)[present] == present).all()):
        return None
    from scipy.optimize import linear_sum_assignment

    as_it_is = 0.5 * torch.eye(num_classes)  # decides between orders that are as good
    order = torch.from_numpy(linear_sum_assignment((counts + as_it_is).numpy(), maximize=True)[1])
    predicted, labels = predicted[1::2], labels[1::2]
    moved = order[labels] != labels
    fitted = int((predicted == order[labels])[moved].sum())
    unmoved = int((predicted == labels)[moved].sum())
    is_certain = fitted - unmoved > 3 * (fitted + unmoved) ** 0.5 and 2 * fitted >= int(moved.sum())
    num_wrong, by_guessing = int((predicted != order[labels]).sum()), len(labels) - int(labels.bincount().max())
    return order.tolist() if is_certain and 2 * num_wrong <= by_guessing else None
