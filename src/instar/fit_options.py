"""The options of a fit, a record whose fields are the keyword arguments of `training.fit`, and its result."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import nn

from instar.data import GivenData, Sampler, shuffled
from instar.errors import UsageError
from instar.identity import plain
from instar.losses import Targets
from instar.naming import unknown_name
from instar.runs import Run

Data = GivenData
Progress = Callable[[float, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of a fit. A field that is added here becomes a keyword argument of `fit`.

    Args:
        epochs: passes over the data; epoch e (from 0) sees view e.
        targets: soft targets for (ids, views); None fits the labels alone.
        soft_weight, hard_weight: weights of the two terms; 1 and 0 with targets, 0 and 1 without.
        soft_loss: `kd` is the paper's cross-entropy; `dkd` (or `dkd:WEIGHT`), `dist` and `standardised` are those
            of `instar.soft_losses`.
        auxiliary: a module that gives a further term of the loss from the inputs of each step, after the network's
            forward pass; its parameters are trained too, and are no part of the network (`HintLoss`).
        validation: errors and NLL are measured on it after each epoch; needed for `patience`.
        sampler: which examples an epoch shows, in which order: a pure function of (ids, seed, epoch).
        batch_size: examples in a step, of all processes together; the last batch of an epoch may be smaller.
        optimiser: `sgd` (with momentum) or `adamw`.
        learning_rate: after the warm-up; `schedule` lowers it.
        learning_rate_factors: by which the learning rate of some parameters is multiplied, by name.
        momentum: of `sgd`.
        weight_decay: of all weights but biases and the scales of normalisation.
        schedule: `cosine` to 0, `constant`, or `step:E1,E2,...` (divided by 10 at each of these epochs).
        warmup_epochs: linear rise of the learning rate at the start.
        gradient_clip: largest norm of the whole gradient.
        max_norm: largest norm of the incoming weights of each unit, in all layers but the last.
        ema_decay: end with the exponential moving average of the weights.
        patience: stop after so many epochs without fewer validation errors, and restore the best weights.
        precision: `float32`, `bfloat16` or `auto` (see `optimisation.decide_precision`).
        device: where the network is trained.
        seed: of the order of the data and of dropout.
        run: run directory for metrics and checkpoints, from which the fit resumes; None keeps all in memory.
        checkpoint_seconds: time between two checkpoints, which a kill may cost.
        progress: called with (fraction done, latest metrics) about twice a second.

    Raises:
        UsageError: a number is out of its range, or `patience` has no validation data.
    """

    epochs: int
    targets: Targets | None = None
    soft_weight: float | None = None
    hard_weight: float | None = None
    soft_loss: str = "kd"
    auxiliary: nn.Module | None = None
    validation: Data | None = None
    sampler: Sampler = shuffled
    batch_size: int = 128
    optimiser: str = "sgd"
    learning_rate: float = 0.1
    learning_rate_factors: Mapping[str, float] | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    gradient_clip: float | None = None
    max_norm: float | None = None
    ema_decay: float | None = None
    patience: int | None = None
    precision: str = "auto"
    device: str | torch.device = "cpu"
    seed: int = 0
    run: Run | None = None
    checkpoint_seconds: float = 15.0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for field in fields(self):  # numbers of numpy are numbers
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        ranges: dict[str, tuple[Callable[[Any], bool], str]] = {
            "epochs": (lambda value: value >= 1, "at least 1"),
            "batch_size": (lambda value: value >= 1, "at least 1"),
            "learning_rate": (lambda value: 0 < value < math.inf, "positive"),
            "momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
            "weight_decay": (lambda value: 0 <= value < math.inf, "not negative"),
            "gradient_clip": (lambda value: 0 < value < math.inf, "positive"),
            "max_norm": (lambda value: 0 < value < math.inf, "positive"),
            "ema_decay": (lambda value: 0 < value < 1, "in (0, 1)"),
            "patience": (lambda value: value >= 1, "at least 1"),
        }
        for name, (is_right, expected) in ranges.items():
            value = getattr(self, name)
            if value is not None and not is_right(value):
                raise UsageError(f"{name} is {value}, expected {expected}")
        if self.patience is not None and self.validation is None:
            raise UsageError("patience (early stopping) needs validation data")

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the soft and of the hard term."""
        has_targets = self.targets is not None
        return (
            float(has_targets) if self.soft_weight is None else self.soft_weight,
            float(not has_targets) if self.hard_weight is None else self.hard_weight,
        )


_Fields = ParamSpec("_Fields")
_Result = TypeVar("_Result")


def options_by_name(
    options: Callable[_Fields, FitOptions],
) -> Callable[
    [Callable[[nn.Module, Data, FitOptions], _Result]], Callable[Concatenate[nn.Module, Data, _Fields], _Result]
]:
    """Let a function of (network, data, options) be called as (network, data, epochs=..., ...).

    Its signature, for people, `inspect` and type checkers, has the fields of the options.
    """
    named = inspect.signature(options).parameters

    def decorate(
        function: Callable[[nn.Module, Data, FitOptions], _Result],
    ) -> Callable[Concatenate[nn.Module, Data, _Fields], _Result]:
        @functools.wraps(function)
        def by_name(network: nn.Module, data: Data, *args: _Fields.args, **chosen: _Fields.kwargs) -> _Result:
            check_names(chosen)
            return function(network, data, options(*args, **chosen))

        network, data, _ = inspect.signature(function).parameters.values()
        by_name.__signature__ = inspect.Signature([network, data, *named.values()])  # type: ignore[attr-defined]
        return by_name  # type: ignore[return-value]  # `network` and `data` can be given by name too

    return decorate


def check_names(chosen: Iterable[str], *, of: str = "fit", also: Iterable[str] = ()) -> None:
    """Refuse names that are not options: of `fit`, or of a function that has more, and hands on the rest.

    Raises:
        UsageError: an unknown name; the error suggests the nearest option.
    """
    known = [*also, *(field.name for field in fields(FitOptions) if field.name not in also)]
    for name in chosen:
        if name not in known:
            raise unknown_name(f"option of {of}", name, known)


@dataclass(frozen=True)
class FitResult:
    """The trained network, the metrics of each epoch and the number of steps."""

    network: nn.Module
    metrics: list[dict[str, Any]]
    num_steps: int
    best_epoch: int | None = None
    failed_to_learn: str = ""
    """Why it is no better than guessing on what it learned from; empty where it is better."""

    @property
    def kept(self) -> dict[str, Any]:
        """The metrics of the epoch whose weights were kept: the best one with `patience`, else the last."""
        return self.metrics[(self.best_epoch or len(self.metrics)) - 1]

    @property
    def about(self) -> dict[str, Any]:
        """What is saved with the weights: number of epochs and steps, and the best epoch."""
        return {"epochs": len(self.metrics), "steps": self.num_steps, "best_epoch": self.best_epoch}
