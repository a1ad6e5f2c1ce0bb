"""Hints: a student that learns from its teacher's intermediate layers as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from instar.data import Dataset
from instar.errors import TrainingError, UsageError
from instar.naming import unknown_name
from instar.networks import call, input_type, uncompiled
from instar.soft_losses import attention_loss, feature_loss
from instar.structures import Inputs, in_type

KINDS = ("features", "attention")


@dataclass(frozen=True)
class Hint:
    """A layer of the teacher that a layer of the student learns from.

    features:   L = mean (P s - t)^2 / mean t^2,   P a linear map of the channels that is trained with the student
    attention:  L = mean over examples of |a(s) / |a(s)| - a(t) / |a(t)||^2,   a the squares summed over channels

    s and t are the outputs of the two layers. Where their heights and widths differ, the larger is averaged to the
    smaller size.

    Args:
        teacher_layer: name of a module of the teacher, as in `named_modules`.
        student_layer: name of a module of the student.
        kind: "features" or "attention", which compares where a network looks and needs a height and a width.
        weight: of this term in the loss.

    Raises:
        UsageError: an unknown kind, or a weight that is not positive.

    Example:
        >>> Hint("3", "1").kind
        'features'

    References:
        Romero et al. 2015, FitNets (arXiv 1412.6550), for features; Zagoruyko and Komodakis 2017 (arXiv
        1612.03928), for attention. Both losses are scaled here to have no unit.
    """

    teacher_layer: str
    student_layer: str
    kind: str = "features"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"Hint: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 < self.weight < float("inf"):
            raise UsageError(f"Hint: weight is {self.weight}, expected a finite number above 0")


def as_hints(hints: Hint | Sequence[Hint | tuple[str, str]]) -> tuple[Hint, ...]:
    """Hints as they may be given: one, several, or pairs of a layer of the teacher and one of the student.

    Raises:
        UsageError: something else.

    Example:
        >>> as_hints([("layer3", "layer2")])[0].student_layer
        'layer2'
    """
    several = (hints,) if isinstance(hints, Hint) else hints
    try:
        return tuple(one if isinstance(one, Hint) else _pair(one) for one in several)
    except (TypeError, ValueError):
        raise UsageError(
            f"hints: expected a list of Hint(teacher_layer, student_layer), found {hints!r}"
        ) from None


def _pair(one: tuple[str, str]) -> Hint:
    if isinstance(one, str):  # whose letters would be two layers
        raise TypeError
    teacher_layer, student_layer = one
    return Hint(teacher_layer, student_layer)


class HintLoss(nn.Module):
    """The weighted sum of hints, computed beside each step; its only parameters are the projectors.

    It listens to the layers of teacher and student, so that the student itself is not changed. The teacher runs in
    each step, on the view that the student sees.

    Args:
        teacher: a trained network.
        student: the network that is fitted.
        hints: which layers.
        data: the transfer set; two of its examples show the shapes.
        seed: of the projectors' first weights.
        device: where both networks are.

    Raises:
        UsageError: no hint, an unknown layer, or outputs that cannot be compared.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        hints: Sequence[Hint],
        data: Dataset,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if not hints:
            raise UsageError("hints: there is none; name a layer of the teacher and one of the student")
        self.hints, self._found = tuple(hints), dict[tuple[str, str], Tensor]()
        self._networks = {"teacher": teacher.to(device).eval(), "student": student.to(device)}  # no submodules
        self._teacher_type = input_type(teacher)
        self._handles: list[Any] = []
        try:
            self._look(data, torch.device(device))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.projectors = nn.ModuleList(self._projector(hint) for hint in hints).to(device)
        except BaseException:
            self.close()
            raise

    def _look(self, data: Dataset, device: torch.device) -> None:
        """Listen to the layers, and run both networks on two examples, which show the shapes."""
        teacher, student = self._networks["teacher"], self._networks["student"]
        for hint in self.hints:
            for role in self._networks:
                self._handles.append(self._listen(role, getattr(hint, f"{role}_layer")))
        inputs = data.to(device).gather(data.ids[:2].to(device), 0)
        was_training = student.training
        with torch.no_grad():
            call(student.eval(), in_type(inputs, input_type(student)))
            call(teacher, in_type(inputs, input_type(teacher)))
        student.train(was_training)

    @property
    def teacher(self) -> nn.Module:
        """The network whose layers teach."""
        return self._networks["teacher"]

    def forward(self, inputs: Inputs) -> Tensor:
        """The loss of the student's last forward pass, on the same inputs: a scalar without unit."""
        if any(module.training for module in self.teacher.modules()):
            raise TrainingError("the teacher is in training mode: call teacher.eval() and leave it there")
        with torch.no_grad():
            call(self.teacher, in_type(inputs, self._teacher_type))
        terms = [
            hint.weight * _distance(hint.kind, projector(self._of("student", hint)), self._of("teacher", hint))
            for hint, projector in zip(self.hints, self.projectors, strict=True)
        ]
        return torch.stack(terms).sum()

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def _listen(self, role: str, name: str) -> Any:
        layers = dict(uncompiled(self._networks[role]).named_modules())
        if name not in layers or not name:
            raise unknown_name(f"layer of the {role}", name, [layer for layer in layers if layer])

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                kind = type(output).__name__
                raise UsageError(f"hints: layer {name!r} of the {role} gives {kind}, expected a tensor")
            self._found[role, name] = output.clone()  # the next layer may write into it

        return layers[name].register_forward_hook(keep)

    def _of(self, role: str, hint: Hint) -> Tensor:
        name = getattr(hint, f"{role}_layer")
        if (role, name) not in self._found:
            raise UsageError(f"hints: layer {name!r} of the {role} is not called in a forward pass; name another")
        return self._found[role, name].float()

    def _projector(self, hint: Hint) -> nn.Module:
        student, teacher = self._of("student", hint), self._of("teacher", hint)
        named = f"hint from {hint.teacher_layer!r} to {hint.student_layer!r}"
        shapes = f"found {tuple(teacher.shape[1:])} and {tuple(student.shape[1:])}"
        if student.dim() != teacher.dim() or student.dim() not in (2, 3, 4):
            raise UsageError(f"{named}: expected outputs of one kind, vectors, sequences or maps, {shapes}")
        if hint.kind == "attention":
            if student.dim() != 4:
                raise UsageError(f"{named}: attention needs a height and a width, {shapes}; use kind 'features'")
            return nn.Identity()
        if student.dim() == 3 and student.shape[1] != teacher.shape[1]:
            raise UsageError(f"{named}: the sequences differ in length, {shapes}")
        if student.dim() == 4:
            return nn.Conv2d(student.shape[1], teacher.shape[1], 1, bias=False)
        return nn.Linear(student.shape[-1], teacher.shape[-1], bias=False)


class EnsembleHintLoss(nn.Module):
    """The mean of the hints of several teachers, each with projectors of its own.

    Args:
        losses: of the same student, one for each teacher.
    """

    def __init__(self, losses: Sequence[HintLoss]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, inputs: Tensor) -> Tensor:
        """The loss of the student's last forward pass, on the same inputs: a scalar without unit."""
        return torch.stack([loss(inputs) for loss in self.losses]).mean()


def _distance(kind: str, student: Tensor, teacher: Tensor) -> Tensor:
    if student.dim() == 4:
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        student, teacher = (functional.adaptive_avg_pool2d(one, size) for one in (student, teacher))
    return attention_loss(student, teacher) if kind == "attention" else feature_loss(student, teacher)
