"""Specialists: class sets that a generalist confuses, a dustbin class for the rest, one combined prediction."""

from instar.specialists.class_sets import DUSTBIN, ClassSet, membership, random_class_sets
from instar.specialists.clustering import METHODS, confusable_class_sets, covariance_columns, online_kmeans
from instar.specialists.combining import (
    Combined,
    active_specialists,
    combination_objective,
    combine_on_demand,
    combine_specialists,
)
from instar.specialists.dustbin import (
    add_dustbin_correction_,
    oversampling_correction,
    specialist_data,
    specialist_labels,
    start_from_generalist_,
)
from instar.specialists.ensemble import SpecialistEnsemble

__all__ = [
    "DUSTBIN",
    "METHODS",
    "ClassSet",
    "Combined",
    "SpecialistEnsemble",
    "active_specialists",
    "add_dustbin_correction_",
    "combination_objective",
    "combine_on_demand",
    "combine_specialists",
    "confusable_class_sets",
    "covariance_columns",
    "membership",
    "online_kmeans",
    "oversampling_correction",
    "random_class_sets",
    "specialist_data",
    "specialist_labels",
    "start_from_generalist_",
]
