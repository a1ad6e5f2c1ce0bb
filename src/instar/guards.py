"""Checks before a fit and on its first step, for mistakes that a loss curve does not show."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from instar.data import Dataset
from instar.errors import TrainingError, UsageError
from instar.logit_values import refuse_probabilities

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


def check_logits(logits: Any, num_examples: int, data: Dataset) -> None:
    """Refuse logits of a shape other than (examples, classes), probabilities, and logits without a gradient.

    Raises:
        UsageError: the logits have another shape, or are probabilities.
        TrainingError: the logits do not depend on any parameter that is trained.
    """
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (num_examples, data.num_classes):
        raise UsageError(
            f"the network gives {found} for {num_examples} examples of {data.num_classes} classes, "
            f"expected logits ({num_examples}, {data.num_classes})"
        )
    refuse_probabilities("the network", logits)
    if not logits.requires_grad:
        raise TrainingError(_NO_GRADIENT)


def check_first_step(network: nn.Module, loss: float) -> None:
    """Refuse a first step without a loss or without a gradient.

    Args:
        network: the network after the backward pass.
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
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not any(bool(gradient.any()) for gradient in gradients):
        raise TrainingError(_NO_GRADIENT)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _in_words(views: tuple[Any, ...] | None) -> str:
    if views is None:
        return "none"
    return f"{views[0].name} (view_seed {views[1]}{''.join(f', {number} of them' for number in views[2:])})"
