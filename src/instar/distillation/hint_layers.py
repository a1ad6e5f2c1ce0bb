"""Which layer of the teacher teaches which layer of the student, where nobody names them."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from instar.distillation.hints import Hint
from instar.errors import UsageError
from instar.networks import trace

_KINDS = {2: "vectors", 3: "sequences", 4: "maps"}  # by the number of dimensions of an output


class _Stage(NamedTuple):
    name: str
    shape: tuple[int, ...]


def last_layers(teacher: nn.Module, student: nn.Module, examples: Tensor, *, kind: str = "features") -> Hint:
    """The hint between the last stages before the heads.

    The stage of the student is its last before the head whose outputs are of a kind that the teacher has too:
    vectors, sequences of one length, or maps. That of the teacher is its last of the same height and width, or
    else its last with maps.

    Args:
        teacher: a trained network.
        student: the network that will be fitted.
        examples: some inputs, (batch, ...); both networks are run on them once.
        kind: of the hint, as in `Hint`.

    Raises:
        UsageError: no stage of one network fits a stage of the other.

    Example:
        >>> import torch
        >>> teacher, student = (
        ...     nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10))
        ...     for width in (8, 2)
        ... )
        >>> hint = last_layers(teacher, student, torch.zeros(2, 1, 8, 8), kind="attention")
        >>> hint.teacher_layer, hint.student_layer
        ('1', '1')
    """
    dimensions = (4,) if kind == "attention" else tuple(_KINDS)
    theirs, ours = (_stages(network, examples, dimensions) for network in (teacher, student))
    for stage in reversed(ours):
        alike = [one for one in theirs if len(one.shape) == len(stage.shape)]
        same_size = [one for one in alike if one.shape[2:] == stage.shape[2:]]
        if len(stage.shape) == 3:  # (batch, length, features)
            alike = same_size = [one for one in alike if one.shape[1] == stage.shape[1]]
        if fitting := same_size or alike:
            return Hint(fitting[-1].name, stage.name, kind)
    wanted = "with a height and a width" if kind == "attention" else "whose outputs are of one kind"
    found = "; ".join(
        f"the {role} has {_listed(stages)}" for role, stages in (("teacher", theirs), ("student", ours))
    )
    raise UsageError(f"expected layers of teacher and student before their heads {wanted}: {found}")


def _stages(network: nn.Module, examples: Tensor, dimensions: tuple[int, ...]) -> list[_Stage]:
    """The stages before the head, the last one that has weights, whose outputs have so many dimensions."""
    calls = trace(network, examples)
    while calls and not any(True for _ in network.get_submodule(calls.pop().name).parameters()):
        pass
    shapes = {call.name: _shape(call.output) for call in calls}  # of a stage that is called twice the last output
    stages = [_Stage(name, shape) for name, shape in shapes.items() if len(shape) in dimensions]
    # A flat copy of maps would need a projector of all their places; maps of one place have no attention.
    stages = [one for one in stages if not isinstance(network.get_submodule(one.name), nn.Flatten)]
    return [one for one in stages if dimensions != (4,) or one.shape[2:] != (1, 1)]


def _shape(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _listed(stages: list[_Stage]) -> str:
    return ", ".join(f"{name} ({_KINDS[len(shape)]})" for name, shape in stages) or "none"
