"""Hints and attention in the fits of a study: the term of the loss that a student's layers have."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import nn

from instar.data import Dataset
from instar.distillation import EnsembleHintLoss, Hint, HintLoss, last_layers
from instar.recipes.loading import load_run_network
from instar.recipes.settings import SoftSettings

KINDS = {"hints": "features", "attention": "attention"}
"""The losses that compare layers, and the kind of their hints."""


def hints_between(soft: SoftSettings, teacher: nn.Module, student: nn.Module, data: Dataset) -> list[Hint]:
    """The layers of a teacher that teach layers of a student.

    Raises:
        UsageError: none was named, and no layer of one network fits a layer of the other.
    """
    kind = KINDS[str(soft.loss)]
    if soft.hint_layers is None:
        found = [last_layers(teacher, student, data.gather(data.ids[:2], 0), kind=kind)]
    else:
        pairs = [pair.split(":") for pair in soft.hint_layers]
        found = [Hint(theirs, ours, kind) for theirs, ours in pairs]
    return [replace(one, weight=soft.own_weight or 1.0) for one in found]


@contextmanager
def hint_loss(
    soft: SoftSettings | None,
    needs: Mapping[str, Path],
    student: nn.Module,
    data: Dataset,
    *,
    seed: int,
    device: str,
) -> Iterator[nn.Module | None]:
    """The term of a fit's loss for its student's layers; None where its loss has none.

    Raises:
        UsageError: the layers cannot be compared.
    """
    if soft is None or soft.loss not in KINDS:
        yield None
        return
    teachers = [load_run_network(needs[name]) for name in soft.teachers]
    with listening(soft, teachers, student, data, seed=seed, device=device) as loss:
        yield loss


@contextmanager
def listening(
    soft: SoftSettings, teachers: Sequence[nn.Module], student: nn.Module, data: Dataset, *, seed: int, device: str
) -> Iterator[EnsembleHintLoss]:
    """The hints of teachers, for as long as the block lasts.

    Raises:
        UsageError: the layers cannot be compared.
    """
    losses: list[HintLoss] = []
    several = [hints_between(soft, teacher, student, data) for teacher in teachers]  # all on the CPU yet
    try:
        for number, (teacher, hints) in enumerate(zip(teachers, several, strict=True)):
            losses.append(HintLoss(teacher, student, hints, data, seed=seed + number, device=device))
        yield EnsembleHintLoss(losses)
    finally:
        for one in losses:
            one.close()
