"""Checks before a fit and on its first step, for mistakes that a loss curve does not show."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset
from instar.errors import InstarError, LearningWarning, TrainingError, UsageError
from instar.logit_values import refuse_probabilities
from instar.losses import distillation_loss, targets_of_members
from instar.networks import (
    evaluation_,
    forward_logits,
    is_compiled,
    training_,
    unchanged,
    without_compiler,
)
from instar.positions import rows_of_logits, there
from instar.structures import Inputs, are_numbers, copied_inputs, device_of, in_words, num_examples, tensors_in

NUM_TRIED = 4
"""Examples in a trial of a network."""

_USUAL_MOMENTUM, _MOST_OLD = (
    0.1,
    0.1,
)  # of BatchNorm: torch's momentum, and the share of an average that may be old

_NO_GRADIENT = "the network gets no gradient: its logits do not depend on a parameter that is trained"


def count_labelled(data: Dataset, validation: Dataset | None, soft_weight: float) -> int:
    """The number of training examples with a label.

    Raises:
        UsageError: no training example has a label and there are no soft targets, or no validation example has.
    """
    num_labelled = int((data.labels(data.ids) >= 0).sum())
    if not soft_weight and not num_labelled:
        raise UsageError("no example has a label, and there are no soft targets: nothing to learn from")
    if validation is not None and not bool((validation.labels(validation.ids) >= 0).any()):
        raise UsageError("no example of the validation data has a label: nothing to validate on")
    return num_labelled


def check_targets(network: nn.Module, data: Dataset, targets: Any) -> None:
    """Refuse a teacher that shares weights with the student, has other classes, or sees other views.

    Args:
        network: the student.
        data: its training data.
        targets: its soft targets; their attributes `networks`, `class_names` and `views` (as `views_of` returns
            it) are compared where they exist.

    Raises:
        TrainingError: teacher and student share a tensor, or differ in classes or views.
    """
    own = {parameter.data_ptr() for parameter in network.parameters() if parameter.numel()}
    for teacher in getattr(targets, "networks", ()):
        for name, parameter in teacher.named_parameters():
            if parameter.data_ptr() in own:
                raise TrainingError(
                    f"teacher and student share the tensor {name!r}: give the student a copy of its own"
                )
    class_names = getattr(targets, "class_names", None)
    if class_names is not None and tuple(class_names) != tuple(data.class_names):
        same = sorted(class_names) == sorted(data.class_names)
        raise TrainingError(
            f"the teacher's classes are {_few(class_names)}, the data's {_few(data.class_names)}: "
            + ("the same in another order; reorder one of them" if same else "use data of the same classes")
        )
    seen = views_of(data)
    if getattr(targets, "views", seen) != seen:
        raise TrainingError(
            f"the soft targets are for views {_in_words(targets.views)}, the student sees {_in_words(seen)}: "
            "make the teacher's targets from the same data"
        )


def views_of(data: Dataset) -> tuple[Any, ...] | None:
    """The views of a data set, their seed and, where they repeat, their number; None without views."""
    if data.views is None:
        return None
    return (data.views, data.view_seed) + (() if data.num_views is None else (data.num_views,))


def check_logits(logits: Tensor) -> None:
    """Refuse probabilities, and logits that do not depend on any parameter that is trained.

    Raises:
        UsageError: the logits are probabilities.
        TrainingError: they have no gradient.
    """
    refuse_probabilities("the network", logits)
    if not logits.requires_grad:
        raise TrainingError(_NO_GRADIENT)


def check_first_step(gradients: Iterable[Tensor | None], loss: float) -> None:
    """Refuse a first step without a loss or without a gradient.

    Args:
        gradients: of the parameters, after the backward pass.
        loss: the loss of the first step.

    Raises:
        TrainingError: the loss is 0 or not finite, or every gradient is 0.
    """
    if not math.isfinite(loss):
        raise TrainingError(f"the loss of the first step is {loss}: check the data and the soft targets")
    if loss == 0:
        raise TrainingError(
            "the loss of the first step is exactly 0: there is nothing to learn; check the targets"
        )
    if not any(gradient is not None and bool(gradient.any()) for gradient in gradients):
        raise TrainingError(_NO_GRADIENT)


def warn_of_old_statistics(network: nn.Module, num_steps: int) -> None:
    """Say where a fit is too short for the running averages of BatchNorm, which evaluation uses.

    After n steps a share (1 - momentum)^n of an average is what it was before the fit. torch's momentum is 0.1,
    that of EfficientNet as it came from TensorFlow 0.01.

    Example:
        >>> with warnings.catch_warnings(record=True, action="always") as said:
        ...     warn_of_old_statistics(nn.BatchNorm2d(8, momentum=0.01), 155)
        >>> str(said[0].message)[:69]
        'BatchNorm with momentum 0.01: after 155 steps 21 % of its statistics '
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers if layer.training and layer.momentum is not None]
    lowest = min(momenta, default=_USUAL_MOMENTUM)
    old = (1 - lowest) ** num_steps
    if lowest < _USUAL_MOMENTUM and old > _MOST_OLD:
        warnings.warn(
            f"BatchNorm with momentum {lowest:g}: after {num_steps:,} steps {100 * old:.0f} % of its statistics "
            "are those that it came with, and evaluation uses them: train longer, or set the momentum of these "
            "layers to 0.1",
            LearningWarning,
            stacklevel=3,
        )


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient.

    Raises:
        UsageError: there is none, or one is in half precision.
    """
    found = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    if not found:
        raise UsageError("the network has no parameter that requires a gradient: nothing to fit")
    for name, value in found:
        if value.dtype in (torch.float16, torch.bfloat16):
            raise UsageError(
                f"{name} is {value.dtype}, in which most steps are rounded away: convert the network with "
                "network.float(); precision='bfloat16' computes in half precision and keeps float32 weights"
            )
    return [value for _, value in found]


def try_forward(
    network: nn.Module,
    name: str,
    inputs: Inputs,
    num_classes: int | None,
    *,
    data_name: str = "the data",
    at_each_position: bool = False,
) -> None:
    """Refuse a network that gives no logits for these examples, before anything is trained; it stays as it is.

    Args:
        network: in use, not to be trained.
        name: what the error calls it.
        inputs: two or more examples.
        num_classes: of the data; None where the network may have others.
        data_name: what the error calls the data.
        at_each_position: whether it gives logits at each position of sequences.

    Raises:
        UsageError: quotes the error of its forward pass, or says what else is wrong.
    """
    with (
        _naming(name, inputs, data_name),
        unchanged(network),
        without_compiler(is_compiled(network)),
        torch.no_grad(),
    ):
        logits = forward_logits(evaluation_(network), copied_inputs(inputs))
        rows_of_logits(logits, there(inputs) if at_each_position else None, num_examples(inputs), num_classes)


def try_fit(
    network: nn.Module,
    name: str,
    inputs: Inputs,
    num_classes: int,
    *,
    temperature: float | None = None,
    data_name: str = "the data",
    at_each_position: bool = False,
) -> None:
    """Refuse a network that cannot learn from these examples: one batch forward and backward.

    Args:
        network: to be trained.
        name: what the error calls it.
        inputs: two or more examples.
        num_classes: of the data.
        temperature: of its soft targets; None where it learns from labels alone.
        data_name: what the error calls the data.
        at_each_position: whether it gives logits at each position of sequences.

    Raises:
        UsageError: quotes the error of its forward or backward pass, or says what else is wrong.
        TrainingError: the loss is not finite, or there is no gradient.
    """
    where = there(inputs) if at_each_position else None
    num_rows = num_examples(inputs) if where is None else int(where.sum())
    targets = None
    if temperature is not None:
        targets = targets_of_members(torch.zeros(1, num_rows, num_classes, device=device_of(inputs)), temperature)
    labels = (torch.arange(num_rows) % num_classes).to(device_of(inputs))
    with (
        _naming(name, inputs, data_name),
        unchanged(network),
        without_compiler(is_compiled(network)),
        torch.enable_grad(),
    ):
        parameters = trained_parameters(network)
        logits = forward_logits(training_(network), copied_inputs(inputs))
        logits = rows_of_logits(logits, where, num_examples(inputs), num_classes)
        check_logits(logits)
        soft_weight = float(targets is not None)
        loss = distillation_loss(logits, targets, labels, soft_weight=soft_weight, hard_weight=1.0).total
        check_first_step(torch.autograd.grad(loss, parameters, allow_unused=True), loss.item())


@contextmanager
def _naming(name: str, inputs: Inputs, data_name: str) -> Iterator[None]:
    """Begin every error with the name of a network."""
    try:
        yield
    except InstarError as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:  # a user's module may fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{name} cannot take the examples of {data_name}, {in_words(inputs)}: {reason}{_cure(inputs, reason)}"
        ) from error


def _cure(inputs: Inputs, reason: str) -> str:
    """What to do about a forward that does not take a structure, or takes numbers where it is given ids."""
    if isinstance(inputs, Mapping) and "argument" in reason:
        return f"; its forward is called with the names {', '.join(inputs)}"
    if isinstance(inputs, tuple) and "argument" in reason:
        return f"; its forward is called with {len(inputs)} tensors, the mask of padded examples last"
    if "type" in reason and not all(are_numbers(one.dtype) for one in tensors_in(inputs)):
        return "; integers stay what they are, as ids: give numbers to be computed with as floating point"
    return ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _in_words(views: tuple[Any, ...] | None) -> str:
    if views is None:
        return "none"
    return f"{views[0].name} (view_seed {views[1]}{''.join(f', {number} of them' for number in views[2:])})"
