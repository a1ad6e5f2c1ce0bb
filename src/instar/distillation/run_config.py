"""What `distill` and `train` write into a run directory: everything that decides the result, by content."""

import dataclasses
import functools
import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instar.data import Dataset, Sampler, as_dataset, seen_by
from instar.distillation.hints import HintLoss
from instar.distillation.store_targets import StoreTargets
from instar.distillation.teachers import LabelsInTargets, StoredLogits, Teacher
from instar.errors import UsageError
from instar.fit_options import FitOptions, check_names
from instar.identity import each_alone, plain, sketch, stated_fingerprint
from instar.losses import AnyTargets, HeadTargets, LogitTargets, Targets
from instar.networks import network_identity
from instar.sparse_targets import SparseTargets

ELSEWHERE = ("targets", "validation", "sampler", "auxiliary")
"""Options that are written down in a way of their own."""

NOT_WRITTEN = {
    "run": "the run directory itself",
    "checkpoint_seconds": "checkpoints change no number",
    "progress": "it is shown, and changes no number",
    "device": "a fit goes on elsewhere",
}
"""Options that are not part of the identity of a fit, each with the reason."""


def fit_config(network: nn.Module, data: Dataset, options: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides the result of a fit, but for its soft targets.

    Raises:
        UsageError: an unknown option, or one that cannot be written down.
    """
    check_names(options)
    chosen = FitOptions(**options)
    names = [field.name for field in dataclasses.fields(chosen)]
    config = {
        name: written(name, getattr(chosen, name)) for name in names if name not in (*ELSEWHERE, *NOT_WRITTEN)
    }
    config["data"] = data.identity
    config["network"] = network_identity(network, data.examples())
    config["sampler"] = _describe_sampler(chosen.sampler, data, chosen)
    if chosen.auxiliary is not None:
        config["auxiliary"] = _describe_auxiliary(chosen.auxiliary, data)
    if chosen.validation is not None:
        config["validation"] = as_dataset(chosen.validation).identity
    return config


def _describe_sampler(sampler: Sampler, data: Dataset, options: FitOptions) -> dict[str, Any]:
    """Its name and arguments, and the order that it gives in some epochs, by which its code is known."""
    epochs = sorted({0, 1, options.epochs - 1})
    orders = [sampler(data.ids, seed=options.seed, epoch=epoch) for epoch in epochs]
    return {"name": written("sampler", sampler), "order": written("sampler", torch.cat(orders))}


def _describe_auxiliary(auxiliary: nn.Module, data: Dataset) -> Any:
    """A further term of the loss: hints by their layers and their teacher, another one by its `fingerprint`."""
    if not isinstance(auxiliary, HintLoss):
        return written("auxiliary", auxiliary)
    about = {"hints": written("hints", auxiliary.hints), **_describe_networks([auxiliary.teacher], data)}
    return {**about, "projectors": sketch(each_alone(auxiliary.parameters()), relative=1e-5)}


def describe_teacher(
    teacher: nn.Module | Sequence[nn.Module],
    data: Dataset,
    temperature: float,
    *,
    mean: str,
    weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Everything that decides the soft targets of networks.

    Raises:
        UsageError: a network has neither weights nor an attribute `fingerprint`.
    """
    about: dict[str, Any] = {"temperature": written("temperature", temperature)}
    if isinstance(teacher, nn.Module):
        return {"teacher": _describe_networks([teacher], data)["0"], **about}
    if weights is not None:
        about["ensemble_weights"] = written("ensemble_weights", list(weights))
    return {"teachers": _describe_networks(teacher, data), "ensemble_mean": mean, **about}


def _describe_networks(networks: Sequence[nn.Module], data: Dataset) -> dict[str, Any]:
    seen = [seen_by(network, data).examples() for network in networks]
    pairs = enumerate(zip(networks, seen, strict=True))
    return {str(number): network_identity(*pair, trained=False) for number, pair in pairs}


def describe_targets(targets: Targets, data: Dataset) -> dict[str, Any]:
    """Everything that decides soft targets that are a function, and what they are for some examples.

    Raises:
        UsageError: a function of the user's without an attribute `fingerprint`.
    """
    about: dict[str, Any] = {"kind": type(targets).__name__}
    if isinstance(targets, LabelsInTargets):
        about |= {"label_weight": targets.label_weight, "targets": describe_targets(targets.targets, data)}
    elif isinstance(targets, Teacher):
        about["teachers"] = _describe_networks(targets.networks, data)
    elif isinstance(targets, StoreTargets):
        about["store"] = dict(targets.identity)
    elif isinstance(targets, StoredLogits) or stated_fingerprint(targets) is not None:
        about["fingerprint"] = stated_fingerprint(targets)
    else:
        raise UsageError(
            f"run_dir: the soft targets are {_shown(targets)}, which could not be recognised: give it an "
            "attribute `fingerprint`, a text that changes whenever its answers do"
        )
    for key in ("temperature", "mean", "reading", "weights"):
        if (value := getattr(targets, key, None)) is not None:
            about[key] = written(key, value)
    found = [targets(ids, view) for ids in [data.some_ids()] for view in (0, 1)]
    about["values"] = sketch([value for one in found for value in _values(one)])
    return about


def _values(targets: AnyTargets) -> list[Tensor]:
    """The tensors that decide a batch of targets."""
    if isinstance(targets, SparseTargets):
        return [targets.probs, targets.rest]
    if isinstance(targets, HeadTargets):
        return [targets.hidden]
    return [targets.logits if isinstance(targets, LogitTargets) else targets.probs]


def written(name: str, value: Any) -> Any:
    """An option as a configuration can hold it.

    Args:
        name: of the option, for the error.
        value: numbers, texts, tensors, tables and lists of these, functions of a module, `functools.partial` of
            these, dataclasses, and objects with an attribute `fingerprint`.

    Raises:
        UsageError: it cannot be written down.

    Example:
        >>> written("sampler", functools.partial(math.pow, 2.0))
        {'function': 'math:pow', 'arguments': [2.0]}
        >>> written("sampler", lambda ids, seed, epoch: ids)
        Traceback (most recent call last):
        instar.errors.UsageError: run_dir: sampler is a lambda, which cannot be written down: ...
    """
    value = plain(value)
    if isinstance(value, float) and value == math.inf:
        return "inf"  # a result in JSON has no number for it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): written(f"{name}.{key}", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [written(name, one) for one in value]
    if isinstance(value, Tensor):
        return sketch([value]) if value.is_floating_point() else _hash(value)
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, **value.keywords}
        return {key: written(f"{name}.{key}", one) for key, one in parts.items()}
    if stated_fingerprint(value) is not None:
        return {"kind": type(value).__name__, "fingerprint": stated_fingerprint(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **{key: written(f"{name}.{key}", one) for key, one in parts.items()}}
    qualified = str(getattr(value, "__qualname__", ""))
    if inspect.isroutine(value) and getattr(inspect.getmodule(value), qualified, None) is value:
        return f"{value.__module__}:{qualified}"
    raise UsageError(
        f"run_dir: {name} is {_shown(value)}, which cannot be written down: give a function of a module, a "
        "functools.partial of one, or an object with an attribute `fingerprint`"
    )


def _shown(value: Any) -> str:
    name = getattr(value, "__qualname__", "")
    if name.endswith("<lambda>"):
        return "a lambda"
    if "<locals>" in name:
        return f"a function inside another one ({value.__name__})"
    return f"the function {name}" if inspect.isroutine(value) else f"an object of class {type(value).__name__}"


def _hash(value: Tensor) -> str:
    return hashlib.blake2b(value.detach().cpu().contiguous().numpy().tobytes(), digest_size=8).hexdigest()
