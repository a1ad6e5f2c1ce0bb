"""Feature transfer: treatments and their statistics, the paper's findings, and scores of the features at a cut."""

from instar.transfer.advising import (
    SCRATCH,
    Interval,
    candidates,
    fit_multiplications,
    promising_cuts,
    survivors,
    wilson_interval,
)
from instar.transfer.cuts import check_cut, check_forward, copied_weights, possible_cuts
from instar.transfer.features import (
    MOST_FEATURES,
    PrefixFeatures,
    cacheable_cut,
    features_at,
    pooled,
    prefix_features,
)
from instar.transfer.filters import SMALLEST_SIDE, GaborFit, best_matches, fit_gabor
from instar.transfer.findings import findings_of
from instar.transfer.halves import (
    Halves,
    known_parents,
    listed_halves,
    parent_halves,
    random_halves,
    read_parents,
    semantic_halves,
)
from instar.transfer.scores import Probe, h_score, linear_probe, logme
from instar.transfer.statistics import (
    Measured,
    Study,
    boost_rows,
    drop_rows,
    transition,
    treatment_rows,
    unpaired_difference,
)
from instar.transfer.treatments import (
    KINDS,
    Treatment,
    apply_treatment_,
    calibrate_statistics_,
    frozen_hashes,
    treatments_of,
)

__all__ = [
    "KINDS",
    "MOST_FEATURES",
    "SCRATCH",
    "SMALLEST_SIDE",
    "GaborFit",
    "Halves",
    "Interval",
    "Measured",
    "PrefixFeatures",
    "Probe",
    "Study",
    "Treatment",
    "apply_treatment_",
    "best_matches",
    "boost_rows",
    "cacheable_cut",
    "calibrate_statistics_",
    "candidates",
    "check_cut",
    "check_forward",
    "copied_weights",
    "drop_rows",
    "features_at",
    "findings_of",
    "fit_gabor",
    "fit_multiplications",
    "frozen_hashes",
    "h_score",
    "known_parents",
    "linear_probe",
    "listed_halves",
    "logme",
    "parent_halves",
    "pooled",
    "possible_cuts",
    "prefix_features",
    "promising_cuts",
    "random_halves",
    "read_parents",
    "semantic_halves",
    "survivors",
    "transition",
    "treatment_rows",
    "treatments_of",
    "unpaired_difference",
    "wilson_interval",
]
