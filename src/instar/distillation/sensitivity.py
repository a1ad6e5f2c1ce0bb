"""Whether a setting of distillation matters: validation errors of its values, beside the noise of seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from instar.naming import listed

SETTINGS = {
    "temperature": "temperature",
    "soft_weight": "weight of the soft targets",
    "hard_weight": "weight of the labels",
    "label_weight": "weight of the labels in the soft targets",
    "own_weight": "own weight",
    "learning_rate": "learning rate",
}
"""The settings that candidates may differ in, in words."""

_ENOUGH_SEEDS = 5  # with fewer, finding no difference is weak evidence
_Row = Mapping[str, Any]


class Levels(NamedTuple):
    """The values of one setting, each at its best other settings."""

    rows: Sequence[_Row]
    """one for each value, in their order: the candidate with the fewest validation errors"""
    half_width: float | None
    """half the 95 % interval of each mean; None where there is one tuning seed"""


def levels_of(candidates: Sequence[_Row], key: str) -> Levels:
    """The best candidate at each value of a setting, and the interval of their means.

    t_{k (n - 1)} s / sqrt(n),  s^2 the mean of the k rows' variances, because each row has few seeds. The variance
    of a candidate that is not among the k, for instance because it collapsed, is left out.

    Args:
        candidates: of one student: its settings, `validation_errors`, `sd`, `n`. Those with `failed` or
            `failed_to_learn` are left out.
        key: the setting; candidates without it are left out.

    Example:
        >>> rows = [{"temperature": T, "validation_errors": 9.0 + T, "sd": 1.0, "n": 2} for T in (2.0, 4.0)]
        >>> levels = levels_of(rows, "temperature")
        >>> [row["temperature"] for row in levels.rows], round(levels.half_width, 2)
        ([2.0, 4.0], 3.04)
    """
    known = [row for row in candidates if key in row and not {"failed", "failed_to_learn"} & row.keys()]
    rows = [
        min((row for row in known if row[key] == value), key=lambda row: row["validation_errors"])
        for value in sorted({row[key] for row in known}, key=float)
    ]
    return Levels(rows, _half_width(rows))


def _half_width(rows: Sequence[_Row]) -> float | None:
    from scipy.special import stdtrit

    if not rows or rows[0]["sd"] is None:
        return None
    n = rows[0]["n"]
    variance = sum(row["sd"] ** 2 for row in rows) / len(rows)
    return float(stdtrit(len(rows) * (n - 1), 0.975)) * math.sqrt(variance / n)


def sensitivity(candidates: Sequence[_Row], key: str) -> str:
    """Whether a setting matters, in a sentence; empty where it has one value.

    A value is as good as the best where their intervals overlap. Where the intervals are so wide that twice the
    errors of the best would overlap too, whether it matters cannot be told.

    Args:
        candidates: as for `levels_of`.
        key: one of `SETTINGS`.

    Example:
        >>> rows = [{"temperature": T, "validation_errors": 9.0 * T, "sd": 1.0, "n": 5} for T in (2.0, 4.0)]
        >>> sensitivity(rows, "temperature")
        'The temperature matters: best at 2 (18.0 validation errors ± 1.0); 4 is worse.'
    """
    rows, half = levels_of(candidates, key)
    if len(rows) < 2:
        return ""
    name = SETTINGS[key]
    best = min(rows, key=lambda row: row["validation_errors"])
    errors = [row["validation_errors"] for row in rows]
    at_best = f"{_value(best[key])} ({min(errors):.1f} validation errors"
    if half is None:
        return f"The {name}: best at {at_best}); one tuning seed shows no noise, use --tuning-seeds 3."
    others = [row for row in rows if row is not best]
    as_good = [row for row in others if row["validation_errors"] - min(errors) <= 2 * half]
    worse = [row for row in others if row not in as_good]
    span = f"{min(errors):.1f} to {max(errors):.1f} validation errors from {_value(rows[0][key])} to "
    span += _value(rows[-1][key])
    if not worse and 2 * half > min(errors):
        return (
            f"Whether the {name} matters cannot be told: {span}, each ± {half:.1f} with {best['n']} tuning seeds. "
            "Use more tuning seeds, or more validation examples."
        )
    if not worse:
        return (
            f"The {name} does not matter here within noise: {span}, and every interval (± {half:.1f}, {best['n']} "
            f"tuning seeds) overlaps that of the best, {_value(best[key])}"
            + ("; more tuning seeds would show smaller differences." if best["n"] < _ENOUGH_SEEDS else ".")
        )
    close = f"{_values(as_good, key)} as good within noise, " if as_good else ""
    return f"The {name} matters: best at {at_best} ± {half:.1f}); {close}{_values(worse, key)} worse."


def _values(rows: Sequence[_Row], key: str) -> str:
    return f"{listed([_value(row[key]) for row in rows])} {'are' if len(rows) > 1 else 'is'}"


def _value(value: float | str) -> str:
    return f"{float(value):g}"
