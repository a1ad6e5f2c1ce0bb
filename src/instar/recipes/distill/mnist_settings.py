"""The configuration of `instar reproduce mnist`; the scales are in `recipes/scales/`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from instar.errors import UsageError
from instar.recipes.distill.settings import Candidate
from instar.recipes.settings import DataSettings, FitSettings, NetworkSettings, Settings, Temperature

_Count = Annotated[int, Field(ge=1)]
_LABELS_ALONE = ("small-net", "fraction-hard")
_ROWS = (
    *_LABELS_ALONE,
    *("distilled-T20", "distilled-T20-soft-only", "distilled-labels-in-targets", "logit-matching"),
    *("labelled-10-percent", "omit-3", "only-7-8", "fraction-soft"),
)


class BeyondSettings(Settings):
    """The best student that is distilled: from other teachers, with views, from no other data."""

    teacher: FitSettings
    """the large networks with commas, an ensemble"""
    num_views: _Count
    """number of views in the store; the student sees them in turn"""
    student: FitSettings
    """the small network"""
    temperature: Temperature
    """temperature of the soft targets"""


class MnistConfig(Settings):
    """The configuration of `instar reproduce mnist`."""

    scale: str
    """name of the scale"""
    data: DataSettings
    """the data; its validation part is for tuning, the result trains on both parts"""
    held_out: DataSettings
    """the same data with another split, where a bias or an early stop needs examples that were held out"""
    pairs: _Count
    """pairs of teacher and student"""
    smallest_pairs: _Count
    """pairs with the smallest network of the temperature study"""
    ensemble_size: _Count
    """teachers in an ensemble"""
    teacher: FitSettings
    """the large network"""
    student: NetworkSettings
    """the small network"""
    candidates: dict[str, list[Candidate]]
    """candidates by row; of several the best on validation is used"""
    temperatures: list[Temperature]
    """temperatures of the temperature study"""
    temperature_students: list[FitSettings]
    """students of the temperature study, the smallest first"""
    fractions: dict[str, _Count]
    """epochs by percent of the training examples"""
    views: str
    """augmentation of the students that learn from a fraction with views"""
    beyond: BeyondSettings
    """the best student"""

    @model_validator(mode="after")
    def _has_all_candidates(self) -> Self:
        if unknown := [row for row in self.candidates if row not in _ROWS]:
            raise UsageError(f"candidates: there is no row {unknown[0]!r}; the rows are {', '.join(_ROWS)}")
        for row in _ROWS:
            if not self.candidates.get(row):
                raise UsageError(f"candidates.{row} is missing: give one or more")
            if any((one.loss is None) != (row in _LABELS_ALONE) for one in self.candidates[row]):
                expected = "no loss, it learns from labels" if row in _LABELS_ALONE else "a loss, it is distilled"
                raise UsageError(f"candidates.{row}: expected {expected}")
        return self
