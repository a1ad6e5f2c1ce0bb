"""The dustbin: a specialist's last class, which stands for all classes outside its set."""

import math

import torch
from torch import Tensor, nn

from instar.arguments import require_tensor
from instar.data import Dataset
from instar.errors import UsageError
from instar.losses import NO_LABEL
from instar.networks import forward_logits, last_linear, shift_logits_
from instar.specialists.class_sets import ClassSet
from instar.structures import Inputs, first_examples


def specialist_labels(labels: Tensor, class_set: ClassSet) -> Tensor:
    """A specialist's labels: 0, 1, ... for the classes of its set, the last index for all other classes.

    Args:
        labels: the generalist's labels, (...), integers; -1 for an example without a label.
        class_set: the specialist's classes.

    Returns:
        (...), int64; -1 stays -1.

    Raises:
        UsageError: labels are not integers, or are beyond the generalist's classes.

    Example:
        >>> specialist_labels(torch.tensor([3, 5, 0, -1]), ClassSet([3, 5], 10))
        tensor([ 0,  1,  2, -1])

    References:
        Hinton, Vinyals and Dean 2015, section 5.2.
    """
    require_tensor("specialist_labels: labels", labels)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UsageError(f"specialist_labels: expected integer labels, found {labels.dtype}")
    if labels.numel() and not NO_LABEL <= int(labels.min()) <= int(labels.max()) < class_set.num_classes:
        raise UsageError(
            f"specialist_labels: labels from {labels.min().item()} to {labels.max().item()}, expected -1 to "
            f"{class_set.num_classes - 1}"
        )
    return _numbers(class_set).to(labels.device)[labels.long()]


def _numbers(class_set: ClassSet) -> Tensor:
    """The specialist's label of each class, (classes + 1,); the last entry is for examples without a label."""
    numbers = torch.full((class_set.num_classes + 1,), len(class_set))
    numbers[list(class_set.classes)] = torch.arange(len(class_set))
    numbers[-1] = NO_LABEL
    return numbers


def specialist_data(data: Dataset, class_set: ClassSet) -> Dataset:
    """The same examples with the labels and class names of a specialist; the examples are not copied.

    Raises:
        UsageError: the data and the class set's generalist have different numbers of classes.
    """
    if data.num_classes != class_set.num_classes:
        raise UsageError(
            f"class set of a generalist with {class_set.num_classes} classes, the data has {data.num_classes}: "
            "this specialist is for other data"
        )
    return data.relabelled(_numbers(class_set)[:-1], class_set.specialist_names)


def oversampling_correction(num_special: int, num_rest: int, *, special_share: float = 0.5) -> float:
    """The correction of the dustbin logit: the log of the factor by which the class set was oversampled.

    log( special_share / (1 - special_share) * num_rest / num_special );  log(num_rest / num_special) for a half

    Args:
        num_special: number of training examples of the class set.
        num_rest: number of training examples of all other classes.
        special_share: share of the class set in a batch, between 0 and 1.

    Raises:
        UsageError: the class set or the rest has no example, or the share is out of range.

    Example:
        >>> round(oversampling_correction(100, 900), 4), oversampling_correction(100, 900, special_share=0.1)
        (2.1972, 0.0)

    References:
        Hinton, Vinyals and Dean 2015, section 5.2 ("by incrementing the logit of the dustbin class by the log of
        the proportion by which the specialist class is oversampled").
    """
    if num_special < 1 or num_rest < 1:
        raise UsageError(
            f"oversampling: {num_special} examples of the class set and {num_rest} others; expected some of both"
        )
    if not 0 < special_share < 1:
        raise UsageError(f"special_share is {special_share}, expected between 0 and 1")
    proportion = special_share * num_rest / ((1 - special_share) * num_special)
    return math.log(proportion) if proportion != 1 else 0.0


def add_dustbin_correction_(network: nn.Module, correction: float, example_inputs: Inputs) -> None:
    """Add the correction to the dustbin's bias in the last linear layer, in place: it is saved with the weights.

    Args:
        network: a trained specialist; its last logit is the dustbin's.
        correction: from `oversampling_correction`.
        example_inputs: (n, ...), to check that the logits change by exactly the correction.

    Raises:
        UsageError: the logits are not the output of a linear layer; the network is unchanged.
    """
    with torch.no_grad():
        num_classes = forward_logits(network.eval(), first_examples(example_inputs, 1)).shape[-1]
    bias = torch.zeros(num_classes)
    bias[-1] = correction
    shift_logits_(network, bias, example_inputs, caller="add_dustbin_correction_")


def start_from_generalist_(
    specialist: nn.Module, generalist: nn.Module, class_set: ClassSet, *, correction: float = 0.0
) -> None:
    """Copy the generalist's weights into a specialist, in place; of the last layer, the rows of its classes.

    The dustbin's row is the mean row of the other classes. Its bias is their mean bias plus log(number of them)
    minus the correction: log sum_j exp(z_j) >= mean_j z_j + log n, with equality if these logits are equal. So
    the dustbin starts with less probability than the generalist gives to the other classes; a few steps of
    training correct that.

    Args:
        specialist: a network of the generalist's architecture with `len(class_set) + 1` logits.
        generalist: the trained generalist.
        class_set: the specialist's classes.
        correction: what will be added to the dustbin logit after training. It is subtracted here, because the
            specialist is trained without it.

    Raises:
        UsageError: the architectures differ, or the last layers do not match the class set.

    References:
        Hinton, Vinyals and Dean 2015, section 5.2 ("initialized with the weights of the generalist model").
    """
    theirs = last_linear(generalist, class_set.num_classes, caller="start_from_generalist_")
    ours = last_linear(specialist, len(class_set) + 1, caller="start_from_generalist_")
    last = {id(value) for layer in (theirs, ours) for value in layer.parameters()}
    expected, found = (
        {name: value for name, value in network.state_dict(keep_vars=True).items() if id(value) not in last}
        for network in (specialist, generalist)
    )
    for name in dict.fromkeys((*expected, *found)):
        shapes = [tuple(state[name].shape) if name in state else "missing" for state in (expected, found)]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"the generalist has another architecture: {name} is {shapes[1]} there, expected {shapes[0]}"
            )
    special = list(class_set.classes)
    rest = [number for number in range(class_set.num_classes) if number not in set(special)]
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(found[name])
        ours.weight.copy_(torch.cat((theirs.weight[special], theirs.weight[rest].mean(0, keepdim=True))))
        if ours.bias is not None and theirs.bias is not None:
            dustbin = theirs.bias[rest].mean() + math.log(len(rest)) - correction
            ours.bias.copy_(torch.cat((theirs.bias[special], dustbin[None])))
