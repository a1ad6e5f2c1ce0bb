"""Knowledge distillation: Hinton, Vinyals, Dean 2015."""

from instar.distillation.class_bias import add_class_bias_, fit_class_bias
from instar.distillation.hint_layers import last_layers
from instar.distillation.hints import EnsembleHintLoss, Hint, HintLoss
from instar.distillation.member_weights import choose_ensemble_weights
from instar.distillation.out_of_fold import out_of_fold_logits, out_of_fold_targets
from instar.distillation.readings import ReadingError
from instar.distillation.store import SoftTargetStore
from instar.distillation.store_report import StoreReport, TargetError
from instar.distillation.store_targets import StoreTargets
from instar.distillation.students import distill, train
from instar.distillation.teachers import LabelsInTargets, StoredLogits, Teacher, member_logits

__all__ = [
    "EnsembleHintLoss",
    "Hint",
    "HintLoss",
    "LabelsInTargets",
    "ReadingError",
    "SoftTargetStore",
    "StoreReport",
    "StoreTargets",
    "StoredLogits",
    "TargetError",
    "Teacher",
    "add_class_bias_",
    "choose_ensemble_weights",
    "distill",
    "fit_class_bias",
    "last_layers",
    "member_logits",
    "out_of_fold_logits",
    "out_of_fold_targets",
    "train",
]
