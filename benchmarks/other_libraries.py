"""The losses of other libraries beside ours: the same settings here, and the factor by which they differ.

    python -m benchmarks other-libraries

The gradient in the student's logits is compared: a divergence and a cross-entropy differ by a constant, which
moves no weight. It fails where a library does something else than docs/methods/coming-from.md says.
"""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torchdistill_box import get_distillation_box  # noqa: F401  (a torchvision that can be imported)
from instar import distillation_loss, soft_targets

T, CLASSES, BATCH, LENGTH = 4.0, 10, 6, 3
_random = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (3 * torch.randn(BATCH, CLASSES, generator=_random) for _ in range(2))
LABELS = torch.randint(CLASSES, (BATCH,), generator=_random)
KEPT = torch.tensor([[True, True, False]] * (BATCH // LENGTH))
"""Which tokens of the same logits, as two texts of three, count."""


class Case(NamedTuple):
    """A setting of another library, and what it is here."""

    setting: str
    theirs: Callable[[Tensor], Tensor]
    ours: dict[str, Any]
    factor: float | None = 1.0
    """theirs = factor * ours; None: another loss"""


def torchdistill() -> Iterator[Case]:
    """Its `KDLoss`, between the outputs of two modules."""
    from torchdistill.losses.mid_level import KDLoss

    def loss(alpha: float | None, beta: float | None, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
        kd = KDLoss(".", "output", ".", "output", temperature=T, alpha=alpha, beta=beta)
        return lambda logits: kd({".": {"output": logits}}, {".": {"output": TEACHER}}, labels)

    yield Case("alpha 0.1", loss(0.1, None, LABELS), {"soft_weight": 0.9, "hard_weight": 0.1})
    yield Case("alpha 0.1, beta 2", loss(0.1, 2.0, LABELS), {"soft_weight": 2.0, "hard_weight": 0.1})
    yield Case("alpha 0, beta 2", loss(0.0, 2.0, LABELS), {}, 1 / T**2)
    yield Case("alpha 0.1, beta 2, no labels", loss(0.1, 2.0, None), {}, 1 / T**2)


def timm() -> Iterator[Case]:
    """Its tasks, which `train.py --kd-model-name` makes."""
    from timm.task import LogitDistillationTask

    class Answers(nn.Module):
        pretrained_cfg, num_classes, in_chans = {"mean": (0.0,) * 3, "std": (1.0,) * 3}, CLASSES, 3

        def __init__(self, logits: Tensor) -> None:
            super().__init__()
            self.logits = logits

        def forward(self, _: Tensor) -> Tensor:
            return self.logits

    def loss(**weights: float) -> Callable[[Tensor], Tensor]:
        def of(logits: Tensor) -> Tensor:
            options = {"criterion": nn.CrossEntropyLoss(), "temperature": T, "verbose": False, **weights}
            task = LogitDistillationTask(Answers(logits), Answers(TEACHER), **options)
            return task(torch.zeros(BATCH, 3, 1, 1), LABELS)["loss"]

        return of

    yield Case("no weights", loss(), {"hard_weight": 1.0})
    yield Case("task 0.3", loss(task_loss_weight=0.3), {"soft_weight": 0.7, "hard_weight": 0.3})
    both = loss(task_loss_weight=0.3, distill_loss_weight=2.0)
    yield Case("task 0.3, distill 2", both, {"soft_weight": 2.0, "hard_weight": 0.3})


def trl() -> Iterator[Case]:
    """Its two trainers' losses, over the tokens that count."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gkd import GKDTrainer
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    labels, identity, teacher = torch.where(KEPT, 0, -100), torch.eye(CLASSES), _as_texts(TEACHER)

    def gkd(logits: Tensor) -> Tensor:  # as compute_loss calls it: without the temperature
        return GKDTrainer.generalized_jsd_loss(_as_texts(logits), teacher, labels, beta=0.0)

    def divergence(logits: Tensor) -> Tensor:
        given = _as_texts(logits), teacher, identity, identity, KEPT
        return _chunked_divergence_loss(*given, beta=0.0, temperature=T)[0]

    yield Case("GKDTrainer, beta 0", gkd, {"where": KEPT, "temperature": 1.0})
    yield Case("DistillationTrainer, beta 0", divergence, {"where": KEPT}, 1 / T**2)


def modelopt() -> Iterator[Case]:
    """Its criterion, as the class is made and as its trainer for language models makes it."""
    from modelopt.torch.distill import LogitsDistillationLoss

    def loss(*reduction: str) -> Callable[[Tensor], Tensor]:
        return lambda logits: LogitsDistillationLoss(T, *reduction)(logits, TEACHER)

    yield Case("as it is made", loss(), {}, 1 / CLASSES)
    yield Case('reduction "batchmean"', loss("batchmean"), {})
    each = LogitsDistillationLoss(T, "none")
    yield Case('"none", KDTrainer', lambda z: each(_as_texts(z), _as_texts(TEACHER))[KEPT].mean(), {"where": KEPT})


def keras() -> Iterator[Case]:
    """Its `LogitsDistillation`, alone and in its `Distiller`, on torch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    def loss(**options: Any) -> Callable[[Tensor], Tensor]:
        of = keras.distillation.LogitsDistillation(temperature=T, **options)
        return lambda logits: of.compute_loss(TEACHER, logits)

    inputs = keras.Input((CLASSES,))
    models = {name: keras.Model(inputs, keras.layers.Identity()(inputs)) for name in ("teacher", "student")}
    repaired = keras.distillation.LogitsDistillation(temperature=T, loss=keras.losses.KLDivergence())
    whole = keras.distillation.Distiller(**models, distillation_losses=repaired, student_loss_weight=0.3)
    whole.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    yield Case("as it is made", loss(), {}, None)
    yield Case("loss KLDivergence()", loss(loss=keras.losses.KLDivergence()), {})
    both = {"soft_weight": 0.7, "hard_weight": 0.3}
    yield Case("Distiller, student 0.3", lambda z: whole.compute_loss(TEACHER, LABELS, z), both)


def repdistiller() -> Iterator[Case]:
    """No package: `distiller_zoo/KD.py` and `helper/loops.py` of HobbitLong/RepDistiller, as equations."""

    def loss(logits: Tensor) -> Tensor:
        p = torch.softmax(TEACHER / T, 1)
        divergence = (p * (p.log() - torch.log_softmax(logits / T, 1))).sum() * T**2 / len(logits)
        return 0.1 * F.cross_entropy(logits, LABELS) + 0.9 * divergence

    yield Case("-r 0.1 -a 0.9", loss, {"soft_weight": 0.9, "hard_weight": 0.1})


LIBRARIES = {
    "torchdistill": torchdistill,
    "timm": timm,
    "trl": trl,
    "nvidia-modelopt": modelopt,
    "keras": keras,
    "RepDistiller": repdistiller,
}


def _as_texts(values: Tensor) -> Tensor:
    return values.unflatten(0, (-1, LENGTH))


def _our_loss(logits: Tensor, *, where: Tensor | None = None, temperature: float = T, **weights: float) -> Tensor:
    targets = soft_targets(TEACHER, temperature)
    mask = None if where is None else where.flatten()
    return distillation_loss(logits, targets, LABELS, where=mask, **weights).total


def _gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
    logits = STUDENT.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


def _compare(library: str, case: Case) -> None:
    theirs, ours = _gradient(case.theirs), _gradient(lambda logits: _our_loss(logits, **case.ours))
    ratio = float((theirs * ours).sum() / ours.square().sum())
    fits = bool((theirs - ratio * ours).abs().max() < 1e-5 * theirs.abs().max())
    said = f"{ratio:.4g}" if fits else "none: another loss"
    here = (
        ", ".join(f"{name} {value:g}" for name, value in case.ours.items() if name != "where") or "soft_weight 1"
    )
    print(f"{library:22} {case.setting:30} {here:34} factor {said}", flush=True)
    as_documented = fits and math.isclose(ratio, case.factor, rel_tol=1e-5) if case.factor else not fits
    if not as_documented:
        raise SystemExit(f"{library}, {case.setting}: docs/methods/coming-from.md says {case.factor}")


def main() -> None:
    """Print a line for each setting."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # of versions that they were not tried with
    print(f"gradient of their loss / gradient of ours, at T = {T:g}, {CLASSES} classes")
    for library, cases in LIBRARIES.items():
        name = library if library == "RepDistiller" else f"{library} {version(library)}"
        for case in cases():
            _compare(name, case)


if __name__ == "__main__":
    main()
