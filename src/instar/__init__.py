"""instar: move what one network has learned into another.

The public names; each is imported when it is first used, since torch takes a second.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # type checkers read these lines, and so does `_HOMES`: a public name is written once, here
    from instar.data import Dataset as Dataset
    from instar.data import InMemoryDataset as InMemoryDataset
    from instar.data import Splits as Splits
    from instar.data import half_special as half_special
    from instar.data import load_data as load_data
    from instar.data import parse_views as parse_views
    from instar.data import transfer_set as transfer_set
    from instar.deploy import Model as Model
    from instar.deploy import load as load
    from instar.distillation import Hint as Hint
    from instar.distillation import HintLoss as HintLoss
    from instar.distillation import SoftTargetStore as SoftTargetStore
    from instar.distillation import StoredLogits as StoredLogits
    from instar.distillation import Teacher as Teacher
    from instar.distillation import add_class_bias_ as add_class_bias_
    from instar.distillation import choose_ensemble_weights as choose_ensemble_weights
    from instar.distillation import distill as distill
    from instar.distillation import fit_class_bias as fit_class_bias
    from instar.distillation import out_of_fold_targets as out_of_fold_targets
    from instar.distillation import train as train
    from instar.errors import DataError as DataError
    from instar.errors import InstarError as InstarError
    from instar.errors import RunError as RunError
    from instar.errors import TrainingError as TrainingError
    from instar.errors import UsageError as UsageError
    from instar.evaluation import evaluate as evaluate
    from instar.evaluation import predict_logits as predict_logits
    from instar.fit_options import FitOptions as FitOptions
    from instar.jobs import Job as Job
    from instar.jobs import run_jobs as run_jobs
    from instar.linear_loss import HeadTargets as HeadTargets
    from instar.linear_loss import linear_distillation_loss as linear_distillation_loss
    from instar.logit_values import logits_of_probabilities as logits_of_probabilities
    from instar.losses import DistillationLoss as DistillationLoss
    from instar.losses import LogitTargets as LogitTargets
    from instar.losses import SoftTargets as SoftTargets
    from instar.losses import distillation_loss as distillation_loss
    from instar.losses import ensemble_soft_targets as ensemble_soft_targets
    from instar.losses import logit_matching_loss as logit_matching_loss
    from instar.losses import mix_in_labels as mix_in_labels
    from instar.losses import soft_targets as soft_targets
    from instar.networks import AskedTeacher as AskedTeacher
    from instar.networks import Cut as Cut
    from instar.networks import Layer as Layer
    from instar.networks import assert_frozen as assert_frozen
    from instar.networks import build_network as build_network
    from instar.networks import cut as cut
    from instar.networks import freeze_ as freeze_
    from instar.networks import layers_of as layers_of
    from instar.networks import name_logits_ as name_logits_
    from instar.networks import state_hashes as state_hashes
    from instar.recipes.from_python import advise as advise
    from instar.recipes.from_python import distill_study as distill_study
    from instar.recipes.from_python import reproduce as reproduce
    from instar.recipes.from_python import specialists_study as specialists_study
    from instar.recipes.from_python import speech_study as speech_study
    from instar.recipes.from_python import transfer_study as transfer_study
    from instar.recipes.run_tables import write_report as write_report
    from instar.recipes.shipping.exports import export as export
    from instar.runs import Run as Run
    from instar.sparse_targets import SparseTargets as SparseTargets
    from instar.specialists import ClassSet as ClassSet
    from instar.specialists import SpecialistEnsemble as SpecialistEnsemble
    from instar.specialists import combine_specialists as combine_specialists
    from instar.specialists import confusable_class_sets as confusable_class_sets
    from instar.specialists import specialist_labels as specialist_labels
    from instar.training import FitResult as FitResult
    from instar.training import fit as fit
    from instar.transfer import Treatment as Treatment
    from instar.transfer import apply_treatment_ as apply_treatment_
    from instar.transfer import h_score as h_score
    from instar.transfer import linear_probe as linear_probe
    from instar.transfer import logme as logme
    from instar.transfer import random_halves as random_halves
    from instar.transfer import semantic_halves as semantic_halves

    __version__: str

_SOURCE = Path(__file__).read_text(encoding="utf-8")
_HOMES = {name: module for module, name in re.findall(r"^    from (\S+) import (\S+) as", _SOURCE, re.MULTILINE)}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("instar")
    if name not in _HOMES:
        raise AttributeError(f"module 'instar' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
