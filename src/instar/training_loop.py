"""The one training loop: it fits teachers, students, transfer networks and specialists.

A step is a pure function of its position: the order of the data depends on (seed, epoch), dropout on (seed, step),
views on (view_seed, example, view). So a fit that was killed resumes from its checkpoint and ends with the same
bits as an uninterrupted one.
"""

import inspect
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from instar import intervals
from instar.checkpoints import by_kind, fit_tensors, load_modules_, load_optimiser_
from instar.data import Dataset, batches, id_batches
from instar.data.hashing import key_of
from instar.errors import TrainingError, UsageError
from instar.evaluation import commonest, errors_and_nll, why_not_learned
from instar.fit_options import FitOptions, FitResult
from instar.fit_processes import distributed, generators, ranks
from instar.fused_head import fused_loss, opened, wide_head
from instar.guards import check_first_step, check_logits, count_labelled
from instar.interruption import Interruption
from instar.losses import AnyTargets, DistillationLoss, distillation_loss
from instar.networks import (
    as_logits,
    call,
    casting,
    copied,
    extra_state_of,
    fails_on_one,
    input_type,
    tensors_of,
)
from instar.optimisation import limit_norms_, limited_weights
from instar.positions import at, is_sequence, positions, rows_of_logits
from instar.runs import Run
from instar.soft_losses import check_soft_loss, named_soft_loss, weighted_loss
from instar.structures import Inputs, in_type
from instar.tally import Tally, epoch_means

_POSITION = ("epoch", "step", "batch", "best_epoch", "best_errors", "sums", "seconds")  # saved in a checkpoint


@dataclass
class Loop:
    """The state of one fit: its position, and all that a checkpoint needs to resume from there."""

    called: nn.Module
    """what runs: the network, compiled or not"""
    network: nn.Module
    data: Dataset
    validation: Dataset | None
    options: FitOptions
    optimiser: torch.optim.Optimizer
    factor: Callable[[float], float]
    precision: str
    device: torch.device

    epoch: int = 0
    step: int = 0  # counted over the whole fit
    batch: int = 0  # within this epoch
    best_epoch: int | None = None
    best_errors: int | None = None
    seconds: float = 0.0
    sums: list[float] = field(default_factory=list)  # of this epoch, at the last checkpoint
    tally: Tally = field(default_factory=Tally)
    history: list[dict[str, Any]] = field(default_factory=list)
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rank, self.world = ranks()
        self.run, self.targets = self.options.run, self.options.targets
        self.soft_weight, self.hard_weight = self.options.weights
        self.progress = self.options.progress or (self.run.report_progress if self.run is not None else None)
        self.limited = limited_weights(self.network) if self.options.max_norm is not None else []
        self.forward = distributed(self.called) if self.world > 1 else self.called
        self.input_type = input_type(self.network)
        self.needs_two: bool | None = None  # not known yet
        # Without what torch wraps around it for its profiler and its compiler: a tenth of a small network's step.
        self.update = inspect.unwrap(type(self.optimiser).step)
        num_labelled = count_labelled(self.data, self.validation, self.soft_weight)
        self.is_sequential = is_sequence(self.data.labels(self.data.ids[:1]))
        self.all_labelled = num_labelled == self.data.num_rows(self.data.ids)
        if self.is_sequential and (self.world > 1 or self.options.auxiliary is not None):
            raise UsageError(
                "sequences of tokens: expected one process for each fit, and no auxiliary loss (hints)"
            )
        if self.options.auxiliary is not None and self.world > 1:
            raise UsageError("auxiliary (hints): expected one process for each fit, found several")
        self.soft_loss = named_soft_loss(self.options.soft_loss)
        check_soft_loss(
            self.options.soft_loss,
            has_targets=self.targets is not None,
            num_unlabelled=len(self.data) - num_labelled,
            num_processes=self.world,
        )
        self.is_new, self.is_checked = True, False
        self.head = self._wide_head()
        self.generators = generators(self.device)
        self.parameters = [value for group in self.optimiser.param_groups for value in group["params"]]
        self._clear_gradients()  # the caller may have run a backward pass
        state = tensors_of(self.network.state_dict())
        self.live = {name: value for name, value in state.items() if value.is_floating_point()}
        if self.options.ema_decay is not None:
            self.average = {name: value.clone() for name, value in self.live.items()}

    def _wide_head(self) -> nn.Linear | None:
        """The head that is computed together with the loss, where that pays."""
        is_plain = self.soft_loss is None and self.options.auxiliary is None and self.called is self.network
        if self.world > 1 or self.precision == "bfloat16" or not is_plain or self.data.label_probs is not None:
            return None
        examples = self.data.gather(self.data.ids[:2], 0)
        length = self.data.num_rows(self.data.ids[:1]) if self.is_sequential else None
        size = self.options.batch_size
        return wide_head(self.network, examples, self.data.num_classes, batch_size=size, num_positions=length)

    def run_to_the_end(self) -> FitResult:
        """Go on from the latest checkpoint, if there is one, to the end."""
        self._restore()
        self._saved = self._reported = time.monotonic()
        self._began = self._saved - self.seconds
        with Interruption() as interruption:
            while self.epoch < self.options.epochs and not self._is_out_of_patience():
                self._run_epoch(interruption)
            return self._end()

    def _elapsed(self) -> float:
        """Seconds spent on this fit, those before it was interrupted included."""
        return time.monotonic() - self._began

    def _run_epoch(self, interruption: Interruption) -> None:
        self.network.train()
        order = self.options.sampler(self.data.ids, seed=self.options.seed, epoch=self.epoch)
        whole = self._in_batches(order)
        num_batches = len(whole)
        mine = whole[self.batch :]
        if self.world > 1:
            mine = [ids[self.rank :: self.world] for ids in mine]
        for ids, inputs, labels in batches(self.data, mine, view=self.epoch):
            self._step(ids, inputs, labels, whole[self.batch], self.epoch + self.batch / num_batches)
            self.step += 1
            self.batch += 1
            now = time.monotonic()
            if now - self._reported >= 0.5:
                self._reported = now
                self._report((self.epoch + self.batch / num_batches) / self.options.epochs)
            if interruption.is_waiting or now - self._saved >= self.options.checkpoint_seconds:
                self._save()
                interruption.deliver()
        self._end_epoch(order)

    def _in_batches(self, order: Tensor) -> list[Tensor]:
        """The ids of an epoch in batches; a last one too small to normalise over joins the one before it."""
        whole, least = id_batches(order, self.options.batch_size), 2 * self.world
        if len(whole[-1]) < least and self._needs_two():
            if len(whole) == 1 or self.options.batch_size < least:
                raise UsageError(
                    f"a batch is {len(whole[0])} of {len(order)} examples: the network normalises over the batch, "
                    f"for which each process needs two; set batch_size to {least} or more"
                )
            whole[-2:] = [torch.cat(whole[-2:])]
        return whole

    def _needs_two(self) -> bool:
        if self.needs_two is None:
            self.needs_two = fails_on_one(self.network, self.data.gather(self.data.ids[:1], 0))
        return self.needs_two

    def _step(self, ids: Tensor, inputs: Inputs, labels: Tensor, whole: Tensor, time_epochs: float) -> None:
        """One step on this process's share of a batch. `whole` holds the ids of the batch of all processes."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * self.options.learning_rate * self.factor(time_epochs)
        where = positions(inputs, labels)
        labels = at(labels, where)
        targets = at(None if self.targets is None else self.targets(ids, self.epoch), where)
        num_soft = len(whole) if where is None else len(labels)
        self._seed_dropout()
        num_hard = num_soft if self.all_labelled else self._num_hard(labels, whole)
        with casting(self.precision, self.device), nullcontext() if self.head is None else opened(self.head):
            output = call(self.forward, in_type(inputs, self.input_type))
        found = as_logits(output, self.network)
        if self.head is None:
            answers = rows_of_logits(found, where, len(ids), self.data.num_classes)
            if not self.is_checked:
                check_logits(answers)
            loss = self._loss(ids, answers, targets, labels, num_soft, num_hard)
        else:
            weights = {"soft_weight": self.soft_weight, "hard_weight": self.hard_weight}
            hidden = at(found, where).reshape(num_soft, -1)
            loss, answers = fused_loss(self.head, hidden, targets, labels, num_hard=num_hard, **weights)
        if self.options.auxiliary is not None:
            with casting(self.precision, self.device):
                loss = loss._replace(total=loss.total + self.options.auxiliary(inputs))
        # The processes' gradients are averaged, so each gives its part as many times as there are processes.
        (loss.total if self.world == 1 else self.world * loss.total).backward()  # type: ignore[no-untyped-call]
        if not self.is_checked and (self.soft_weight or bool((labels >= 0).any())):
            self.is_checked = True
            if self.is_new:  # after resuming, a loss of 0 may be the result of training
                check_first_step((value.grad for value in self.network.parameters()), loss.total.item())
        if self.options.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.options.gradient_clip)
        with torch.no_grad():
            self.update(self.optimiser)
        self._clear_gradients()
        if self.options.max_norm is not None:
            limit_norms_(self.limited, self.options.max_norm)
        if self.options.ema_decay is not None:
            torch._foreach_lerp_(list(self.average.values()), list(self.live.values()), 1 - self.options.ema_decay)
        self.tally.add(loss, answers, labels, num_soft, num_hard)

    def _clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _seed_dropout(self) -> None:
        seed = (
            key_of("dropout", self.options.seed, self.step, self.rank) & 2**63 - 1
        )  # torch is slow with negative seeds
        for generator in self.generators:
            generator.manual_seed(seed)

    def _num_hard(self, labels: Tensor, whole: Tensor) -> int:
        """The number of examples with a label in the batch of all processes."""
        return int(((labels if self.world == 1 else self.data.labels(whole)) >= 0).sum())

    def _loss(
        self,
        ids: Tensor,
        logits: Tensor,
        targets: AnyTargets | None,
        labels: Tensor,
        num_soft: int,
        num_hard: int,
    ) -> DistillationLoss:
        """The loss, whose terms are means over the batch of all processes."""
        weights: dict[str, Any] = {"soft_weight": self.soft_weight, "hard_weight": self.hard_weight}
        probs = None if self.data.label_probs is None else self.data.label_targets(ids)
        if self.soft_loss is not None:
            return weighted_loss(self.soft_loss, logits, targets, labels, label_probs=probs, **weights)
        known = labels if probs is None else probs
        return distillation_loss(logits, targets, known, num_soft=num_soft, num_hard=num_hard, **weights)

    def _end_epoch(self, order: Tensor) -> None:
        self.epoch, self.batch = self.epoch + 1, 0
        sums = self._finite_sums()
        if self.world > 1:
            total = torch.tensor(sums, dtype=torch.float64, device=self.device)
            torch.distributed.all_reduce(total)
            sums = total.tolist()
        self.tally = Tally()
        line: dict[str, Any] = {"epoch": self.epoch, "step": self.step}
        num_rows = self.data.num_rows(order)
        num_labelled = num_rows if self.all_labelled else int((self.data.labels(order) >= 0).sum())
        line |= epoch_means(sums, num_rows, num_labelled, has_targets=self.targets is not None)
        if self.validation is not None:
            line |= self._validate(self.validation)
        self.history.append(line)
        if self.run is not None and self.rank == 0:
            self.run.log_metrics({**line, "seconds": round(self._elapsed(), 3)})

    def _validate(self, validation: Dataset) -> dict[str, Any]:
        kept = self._swap_in(self.average)
        errors, loss = errors_and_nll(self.called, validation, device=self.device) if self.rank == 0 else (0, 0.0)
        if self.world > 1:  # the statistics of normalisation differ among processes: the first decides for all
            both = torch.tensor([errors, loss], dtype=torch.float64, device=self.device)
            torch.distributed.broadcast(both, 0)
            errors, loss = int(both[0]), float(both[1])
        if not math.isfinite(loss):
            raise TrainingError(f"the validation loss is {loss} in epoch {self.epoch}: lower the learning rate")
        if self.options.patience is not None and (self.best_errors is None or errors < self.best_errors):
            self.best_errors, self.best_epoch = errors, self.epoch
            self.best = {name: copied(value) for name, value in self.network.state_dict().items()}
        self._swap_in(kept)
        return {"validation_errors": errors, "validation_nll": loss}

    def _is_out_of_patience(self) -> bool:
        return (
            self.options.patience is not None
            and self.best_epoch is not None
            and self.epoch - self.best_epoch >= self.options.patience
        )

    def _swap_in(self, values: dict[str, Any]) -> dict[str, Any]:
        """Load values into the network, and return those that they replaced."""
        if not values:
            return {}
        state = self.network.state_dict()
        kept = {name: copied(state[name]) for name in values}
        for name, value in tensors_of(values).items():
            state[name].copy_(value)
        if extra := extra_state_of(values):
            self.network.load_state_dict(extra, strict=False)
        return kept

    def _report(self, fraction: float) -> None:
        self._finite_sums()
        if self.progress is not None and self.rank == 0:
            self.progress(fraction, self.history[-1] if self.history else {})

    def _finite_sums(self) -> list[float]:
        sums = self.tally.sums()
        if not math.isfinite(sums[0]):
            raise TrainingError(f"the loss is no longer finite at step {self.step}: lower the learning rate")
        return sums

    def _save(self) -> None:
        if self.run is None or self.rank > 0:
            return
        self.sums = self._finite_sums()  # no checkpoint of a fit that has diverged
        modules = self.network, self.options.auxiliary
        tensors = fit_tensors(*modules, self.optimiser, self.parameters, average=self.average, best=self.best)
        self.seconds = self._elapsed()
        self.run.save_checkpoint(tensors, {key: getattr(self, key) for key in _POSITION})
        self._saved = time.monotonic()

    def _restore(self) -> None:
        if self.run is not None:
            loaded = self.run.load_checkpoint()
            if loaded is not None:
                self._resume(self.run, *loaded)
        if self.world > 1:
            torch.distributed.barrier()  # no process writes before all have read

    def _resume(self, run: Run, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        parts = by_kind(tensors, self.device)
        load_modules_(parts, self.network, self.options.auxiliary, f"the checkpoint in {run.path}")
        self.average = {name: parts["average"][name] for name in self.average}
        self.best = parts["best"]
        load_optimiser_(parts["optimiser"], self.optimiser, self.parameters)
        for key in _POSITION:
            setattr(self, key, state[key])
        self.tally = Tally(self.sums)
        self.is_new = False
        self.history = [{key: line[key] for key in line if key != "seconds"} for line in run.metrics()]
        if self.rank == 0:
            run.log(f"resumed from epoch {self.epoch}, step {self.step}")

    def _end(self) -> FitResult:
        self._swap_in(self.best or self.average)
        result = FitResult(self.called, self.history, self.step, self.best_epoch)
        if self.run is not None and self.rank == 0:
            self.run.save_weights(self.network.state_dict(), result.about)
        reason = self._why_not_learned()
        if reason and self.run is not None and self.rank == 0:
            self.run.log(f"failed to learn: {reason}")
        self.network.eval()
        return replace(result, failed_to_learn=reason)

    def _why_not_learned(self) -> str:
        """By the training errors of the epoch whose weights are kept; where they do not show it, by the network.

        They are counted while the weights change, with dropout and views, before any moving average.
        """
        line = self.history[(self.best_epoch or self.epoch) - 1]
        order = self.options.sampler(self.data.ids, seed=self.options.seed, epoch=line["epoch"] - 1)
        labels = self.data.labels(order).flatten()
        num_labelled = int((labels >= 0).sum())
        if num_labelled and not self.average:
            num_right = num_labelled - line["train_errors"]
            if intervals.is_above_chance(num_right, num_labelled, commonest(labels)):
                return ""
        return why_not_learned(self.called, self.data, order, targets=self.targets, device=self.device)
