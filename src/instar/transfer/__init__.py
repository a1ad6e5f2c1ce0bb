"""Feature transfer: treatments, their study and its statistics, and what to keep."""

from instar.transfer.advising import (
    SCRATCH,
    Interval,
    candidates,
    fit_multiplications,
    promising_cuts,
    survivors,
    wilson_interval,
)
from instar.transfer.filters import SMALLEST_SIDE, GaborFit, best_matches, fit_gabor
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
from instar.transfer.statistics import Measured, Study, boost_rows, drop_rows, transition, treatment_rows
from instar.transfer.treatments import (
    KINDS,
    Treatment,
    apply_treatment_,
    calibrate_statistics_,
    check_cut,
    frozen_hashes,
    treatments_of,
)

__all__ = [
    "KINDS",
    "SCRATCH",
    "SMALLEST_SIDE",
    "GaborFit",
    "Halves",
    "Interval",
    "Measured",
    "Probe",
    "Study",
    "Treatment",
    "apply_treatment_",
    "best_matches",
    "boost_rows",
    "calibrate_statistics_",
    "candidates",
    "check_cut",
    "drop_rows",
    "fit_gabor",
    "fit_multiplications",
    "frozen_hashes",
    "h_score",
    "known_parents",
    "linear_probe",
    "listed_halves",
    "logme",
    "parent_halves",
    "promising_cuts",
    "random_halves",
    "read_parents",
    "semantic_halves",
    "survivors",
    "transition",
    "treatment_rows",
    "treatments_of",
    "wilson_interval",
]
