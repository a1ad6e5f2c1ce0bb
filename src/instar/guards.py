"""What a fit refuses before it begins or on its first step: mistakes that a loss curve does not show."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from instar.data import Dataset
from instar.errors import TrainingError, UsageError

_NO_GRADIENT = "the network gets no gradient: its logits do not depend on what is trained"


def count_labelled(data: Dataset, validation: Dataset | None, soft_weight: float) -> int:
    """How many examples of the training data have a label.

    Raises:
        UsageError: none has, where they are all that there is to learn from, or to judge by.
    """
    num_labelled = int((data.labels(data.ids) >= 0).sum())
    if not soft_weight and not num_labelled:
        raise UsageError("no example has a label, and there are no soft targets: nothing to learn from")
    if validation is not None and not bool((validation.labels(validation.ids) >= 0).any()):
        raise UsageError("no example of the validation data has a label: nothing to judge by")
    return num_labelled


def check_targets(network: nn.Module, data: Dataset, targets: Any) -> None:
    """Refuse soft targets that are the student's own, of other classes, or of other views than the student sees.

    Args:
        network: the student.
        data: what it learns on.
        targets: where its soft targets come from; what it has of `networks`, `class_names` and `views` (None or
            what `views_of` gives) is compared.

    Raises:
        TrainingError: names what is shared or differs.
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
    """What decides how the examples of a data set are shown: None where each view shows the same.

    The views, their seed, and after how many they begin again where they do.
    """
    if data.views is None:
        return None
    return (data.views, data.view_seed) + (() if data.num_views is None else (data.num_views,))


def check_logits(logits: Any, num_examples: int, data: Dataset) -> None:
    """Refuse logits that are not one row for each example with one number for each class, or that teach nothing.

    Raises:
        UsageError: they are of another shape.
        TrainingError: they do not depend on any parameter that is trained.
    """
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (num_examples, data.num_classes):
        raise UsageError(
            f"the network gives {found} for {num_examples} examples of {data.num_classes} classes, "
            f"expected logits ({num_examples}, {data.num_classes})"
        )
    if not logits.requires_grad:
        raise TrainingError(_NO_GRADIENT)


def check_first_step(network: nn.Module, loss: float) -> None:
    """Refuse to go on from a first step that teaches nothing.

    Args:
        network: after the backward pass.
        loss: of the first step.

    Raises:
        TrainingError: the loss is 0 or not finite, or no parameter gets a gradient.
    """
    if not math.isfinite(loss):
        raise TrainingError(f"the loss of the first step is {loss}: look at the data and the soft targets")
    if loss == 0:
        raise TrainingError("the loss of the first step is exactly 0: nothing to learn from; look at the targets")
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not any(bool(gradient.any()) for gradient in gradients):
        raise TrainingError(_NO_GRADIENT)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _in_words(views: tuple[Any, ...] | None) -> str:
    if views is None:
        return "none"
    return f"{views[0].name} (view_seed {views[1]}{''.join(f', {number} of them' for number in views[2:])})"
