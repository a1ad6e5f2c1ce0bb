"""The training loop, and the only one: a teacher, a student, a transfer net or a specialist is fitted here.

What a step computes depends on nothing but its place: the order of the data on (seed, epoch), dropout on
(seed, step), views on (view_seed, example, view). So a fit that was killed goes on from its checkpoint and ends
with the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from instar import metrics
from instar.data import Dataset, as_dataset, batches, id_batches, shuffled
from instar.errors import TrainingError, UsageError
from instar.evaluation import predict_logits
from instar.losses import DistillationLoss, SoftTargets, distillation_loss
from instar.optimisation import (
    decide_precision,
    learning_rate_factor,
    limit_norms_,
    limited_weights,
    make_optimiser,
)
from instar.runs import Run

Targets = Callable[[Tensor, Tensor | int], SoftTargets]
"""Soft targets for (ids, views): a live teacher, an ensemble or a store."""


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves: the trained network and what was measured after each epoch."""

    network: nn.Module
    metrics: list[dict[str, Any]]
    num_steps: int
    best_epoch: int | None = None


def fit(
    network: nn.Module,
    data: Dataset | tuple[Tensor, Tensor],
    *,
    epochs: int,
    targets: Targets | None = None,
    soft_weight: float | None = None,
    hard_weight: float | None = None,
    validation: Dataset | tuple[Tensor, Tensor] | None = None,
    batch_size: int = 128,
    optimiser: str = "sgd",
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup_epochs: float = 0.0,
    gradient_clip: float | None = None,
    max_norm: float | None = None,
    ema_decay: float | None = None,
    patience: int | None = None,
    precision: str = "auto",
    device: str | torch.device = "cpu",
    seed: int = 0,
    run: Run | None = None,
    checkpoint_seconds: float = 15.0,
    progress: Callable[[float, dict[str, Any]], None] | None = None,
) -> FitResult:
    """Fit a network, in place: total = soft_weight T^2 H(p_T, q_T) + hard_weight H(label, q_1).

    Inside an initialised `torch.distributed` group each process takes its share of every batch.

    Args:
        network: its parameters that require a gradient are trained; the others get neither weight decay nor
            optimiser state.
        data: training examples, a `Dataset` or (inputs, labels).
        epochs: passes over the data; epoch e (from 0) sees view e.
        targets: soft targets for (ids, views); None fits the labels alone.
        soft_weight, hard_weight: weights of the two terms; 1 and 0 with targets, 0 and 1 without.
        validation: looked at after each epoch; needed for `patience`.
        optimiser: `sgd` (with momentum) or `adamw`.
        learning_rate: after the warm-up; `schedule` lowers it.
        schedule: `cosine` to 0, `constant`, or `step:E1,E2,...` (a tenth from each of those epochs on).
        warmup_epochs: linear rise of the learning rate at the start.
        gradient_clip: largest norm of the whole gradient.
        max_norm: largest norm of the incoming weights of each unit, all layers but the last.
        ema_decay: end with the exponential moving average of the weights.
        patience: stop after so many epochs without fewer validation errors, and go back to the best.
        precision: `float32`, `bfloat16` or `auto` (see `decide_precision`).
        seed: order of the data and dropout.
        run: run directory for metrics and checkpoints, resumed from; None keeps all in memory.
        checkpoint_seconds: how much work a kill may cost.
        progress: called with (fraction done, latest metrics) now and then.

    Returns:
        The network, the metrics of each epoch and the number of steps.

    Raises:
        UsageError: an argument is out of its range.
        TrainingError: a guard of the first step speaks, or the loss is no longer finite.

    Example:
        >>> inputs = torch.tensor([[0.0], [1.0]]).repeat(8, 1); labels = torch.tensor([0, 1]).repeat(8)
        >>> result = fit(nn.Sequential(nn.Linear(1, 2)), (inputs, labels), epochs=20, learning_rate=1.0)
        >>> result.metrics[-1]["train_errors"]
        0
    """
    data = as_dataset(data)
    _check_arguments(epochs, batch_size, learning_rate, momentum, weight_decay, warmup_epochs, ema_decay)
    if patience is not None and validation is None:
        raise UsageError("patience (early stop) needs validation data")
    device = _own_device(torch.device(device))
    network.to(device)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise UsageError("the network has no parameter that requires a gradient: nothing to fit")
    _check_targets(network, data, targets)
    has_targets = targets is not None
    loop = _Loop(
        network=network,
        data=data.to(device),
        validation=None if validation is None else as_dataset(validation).to(device),
        targets=targets,
        soft_weight=float(has_targets) if soft_weight is None else soft_weight,
        hard_weight=float(not has_targets) if hard_weight is None else hard_weight,
        optimiser=make_optimiser(optimiser, parameters, learning_rate, momentum, weight_decay),
        factor=learning_rate_factor(schedule, epochs, warmup_epochs),
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        gradient_clip=gradient_clip,
        limited=limited_weights(network) if max_norm is not None else [],
        max_norm=max_norm,
        ema_decay=ema_decay,
        patience=patience,
        bfloat16=decide_precision(precision, network, device) == "bfloat16",
        device=device,
        seed=seed,
        run=run,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress or (run.report_progress if run is not None else None),
    )
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout reseeds the global state at each step
        return loop.run_to_the_end()


def _check_arguments(
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    warmup_epochs: float,
    ema_decay: float | None,
) -> None:
    ranges = (
        ("epochs", epochs, epochs >= 1, "at least 1"),
        ("batch_size", batch_size, batch_size >= 1, "at least 1"),
        ("learning_rate", learning_rate, 0 < learning_rate < math.inf, "positive"),
        ("momentum", momentum, 0 <= momentum < 1, "in [0, 1)"),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "not negative"),
        ("warmup_epochs", warmup_epochs, 0 <= warmup_epochs < epochs, "in [0, epochs)"),
        ("ema_decay", ema_decay, ema_decay is None or 0 < ema_decay < 1, "in (0, 1)"),
    )
    for name, value, is_right, expected in ranges:
        if not is_right:
            raise UsageError(f"{name} is {value}, expected {expected}")


def _check_targets(network: nn.Module, data: Dataset, targets: Targets | None) -> None:
    """The mistakes that a loss curve does not show: each of them looks like training."""
    own = {parameter.data_ptr(): name for name, parameter in network.named_parameters()}
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


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


@dataclass
class _Loop:
    """The state of one fit: where it is, and what a checkpoint must hold to go on from there."""

    network: nn.Module
    data: Dataset
    validation: Dataset | None
    targets: Targets | None
    soft_weight: float
    hard_weight: float
    optimiser: torch.optim.Optimizer
    factor: Callable[[float], float]
    learning_rate: float
    epochs: int
    batch_size: int
    gradient_clip: float | None
    limited: list[Tensor]
    max_norm: float | None
    ema_decay: float | None
    patience: int | None
    bfloat16: bool
    device: torch.device
    seed: int
    run: Run | None
    checkpoint_seconds: float
    progress: Callable[[float, dict[str, Any]], None] | None

    epoch: int = 0
    step: int = 0  # of the whole fit
    batch: int = 0  # of this epoch
    best_epoch: int | None = None
    best_errors: int | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)  # total, soft, hard, errors
        self.rank, self.world = _ranks()
        self.forward = _distributed(self.network) if self.world > 1 else self.network
        self.dropout = any(isinstance(m, nn.modules.dropout._DropoutNd) for m in self.network.modules())
        self.num_labelled = self._num_labelled(self.data.ids)
        self.all_labelled = self.num_labelled == len(self.data)
        if self.ema_decay is not None:
            self.average = {name: value.detach().clone() for name, value in self._averaged()}

    def run_to_the_end(self) -> FitResult:
        self._restore()
        self._saved = self._told = time.monotonic()
        self._began = self._saved - self.seconds
        try:
            while self.epoch < self.epochs and not self._is_out_of_patience():
                self._run_epoch()
        except KeyboardInterrupt:
            self._save()
            raise
        return self._end()

    def _elapsed(self) -> float:
        """Seconds of this fit, those before it was cut off included."""
        return time.monotonic() - self._began

    def _run_epoch(self) -> None:
        self.network.train()
        order = shuffled(self.data.ids, seed=self.seed, epoch=self.epoch)
        whole = id_batches(order, self.batch_size)
        num_batches = len(whole)
        mine = [ids[self.rank :: self.world] for ids in whole[self.batch :]]
        for ids, inputs, labels in batches(self.data, mine, view=self.epoch):
            self._step(ids, inputs, labels, whole[self.batch], self.epoch + self.batch / num_batches)
            self.step += 1
            self.batch += 1
            now = time.monotonic()
            if now - self._told >= 0.5:
                self._told = now
                self._tell((self.epoch + self.batch / num_batches) / self.epochs)
            if now - self._saved >= self.checkpoint_seconds:
                self._save()
        self._end_epoch()

    def _step(self, ids: Tensor, inputs: Tensor, labels: Tensor, whole: Tensor, time_epochs: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * self.factor(time_epochs)
        targets = None if self.targets is None else self.targets(ids, self.epoch)
        if self.dropout:
            torch.manual_seed((self.seed * 1_000_003 + self.step) * 64 + self.rank)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.forward(inputs)
        loss = self._loss(logits, targets, labels, whole)
        loss.total.backward()  # type: ignore[no-untyped-call]
        if self.step == 0:
            self._check_first_step(loss)
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.max_norm is not None:
            limit_norms_(self.limited, self.max_norm)
        for name, value in self._averaged() if self.average else ():
            self.average[name].lerp_(value, 1 - (self.ema_decay or 0.0))
        self._add_up(loss, logits, labels, whole)

    @torch.no_grad()
    def _add_up(self, loss: DistillationLoss, logits: Tensor, labels: Tensor, whole: Tensor) -> None:
        """Sums for the epoch's means: each term over the examples that it was taken over."""
        share = len(whole) / self.world
        self.sums[0] += loss.total * share
        self.sums[1] += loss.soft * share
        self.sums[2] += loss.hard * (share if self.all_labelled else self._num_labelled(whole) / self.world)
        self.sums[3] += metrics.errors(logits, labels)

    def _num_labelled(self, ids: Tensor) -> int:
        return int((self.data.labels(ids) >= 0).sum())

    def _loss(
        self, logits: Tensor, targets: SoftTargets | None, labels: Tensor, whole: Tensor
    ) -> DistillationLoss:
        # With several processes the means are over the whole batch, of which this one has a part.
        loss = distillation_loss(
            logits,
            targets,
            labels,
            soft_weight=self.soft_weight,
            hard_weight=self.hard_weight,
            num_soft=None if self.world == 1 else len(whole),
            num_hard=None if self.world == 1 else self._num_labelled(whole),
        )
        # Their gradients are averaged, so each gives its part as many times as there are processes.
        return loss if self.world == 1 else DistillationLoss(*(self.world * part for part in loss))

    def _check_first_step(self, loss: DistillationLoss) -> None:
        total = loss.total.item()
        if not math.isfinite(total):
            raise TrainingError(f"the loss of the first step is {total}: look at the data and the learning rate")
        if total == 0:
            raise TrainingError("the loss of the first step is exactly 0: nothing to learn from (weights, masks?)")
        gradients = [p.grad for p in self.network.parameters() if p.requires_grad and p.grad is not None]
        if not any(bool(gradient.any()) for gradient in gradients):
            raise TrainingError("the network gets no gradient: its logits do not depend on what is trained")

    def _end_epoch(self) -> None:
        self.epoch, self.batch = self.epoch + 1, 0
        if self.world > 1:
            torch.distributed.all_reduce(self.sums)
        total, soft, hard, errors = self.sums.tolist()
        self.sums.zero_()
        if not math.isfinite(total):
            raise TrainingError(f"the loss is {total} in epoch {self.epoch}: lower the learning rate")
        count = len(self.data)
        line = {"epoch": self.epoch, "step": self.step, "train_loss": total / count, "train_errors": int(errors)}
        if self.targets is not None:
            line |= {"train_soft_loss": soft / count, "train_hard_loss": hard / max(self.num_labelled, 1)}
        if self.validation is not None:
            line |= self._validate(self.validation)
        self.history.append(line)
        if self.run is not None and self.rank == 0:
            self.run.log_metrics({**line, "seconds": round(self._elapsed(), 3)})

    def _validate(self, validation: Dataset) -> dict[str, Any]:
        kept = self._swap_in(self.average)
        logits = predict_logits(self.network, validation, device=self.device)
        labels = validation.labels(validation.ids)
        errors = int(metrics.errors(logits, labels))
        if self.patience is not None and (self.best_errors is None or errors < self.best_errors):
            self.best_errors, self.best_epoch = errors, self.epoch
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        self._swap_in(kept)
        loss = float(metrics.negative_log_likelihood(logits, labels))
        return {"validation_errors": errors, "validation_nll": loss}

    def _is_out_of_patience(self) -> bool:
        return (
            self.patience is not None
            and self.best_epoch is not None
            and self.epoch - self.best_epoch >= self.patience
        )

    def _averaged(self) -> list[tuple[str, Tensor]]:
        state = self.network.state_dict()
        return [(name, value) for name, value in state.items() if value.is_floating_point()]

    def _swap_in(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put values into the network, and give back what they replaced."""
        state = self.network.state_dict()
        kept = {name: state[name].clone() for name in values}
        for name, value in values.items():
            state[name].copy_(value)
        return kept

    def _tell(self, fraction: float) -> None:
        if not math.isfinite(float(self.sums[0])):
            raise TrainingError(f"the loss is not finite in epoch {self.epoch + 1}: lower the learning rate")
        if self.progress is not None and self.rank == 0:
            self.progress(fraction, self.history[-1] if self.history else {})

    def _save(self) -> None:
        if self.run is None or self.rank > 0:
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors["sums"] = self.sums
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": v for key, v in state.items() if v is not None}
        kept = ("epoch", "step", "batch", "best_epoch", "best_errors")
        self.seconds = self._elapsed()
        self.run.save_checkpoint(tensors, {**{key: getattr(self, key) for key in kept}, "seconds": self.seconds})
        self._saved = time.monotonic()

    def _restore(self) -> None:
        loaded = self.run.load_checkpoint() if self.run is not None else None
        if self.world > 1:
            torch.distributed.barrier()  # nobody saves a new checkpoint before all have read the old one
        if self.run is None or loaded is None:
            return
        tensors, state = loaded
        for key in ("epoch", "step", "batch", "best_epoch", "best_errors", "seconds"):
            setattr(self, key, state[key])
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}, "optimiser": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = value.to(self.device)
        self.network.load_state_dict(parts["network"])
        self.average, self.best = parts["average"], parts["best"]
        self.sums.copy_(tensors["sums"])
        optimiser: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, _, key = name.partition(".")
            optimiser.setdefault(int(index), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": optimiser, "param_groups": groups})
        self.history = [
            {key: value for key, value in line.items() if key != "seconds"} for line in self.run.metrics()
        ]
        self.run.log(f"goes on from epoch {self.epoch}, step {self.step}")

    def _end(self) -> FitResult:
        self._swap_in(self.best or self.average)
        if self.run is not None and self.rank == 0:
            about = {"epochs": self.epoch, "steps": self.step, "seconds": round(self._elapsed(), 3)}
            self.run.save_weights(self.network.state_dict(), about)
        self.network.eval()
        return FitResult(self.network, self.history, self.step, self.best_epoch)


def _ranks() -> tuple[int, int]:
    """This process's number and how many share the fit."""
    distributed: Any = torch.distributed  # some builds of torch have nothing in it
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _own_device(device: torch.device) -> torch.device:
    """With several processes on a machine with GPUs, each has its own."""
    rank, world = _ranks()
    if device.type == "cuda" and device.index is None and world > 1:
        return torch.device("cuda", rank % torch.cuda.device_count())
    return device


def _distributed(network: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(network)
