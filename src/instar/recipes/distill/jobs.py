"""The job that mends a student whose transfer set lacked classes: a class bias, found on validation examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instar import metrics
from instar.distillation import add_class_bias_, fit_class_bias
from instar.errors import UsageError
from instar.evaluation import predict_logits
from instar.jobs import Job
from instar.recipes.fitting import about_network, load_run_network, load_splits
from instar.recipes.settings import DataSettings, FitSettings
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


def _correct(run: Run, needs: Mapping[str, Path]) -> dict[str, Any]:
    config = run.config
    network = load_run_network(needs[config["corrects"]])
    validation = load_splits(DataSettings(**config["data"])).validation
    logits, labels = predict_logits(network, validation), validation.labels(validation.ids)
    names = validation.class_names
    bias = fit_class_bias(logits, labels, classes=config["classes"], class_names=names, shared=config["shared"])
    parts = set(network.state_dict())
    add_class_bias_(network, bias, validation.gather(validation.ids[:100], 0))
    if set(network.state_dict()) != parts:
        raise UsageError(f"the last layer of {config['network']} has no bias that the correction could go into")
    run.save_weights(network.state_dict(), {})
    row = {"name": run.path.name, "bias": dict(zip(names, bias.tolist(), strict=True))}
    before, after = int(metrics.errors(logits, labels)), int(metrics.errors(logits + bias, labels))
    return {"metrics": {"validation_errors_before": before, "validation_errors": after}, "rows": [row]}
