"""Feature transfer: treatments, their study and its statistics, and what to keep."""

from instar.transfer.halves import (
    Halves,
    known_parents,
    listed_halves,
    parent_halves,
    random_halves,
    read_parents,
    semantic_halves,
)
from instar.transfer.statistics import Measured, Study, boost_rows, drop_rows, transition, treatment_rows
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
    "Halves",
    "Measured",
    "Study",
    "Treatment",
    "apply_treatment_",
    "boost_rows",
    "calibrate_statistics_",
    "drop_rows",
    "frozen_hashes",
    "known_parents",
    "listed_halves",
    "parent_halves",
    "random_halves",
    "read_parents",
    "semantic_halves",
    "transition",
    "treatment_rows",
    "treatments_of",
]
