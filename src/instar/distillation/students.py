"""`distill` and `train`: one call with a user's own networks and data."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instar.arguments import require_network
from instar.data import Dataset, as_dataset
from instar.data.copies import warn_of_copies
from instar.distillation.hints import Hint, HintLoss, as_hints
from instar.distillation.run_config import describe_targets, describe_teacher, fit_config
from instar.distillation.teachers import LabelsInTargets, Teacher, as_networks, members_of
from instar.errors import LearningWarning, UsageError
from instar.fit_options import check_names
from instar.guards import NUM_TRIED, try_fit
from instar.identity import plain
from instar.networks import evaluation_, extra_state_of, load_state_, materialise_
from instar.optimisation import decide_precision
from instar.positions import is_sequence
from instar.runs import CONFIG, Run
from instar.structures import num_examples, to_device
from instar.teacher_checks import require_targets
from instar.training import FitResult, fit


def distill(
    teacher: Any,
    student: nn.Module,
    train: Any,
    *,
    validation: Any = None,
    temperature: float = 4.0,
    soft_weight: float = 1.0,
    hard_weight: float = 0.1,
    label_weight: float = 0.0,
    ensemble_mean: str = "arithmetic",
    ensemble_weights: Sequence[float] | None = None,
    hints: Hint | Sequence[Hint | tuple[str, str]] = (),
    epochs: int = 50,
    seed: int = 0,
    run_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> FitResult:
    """Teach a student with the soft targets of a teacher: soft_weight T^2 H(p_T, q_T) + hard_weight H(label, q_1).

    Args:
        teacher: a trained network; a fitted classifier of scikit-learn, XGBoost or LightGBM; a file, such as
            `onnx:FILE`; anything else that answers a batch (`instar.AskedTeacher`); several of these as an
            ensemble; or a function from (ids, views) to soft targets, which determines the temperature.
        student: trained in place.
        train: transfer set, a `Dataset`, (inputs, labels) or what else `as_dataset` takes; or rows with named
            columns, see `load_data`: a frame of pandas or polars, a table of Arrow, a mapping of columns or a
            `datasets.Dataset`. Label -1 means no label; labels may be distributions (examples, classes).
        validation: errors and NLL are measured on it after each epoch.
        temperature: of the soft targets; `math.inf` matches logits.
        soft_weight, hard_weight: weights of the two terms.
        label_weight: weight of the labels that are mixed into the soft targets, the other way to use labels.
        ensemble_mean: of the members' probabilities, "arithmetic" or "geometric".
        ensemble_weights: of the members (`choose_ensemble_weights`); by default all alike.
        hints: layers of the teacher that layers of the student learn from as well; the teacher then runs in each
            step.
        epochs: passes over the transfer set.
        seed: of the order of the data and of dropout.
        run_dir: folder for metrics and checkpoints; the same call resumes an interrupted fit, or reads a finished
            one. All that decides the result has to be the same, the student's first weights included.
        device: where to train.
        options: any other option of `instar.fit`, see `FitOptions`.

    Returns:
        The student, the metrics of each epoch and the number of steps. `failed_to_learn` says why it is no better
        than guessing on its transfer set, where it is not; so does a LearningWarning.

    Raises:
        UsageError, TrainingError: as `fit`.
        RunError: `run_dir` holds another fit; the error names the difference.

    Example:
        >>> inputs = torch.randn(64, 4); labels = (inputs[:, 0] > 0).long()
        >>> teacher = train(nn.Linear(4, 2), (inputs, labels), epochs=20, learning_rate=1.0).network
        >>> distill(teacher, nn.Linear(4, 2), (inputs, labels), epochs=2, temperature=2.0).num_steps
        2

    References:
        Hinton, Vinyals, Dean 2015, section 2.
    """
    check_names(options, of="distill", also=_named(distill))
    data, validation = _parts(train, validation)
    temperature, label_weight = plain(temperature), plain(label_weight)
    teacher = as_networks(teacher, data)
    is_networks = isinstance(teacher, nn.Module | Sequence)
    _prepare(student, data, device, temperature=temperature if is_networks else 1.0)
    about: dict[str, Any] = {}
    layers = as_hints(hints)
    if layers and not isinstance(teacher, nn.Module):
        raise UsageError("hints come from the layers of one network; pass that network as the teacher")
    asked = teacher
    if isinstance(teacher, nn.Module | Sequence):
        members_of(teacher)
        mean: dict[str, Any] = {"mean": ensemble_mean, "weights": ensemble_weights}
        about = {} if run_dir is None else describe_teacher(teacher, data, temperature, **mean)
        teacher = Teacher(teacher, data, temperature=temperature, device=device, **mean)
    else:
        require_targets("the teacher, which is no network", teacher)
        about = {} if run_dir is None else {"targets": describe_targets(teacher, data)}
    if label_weight:
        about["label_weight"] = label_weight
        teacher = LabelsInTargets(teacher, data.to(torch.device(device)), label_weight)
    options |= {"targets": teacher, "soft_weight": soft_weight, "hard_weight": hard_weight, "device": device}
    options |= {"validation": validation, "epochs": epochs, "seed": seed}
    if not layers:
        return _said("the student", _fitted(run_dir, student, data, options, about))
    assert isinstance(asked, nn.Module)
    auxiliary = HintLoss(asked, student, layers, data, seed=seed, device=device)
    try:
        return _said("the student", _fitted(run_dir, student, data, {**options, "auxiliary": auxiliary}, about))
    finally:
        auxiliary.close()


def _named(function: Callable[..., Any]) -> list[str]:
    """The keywords in the signature of a function."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def _fitted(
    run_dir: str | Path | None, student: nn.Module, data: Dataset, options: dict[str, Any], about: dict[str, Any]
) -> FitResult:
    return fit(student, data, **options) if run_dir is None else _fit_in(run_dir, student, data, options, about)


def train(
    network: nn.Module,
    data: Any,
    *,
    validation: Any = None,
    epochs: int = 50,
    seed: int = 0,
    run_dir: str | Path | None = None,
    **options: Any,
) -> FitResult:
    """Train a network on labels. The arguments are those of `distill`; `options` are those of `instar.fit`.

    Example:
        >>> inputs = torch.randn(64, 4); labels = (inputs[:, 0] > 0).long()
        >>> result = train(nn.Linear(4, 2), (inputs, labels), epochs=30, learning_rate=1.0)
        >>> result.metrics[-1]["train_errors"] < 10
        True
    """
    check_names(options, of="train", also=_named(train))
    data, validation = _parts(data, validation)
    _prepare(network, data, options.get("device", "cpu"))
    options |= {"validation": validation, "epochs": epochs, "seed": seed}
    if run_dir is None:
        return _said("the network", fit(network, data, **options))
    about: dict[str, Any] = {}
    if (targets := options.get("targets")) is not None:
        require_targets("targets", targets)
        about = {"targets": describe_targets(targets, data)}
    return _said("the network", _fit_in(run_dir, network, data, options, about))


def _said(name: str, result: FitResult) -> FitResult:
    """The result, with a warning where it is that of a fit that did not learn."""
    if result.failed_to_learn:
        said = f"{name} failed to learn: it is {result.failed_to_learn}"
        said += "; try other learning rates, more epochs, or warm-up and gradient clipping"
        warnings.warn(said, LearningWarning, stacklevel=3)
    return result


def _parts(train: Any, validation: Any) -> tuple[Dataset, Dataset | None]:
    """Training and validation data, with a warning of examples that are in both."""
    if not isinstance(
        train, Dataset | tuple | torch.utils.data.Dataset | torch.utils.data.DataLoader | str | Path
    ):
        from instar.data.records.frames import is_rows  # these need Arrow, which tensors do not
        from instar.data.row_datasets import row_datasets

        if is_rows(train):
            return row_datasets(train, validation)
    data = as_dataset(train)
    if validation is None:
        return data, None
    validation = as_dataset(validation)
    warn_of_copies("data", {"training": data, "validation": validation})
    return data, validation


def _prepare(
    network: nn.Module, data: Dataset, device: str | torch.device, *, temperature: float | None = None
) -> None:
    """Try a network on the first examples, before a teacher runs and anything is written."""
    name = "the network" if temperature is None else "the student"
    require_network(name, network)
    inputs = to_device(data.gather(data.ids[:NUM_TRIED], 0), device)
    materialise_(network.to(device), inputs)
    if num_examples(inputs) > 1:  # batch normalisation needs two
        is_sequential = is_sequence(data.labels(data.ids[:1]))
        try_fit(network, name, inputs, data.num_classes, temperature=temperature, at_each_position=is_sequential)


def _fit_in(
    path: str | Path, network: nn.Module, data: Dataset, options: dict[str, Any], about: Mapping[str, Any]
) -> FitResult:
    """Fit in a run directory: start, resume, or load the finished network."""
    extra_state_of(network.state_dict())
    wanted = options.get("precision", "auto")
    options["precision"] = _decided_precision(Path(path), wanted, network, options.get("device", "cpu"))
    with Run(path, recipe="fit", config={**fit_config(network, data, options), **about}) as run:
        if run.is_done:
            weights, about_weights = run.load_weights()
            load_state_(network, weights, type(network).__name__, str(path))
            found = run.result()
            steps, best_epoch = about_weights["steps"], about_weights["best_epoch"]
            return FitResult(
                evaluation_(network), found["rows"], steps, best_epoch, found.get("failed_to_learn", "")
            )
        result = fit(network, data, run=run, **options)
        failed = {"failed_to_learn": result.failed_to_learn} if result.failed_to_learn else {}
        run.finish({"metrics": result.metrics[-1], "rows": result.metrics, **failed})
    return result


def _decided_precision(path: Path, precision: str, network: nn.Module, device: str | torch.device) -> str:
    """The precision that a run directory was started with, on whatever machine it is resumed."""
    if precision == "auto" and (path / CONFIG).exists():
        return str(Run.read(path).config.get("precision", "float32"))
    return decide_precision(precision, network, device)
