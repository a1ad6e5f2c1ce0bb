"""One call from a user's own networks and data."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, as_dataset
from instar.distillation.teachers import Teacher
from instar.runs import Run
from instar.training import FitResult, Targets, fit


def distill(
    teacher: nn.Module | Targets,
    student: nn.Module,
    train: Dataset | tuple[Tensor, Tensor],
    *,
    validation: Dataset | tuple[Tensor, Tensor] | None = None,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 0.1,
    epochs: int = 50,
    seed: int = 0,
    run_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> FitResult:
    """Teach a student with the soft targets of a teacher: soft_weight T^2 H(p_T, q_T) + hard_weight H(label, q_1).

    Args:
        teacher: a trained network, or soft targets as a function of (ids, views) (then at its temperature).
        student: trained in place.
        train: transfer set, a `Dataset` or (inputs, labels); label -1 means none.
        validation: looked at after each epoch.
        temperature: of the soft targets.
        soft_weight, hard_weight: of the two terms.
        epochs: passes over the transfer set.
        seed: order of the data and dropout.
        run_dir: where to keep metrics and checkpoints; the same call goes on with what was cut.
        options: any other argument of `instar.training.fit`.

    Returns:
        The student, the metrics of each epoch and the number of steps.

    Raises:
        UsageError, TrainingError: as `fit`.

    Example:
        >>> inputs = torch.randn(64, 4); labels = (inputs[:, 0] > 0).long()
        >>> teacher, student = nn.Linear(4, 2), nn.Linear(4, 2)
        >>> distill(teacher, student, (inputs, labels), epochs=2, temperature=2.0).num_steps
        2

    References:
        Hinton, Vinyals, Dean 2015, section 2.
    """
    data = as_dataset(train)
    if isinstance(teacher, nn.Module):
        teacher = Teacher(teacher, data, temperature=temperature, device=device)
    options |= {"targets": teacher, "soft_weight": soft_weight, "hard_weight": hard_weight}
    return train_network(
        student, data, validation=validation, epochs=epochs, seed=seed, run_dir=run_dir, device=device, **options
    )


def train_network(
    network: nn.Module,
    data: Dataset | tuple[Tensor, Tensor],
    *,
    validation: Dataset | tuple[Tensor, Tensor] | None = None,
    epochs: int = 50,
    seed: int = 0,
    run_dir: str | Path | None = None,
    **options: Any,
) -> FitResult:
    """Fit a network to labels; `instar.train`. See `instar.training.fit` for `options`.

    Example:
        >>> inputs = torch.randn(64, 4); labels = (inputs[:, 0] > 0).long()
        >>> result = train_network(nn.Linear(4, 2), (inputs, labels), epochs=30, learning_rate=1.0)
        >>> result.metrics[-1]["train_errors"] < 10
        True
    """
    data = as_dataset(data)
    if run_dir is None:
        return fit(network, data, validation=validation, epochs=epochs, seed=seed, **options)
    plain = {key: value for key, value in options.items() if isinstance(value, (bool, int, float, str))}
    config = {**plain, "epochs": epochs, "seed": seed, "data_fingerprint": data.fingerprint}
    with Run(run_dir, recipe="fit", config=config) as run:
        if run.is_done:
            weights, about = run.load_weights()
            network.load_state_dict(weights)
            return FitResult(network.eval(), run.metrics(), about["steps"])
        result = fit(network, data, validation=validation, epochs=epochs, seed=seed, run=run, **options)
        run.finish({"metrics": result.metrics[-1], "rows": result.metrics})
    return result
