"""Correcting a student whose transfer set lacked classes: a class bias, fitted on validation examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from instar import metrics
from instar.data import Dataset
from instar.deploy.rows import keep_rows
from instar.distillation import add_class_bias_, fit_class_bias
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.recipes.loading import about_network, load_run_network
from instar.recipes.settings import DataSettings, FitSettings
from instar.recipes.splits import load_splits, splits_of
from instar.runs import Run


def correction_job(
    name: str, student: str, settings: FitSettings, data: DataSettings, *, classes: Sequence[str], shared: bool
) -> Job:
    """A job that adds to a student's last layer the bias of some classes with the fewest validation errors."""
    config = {
        **about_network(settings, data, load_splits(data)),
        "corrects": student,
        "classes": list(classes),
        "shared": shared,
    }
    return Job(name, _correct, config, (student,))


def correct_(network: nn.Module, bias: Tensor, data: Dataset, name: str) -> None:
    """Fold a class bias into the last layer of a network, in place.

    Raises:
        UsageError: its logits do not come straight from a linear layer, or that layer has no bias: a run's network
            is rebuilt by its name, with the parts that it had.
    """
    parts = set(network.state_dict())
    add_class_bias_(network, bias, data.gather(data.ids[:100], 0))
    if set(network.state_dict()) != parts:
        raise UsageError(f"the last layer of {name} has no bias that the correction could go into")


def bias_on_validation(
    network: nn.Module, validation: Dataset, classes: Sequence[str], *, shared: bool = True
) -> tuple[Tensor, Tensor]:
    """The logits of a network on validation examples, and the bias of some classes that fits these best."""
    logits = predict_logits(network, validation)
    labels, names = validation.labels(validation.ids), validation.class_names
    return logits, fit_class_bias(logits, labels, classes=classes, class_names=names, shared=shared)


def _correct(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    network = load_run_network(needs[config["corrects"]])
    splits = splits_of(config)
    keep_rows(run.path, splits)
    validation = splits.validation
    logits, bias = bias_on_validation(network, validation, config["classes"], shared=config["shared"])
    correct_(network, bias, validation, config["network"])
    run.save_weights(network.state_dict(), {})
    row = {"name": run.path.name, "bias": dict(zip(validation.class_names, bias.tolist(), strict=True))}
    labels = validation.labels(validation.ids)
    before, after = int(metrics.errors(logits, labels)), int(metrics.errors(logits + bias, labels))
    return {"metrics": {"validation_errors_before": before, "validation_errors": after}, "rows": [row]}
