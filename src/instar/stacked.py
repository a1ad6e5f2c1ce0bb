"""The training loop for K equal small networks at once: what `training.fit` does to each of them alone.

A step of a small network is mostly the cost of starting its operations. Here one product computes a layer of all
K, and each member keeps what is its own: initialisation, order of the data, soft targets, learning rate.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, as_dataset, batches, shuffled
from instar.errors import RunError, TrainingError, UsageError
from instar.evaluation import errors_and_nll
from instar.guards import check_arguments, check_first_step, check_logits, check_targets, count_labelled
from instar.interruption import Interruption
from instar.losses import DistillationLoss, LogitTargets, SoftTargets, distillation_loss
from instar.networks import NetworkStack
from instar.optimisation import learning_rate_factor, make_optimiser
from instar.runs import Run
from instar.stacked_loss import stacked_distillation_loss
from instar.tally import Tally, epoch_means
from instar.training import FitResult, Targets


def fit_stacked(
    networks: Sequence[nn.Module],
    data: Dataset | tuple[Tensor, Tensor],
    *,
    epochs: int,
    seeds: Sequence[int],
    targets: Sequence[Targets] | None = None,
    soft_weight: float | None = None,
    hard_weight: float | None = None,
    validation: Dataset | tuple[Tensor, Tensor] | None = None,
    batch_size: int = 128,
    learning_rate: float | Sequence[float] = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup_epochs: float = 0.0,
    device: str | torch.device = "cpu",
    run: Run | None = None,
    member_runs: Sequence[Run] | None = None,
    checkpoint_seconds: float = 15.0,
    progress: Callable[[float, dict[str, Any]], None] | None = None,
) -> list[FitResult]:
    """Fit K networks of one architecture together, in place: each as `fit` would alone, in float32 with SGD.

    total_k = soft_weight T_k^2 H(p_k, q_k) + hard_weight H(label, q_k)

    What is no argument here (dropout, normalisation, limits on norms, averages, early stop, bfloat16) needs `fit`.
    One member whose loss is not finite ends the fit of all.

    Args:
        networks: K of them, `nn.Sequential` of Linear, ReLU and Flatten, initialised.
        data: training examples in memory; epoch e (from 0) sees view e.
        epochs: passes over the data.
        seeds: of each member's order of the data.
        targets: soft targets of each member, of any teacher and temperature; None fits the labels alone.
        soft_weight, hard_weight: weights of the two terms, of all; 1 and 0 with targets, 0 and 1 without.
        validation: looked at after each epoch.
        learning_rate: after the warm-up; one for all, or one for each.
        schedule, warmup_epochs: as in `fit`.
        run: run directory of the stack, for its checkpoint; resumed from. None keeps all in memory.
        member_runs: run directories of the members: at the end of the fit each gets the metrics and the weights
            that `fit` would leave there. Those that are done are left alone.
        checkpoint_seconds: how much work a kill may cost.
        progress: called with (fraction done, latest metrics of the first member) now and then.

    Returns:
        For each member what `fit` returns.

    Raises:
        UsageError: the networks cannot be stacked, or an argument is out of its range or does not fit.
        TrainingError: as in `fit`.
        RunError: the run is done, or its checkpoint is damaged or of another stack.

    Example:
        >>> inputs = torch.tensor([[0.0], [1.0]]).repeat(8, 1); labels = torch.tensor([0, 1]).repeat(8)
        >>> networks = [nn.Sequential(nn.Linear(1, 2)) for _ in range(3)]
        >>> results = fit_stacked(networks, (inputs, labels), epochs=20, learning_rate=1.0, seeds=range(3))
        >>> [result.metrics[-1]["train_errors"] for result in results]
        [0, 0, 0]
    """
    data = as_dataset(data)
    rates = [learning_rate] * len(networks) if isinstance(learning_rate, (int, float)) else list(learning_rate)
    _check_lengths(networks, seeds=seeds, targets=targets, learning_rate=rates, member_runs=member_runs)
    _check_fit(networks, data, targets, epochs, batch_size, rates, momentum, weight_decay, run)
    device = torch.device(device)
    has_targets = targets is not None
    loop = _StackedLoop(
        stack=NetworkStack([network.to(device) for network in networks]),
        data=data.to(device),
        validation=None if validation is None else as_dataset(validation).to(device),
        targets=targets,
        soft_weight=float(has_targets) if soft_weight is None else soft_weight,
        hard_weight=float(not has_targets) if hard_weight is None else hard_weight,
        optimiser=_make_optimiser(networks, rates, momentum, weight_decay),
        factor=learning_rate_factor(schedule, epochs, warmup_epochs),
        epochs=epochs,
        batch_size=batch_size,
        device=device,
        seeds=list(seeds),
        run=run,
        member_runs=member_runs or (),
        checkpoint_seconds=checkpoint_seconds,
        progress=progress or (run.report_progress if run is not None else None),
    )
    return loop.run_to_the_end()


def _check_lengths(networks: Sequence[nn.Module], **of_members: Sequence[Any] | None) -> None:
    for name, values in of_members.items():
        if values is not None and len(values) != len(networks):
            raise UsageError(f"stacked: {len(values)} {name} for {len(networks)} networks, expected one for each")


def _check_fit(
    networks: Sequence[nn.Module],
    data: Dataset,
    targets: Sequence[Targets] | None,
    epochs: int,
    batch_size: int,
    rates: Sequence[float],
    momentum: float,
    weight_decay: float,
    run: Run | None,
) -> None:
    """What `fit` refuses before it begins, of each member."""
    if not data.in_memory:
        raise UsageError("stacked: data that streams from files is not possible: fit these one by one")
    for number, (network, rate) in enumerate(zip(networks, rates, strict=True)):
        check_arguments(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=rate,
            momentum=momentum,
            weight_decay=weight_decay,
            gradient_clip=None,
            max_norm=None,
            ema_decay=None,
            patience=None,
        )
        check_targets(network, data, targets and targets[number])
    if run is not None and run.is_done:
        raise RunError(f"{run.path} is done: read its members' weights and results")


def _make_optimiser(
    networks: Sequence[nn.Module], rates: Sequence[float], momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """That of `fit` over the members' own parameters, those of one learning rate in the same groups."""
    of_rate: dict[float, list[nn.Parameter]] = {}
    for network, rate in zip(networks, rates, strict=True):
        of_rate.setdefault(rate, []).extend(network.parameters())
    optimiser, *others = [
        make_optimiser("sgd", parameters, rate, momentum, weight_decay) for rate, parameters in of_rate.items()
    ]
    for other in others:
        for group in other.param_groups:
            optimiser.add_param_group(group)
    return optimiser


_PLACE = ("epoch", "step", "batch", "sums", "seconds", "history")  # where a fit is, and what it has measured


@dataclass
class _StackedLoop:
    """The state of K fits that go step by step together."""

    stack: NetworkStack
    data: Dataset
    validation: Dataset | None
    targets: Sequence[Targets] | None
    soft_weight: float
    hard_weight: float
    optimiser: torch.optim.Optimizer
    factor: Callable[[float], float]
    epochs: int
    batch_size: int
    device: torch.device
    seeds: list[int]
    run: Run | None
    member_runs: Sequence[Run]
    checkpoint_seconds: float
    progress: Callable[[float, dict[str, Any]], None] | None

    epoch: int = 0
    step: int = 0  # of the whole fit
    batch: int = 0  # of this epoch
    seconds: float = 0.0
    sums: list[list[float]] = field(default_factory=list)  # of each member in this epoch, when it was saved

    def __post_init__(self) -> None:
        self.networks = self.stack.networks
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.num_labelled = count_labelled(self.data, self.validation, self.soft_weight)
        self.is_new, self.is_checked = True, False
        self.tallies = [Tally() for _ in self.networks]
        self.history: list[list[dict[str, Any]]] = [[] for _ in self.networks]  # lines of metrics of each member

    def run_to_the_end(self) -> list[FitResult]:
        self._restore()
        self._saved = self._told = time.monotonic()
        self._began = self._saved - self.seconds
        with Interruption() as interruption:
            while self.epoch < self.epochs:
                self._run_epoch(interruption)
            return self._end()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _run_epoch(self, interruption: Interruption) -> None:
        orders = torch.stack([shuffled(self.data.ids, seed=seed, epoch=self.epoch) for seed in self.seeds])
        whole = [ids.flatten() for ids in torch.split(orders, self.batch_size, dim=1)]  # of all members
        for ids, inputs, labels in batches(self.data, whole[self.batch :], view=self.epoch):
            members = (len(self.networks), -1)
            self._step(
                ids.view(members),
                inputs.view(*members, *inputs.shape[1:]),
                labels.view(members),
                self.epoch + self.batch / len(whole),
            )
            self.step += 1
            self.batch += 1
            now = time.monotonic()
            if now - self._told >= 0.5:
                self._told = now
                self._tell((self.epoch + self.batch / len(whole)) / self.epochs)
            if interruption.is_waiting or now - self._saved >= self.checkpoint_seconds:
                self._save()
                interruption.deliver()
        self._end_epoch()

    def _step(self, ids: Tensor, inputs: Tensor, labels: Tensor, time_epochs: float) -> None:
        """One step of each member on its own batch; every argument has the members first."""
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.factor(time_epochs)
        targets = [member(ids[k], self.epoch) for k, member in enumerate(self.targets or ())]
        logits = self.stack(inputs)
        if not self.is_checked:
            self._check(logits, targets, labels)
        losses = stacked_distillation_loss(
            logits, targets, labels, soft_weight=self.soft_weight, hard_weight=self.hard_weight
        )
        self.stack.backward(losses.total)
        if not self.is_checked and (self.soft_weight or bool((labels >= 0).any(1).all())):
            self.is_checked = True
            if self.is_new:  # later on, a loss of 0 may be what it has learned
                for network, total in zip(self.networks, losses.total.tolist(), strict=True):
                    check_first_step(network, total)
        self.optimiser.step()
        self._add_up(losses, logits, labels)

    def _check(self, logits: Tensor, targets: Sequence[SoftTargets | LogitTargets], labels: Tensor) -> None:
        """What `fit` refuses at its first step: each member's logits, and what they are compared with."""
        for member in range(len(logits)):
            check_logits(logits[member], labels.shape[1], self.data)
            distillation_loss(
                logits[member],
                targets[member] if targets else None,
                labels[member],
                soft_weight=self.soft_weight,
                hard_weight=self.hard_weight,
            )

    def _add_up(self, losses: DistillationLoss, logits: Tensor, labels: Tensor) -> None:
        members, num_soft = labels.shape
        all_labelled = self.num_labelled == len(self.data)
        num_hard = members * [num_soft] if all_labelled else (labels >= 0).sum(1).tolist()
        terms = torch.stack(losses).detach().unbind(1)  # of each member
        rows = zip(self.tallies, terms, logits.detach(), labels, num_hard, strict=True)
        for tally, own, own_logits, own_labels, num in rows:
            tally.add(DistillationLoss(*own.unbind()), own_logits, own_labels, num_soft, num)

    def _end_epoch(self) -> None:
        self.epoch, self.batch = self.epoch + 1, 0
        sums = self._finite_sums()
        self.tallies = [Tally() for _ in self.networks]
        for member, (network, own) in enumerate(zip(self.networks, sums, strict=True)):
            line: dict[str, Any] = {"epoch": self.epoch, "step": self.step}
            line |= epoch_means(own, len(self.data), self.num_labelled, has_targets=self.targets is not None)
            if self.validation is not None:
                errors, loss = errors_and_nll(network, self.validation, device=self.device)
                self._check_finite("validation loss", member, loss)
                line |= {"validation_errors": errors, "validation_nll": loss}
            self.history[member].append({**line, "seconds": round(self._elapsed(), 3)})

    def _tell(self, fraction: float) -> None:
        self._finite_sums()
        if self.progress is not None:
            self.progress(fraction, self.history[0][-1] if self.history[0] else {})

    def _finite_sums(self) -> list[list[float]]:
        sums = [tally.sums() for tally in self.tallies]
        for member, own in enumerate(sums):
            self._check_finite("loss", member, own[0])
        return sums

    def _check_finite(self, what: str, member: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the {what} of member {member} is {loss} by step {self.step}: lower its learning rate"
            )

    def _save(self) -> None:
        if self.run is None:
            return
        self.sums = self._finite_sums()  # what is lost is not worth going on from
        tensors = {f"weights.{index}": value for index, value in enumerate(self.stack.weights)}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"momentum.{index}": value for value in state.values() if value is not None}
        self.seconds = self._elapsed()
        # The members' metrics are in the checkpoint and not in files of their own: it appears whole or not at all.
        self.run.save_checkpoint(tensors, {key: getattr(self, key) for key in _PLACE})
        self._saved = time.monotonic()

    def _restore(self) -> None:
        loaded = self.run.load_checkpoint() if self.run is not None else None
        if self.run is None or loaded is None:
            return
        tensors, state = loaded
        found = [tuple(value.shape) for name, value in tensors.items() if name.startswith("weights.")]
        if sorted(found) != sorted(tuple(value.shape) for value in self.stack.weights):
            raise RunError(f"the checkpoint in {self.run.path} is of another stack: remove it and run again")
        with torch.no_grad():
            for index, value in enumerate(self.stack.weights):
                value.copy_(tensors[f"weights.{index}"])
        momenta = {
            int(name.partition(".")[2]): {"momentum_buffer": value.to(self.device)}
            for name, value in tensors.items()
            if name.startswith("momentum.")
        }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": momenta, "param_groups": groups})
        for key in _PLACE:
            setattr(self, key, state[key])
        self.tallies = [Tally(own) for own in self.sums]
        self.is_new = False
        self.run.log(f"goes on from epoch {self.epoch}, step {self.step}")

    def _end(self) -> list[FitResult]:
        self.stack.release()
        for run, network, history in zip(self.member_runs, self.networks, self.history, strict=False):
            if not run.is_done:
                self._write(run, network, history)
        results = []
        for network, history in zip(self.networks, self.history, strict=True):
            lines = [{key: line[key] for key in line if key != "seconds"} for line in history]
            results.append(FitResult(network.eval(), lines, self.step))
        return results

    def _write(self, run: Run, network: nn.Module, history: list[dict[str, Any]]) -> None:
        run.load_checkpoint()  # there is none, so it cuts off the metrics that a killed process had begun to write
        for line in history:
            run.log_metrics(line)
        about = {"epochs": self.epoch, "steps": self.step, "best_epoch": None}
        run.save_weights(network.state_dict(), {**about, "seconds": round(self._elapsed(), 3)})
