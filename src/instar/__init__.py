"""instar: move what one network has learned into another.

The public names; each is imported when it is first used, since torch takes a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.data import Dataset, InMemoryDataset, Splits, half_special, load_data, parse_views, transfer_set
    from instar.distillation import (
        SoftTargetStore,
        StoredLogits,
        Teacher,
        add_class_bias_,
        distill,
        fit_class_bias,
    )
    from instar.distillation import train_network as train
    from instar.errors import DataError, InstarError, RunError, TrainingError, UsageError
    from instar.evaluation import evaluate, predict_logits
    from instar.jobs import Job, run_jobs
    from instar.losses import (
        DistillationLoss,
        LogitTargets,
        SoftTargets,
        distillation_loss,
        ensemble_soft_targets,
        logit_matching_loss,
        mix_in_labels,
        soft_targets,
    )
    from instar.networks import Cut, Layer, assert_frozen, build_network, cut, freeze_, layers_of, state_hashes
    from instar.recipes.from_python import advise, transfer_study
    from instar.recipes.run_tables import write_report
    from instar.runs import Run
    from instar.specialists import (
        ClassSet,
        SpecialistEnsemble,
        combine_specialists,
        confusable_class_sets,
        specialist_labels,
    )
    from instar.training import FitResult, fit
    from instar.transfer import (
        Treatment,
        apply_treatment_,
        h_score,
        linear_probe,
        logme,
        random_halves,
        semantic_halves,
    )

_HOMES = {
    "instar.data": (
        "Dataset",
        "InMemoryDataset",
        "Splits",
        "half_special",
        "load_data",
        "parse_views",
        "transfer_set",
    ),
    "instar.distillation": (
        "SoftTargetStore",
        "StoredLogits",
        "Teacher",
        "add_class_bias_",
        "distill",
        "fit_class_bias",
    ),
    "instar.errors": ("DataError", "InstarError", "RunError", "TrainingError", "UsageError"),
    "instar.evaluation": ("evaluate", "predict_logits"),
    "instar.jobs": ("Job", "run_jobs"),
    "instar.losses": (
        "DistillationLoss",
        "LogitTargets",
        "SoftTargets",
        "distillation_loss",
        "ensemble_soft_targets",
        "logit_matching_loss",
        "mix_in_labels",
        "soft_targets",
    ),
    "instar.networks": (
        "Cut",
        "Layer",
        "assert_frozen",
        "build_network",
        "cut",
        "freeze_",
        "layers_of",
        "state_hashes",
    ),
    "instar.recipes.from_python": ("advise", "transfer_study"),
    "instar.recipes.run_tables": ("write_report",),
    "instar.runs": ("Run",),
    "instar.specialists": (
        "ClassSet",
        "SpecialistEnsemble",
        "combine_specialists",
        "confusable_class_sets",
        "specialist_labels",
    ),
    "instar.training": ("FitResult", "fit"),
    "instar.transfer": (
        "Treatment",
        "apply_treatment_",
        "h_score",
        "linear_probe",
        "logme",
        "random_halves",
        "semantic_halves",
    ),
}
_HOME_OF = {name: (home, name) for home, names in _HOMES.items() for name in names}
_HOME_OF["train"] = ("instar.distillation", "train_network")

__all__ = [
    "ClassSet",
    "Cut",
    "DataError",
    "Dataset",
    "DistillationLoss",
    "FitResult",
    "InMemoryDataset",
    "InstarError",
    "Job",
    "Layer",
    "LogitTargets",
    "Run",
    "RunError",
    "SoftTargetStore",
    "SoftTargets",
    "SpecialistEnsemble",
    "Splits",
    "StoredLogits",
    "Teacher",
    "TrainingError",
    "Treatment",
    "UsageError",
    "add_class_bias_",
    "advise",
    "apply_treatment_",
    "assert_frozen",
    "build_network",
    "combine_specialists",
    "confusable_class_sets",
    "cut",
    "distill",
    "distillation_loss",
    "ensemble_soft_targets",
    "evaluate",
    "fit",
    "fit_class_bias",
    "freeze_",
    "h_score",
    "half_special",
    "layers_of",
    "linear_probe",
    "load_data",
    "logit_matching_loss",
    "logme",
    "mix_in_labels",
    "parse_views",
    "predict_logits",
    "random_halves",
    "run_jobs",
    "semantic_halves",
    "soft_targets",
    "specialist_labels",
    "state_hashes",
    "train",
    "transfer_set",
    "transfer_study",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'instar' has no attribute {name!r}")
    home, attribute = _HOME_OF[name]
    return getattr(import_module(home), attribute)


def __dir__() -> list[str]:
    return __all__
