"""What validation said of each candidate: how much temperature and weights matter, beside the noise of seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from instar.recipes.distill.plan import DISTILLED, Choice
from instar.recipes.settings import as_text

TUNED = {
    "temperature": "temperature",
    "soft_weight": "weight of the soft targets",
    "hard_weight": "weight of the labels",
    "label_weight": "weight of the labels in the soft targets",
    "learning_rate": "learning rate",
}
ENOUGH_SEEDS = 5  # with fewer, that nothing matters says little
Row = Mapping[str, Any]


def tuning_rows(tried: Sequence[Choice]) -> list[dict[str, Any]]:
    """A row for each candidate that had rivals: mean and sd of its validation errors over the tuning seeds.

    Of one that failed, why.
    """
    rows: list[dict[str, Any]] = []
    for choice in tried:
        if choice.failed:
            rows.append({"name": choice.kind, **as_text(choice.settings), "failed": choice.failed})
        if (errors := choice.validation_errors) is not None:
            found = {"validation_errors": errors.mean, "sd": errors.sd, "n": errors.n}
            rows.append({"name": choice.kind, **as_text(choice.settings), **found})
    return rows


def best_at_each(rows: Sequence[Row], kind: str, key: str) -> list[Row]:
    """For each value of one setting, the row with the fewest errors of a kind of student."""
    mine = [row for row in rows if row["name"] == kind and key in row and "failed" not in row]
    return [
        min((row for row in mine if row[key] == value), key=lambda row: row["validation_errors"])
        for value in sorted({row[key] for row in mine}, key=float)
    ]


def half_width(compared: Sequence[Row]) -> float | None:
    """Half the 95 % interval of the mean of each row that is compared; None where one seed says nothing.

    t_{k (n - 1)} s / sqrt(n),  s^2 the mean of the k rows' variances, as a few seeds say little alone; that of one
    that is not compared, perhaps for it collapsed, says nothing of these
    """
    from scipy.special import stdtrit

    if not compared or compared[0]["sd"] is None:
        return None
    n = compared[0]["n"]
    variance = sum(row["sd"] ** 2 for row in compared) / len(compared)
    return float(stdtrit(len(compared) * (n - 1), 0.975)) * math.sqrt(variance / n)


def sensitivity(rows: Sequence[Row]) -> list[str]:
    """For each setting of the distilled student that had several values: does it matter on these data?"""
    return [sentence for key in TUNED if (sentence := sensitivity_to(rows, key))]


def sensitivity_to(rows: Sequence[Row], key: str) -> str:
    """Whether one setting matters; nothing where it had one value."""
    compared = best_at_each(rows, DISTILLED, key)
    return _sentence(TUNED[key], key, compared, half_width(compared)) if len(compared) > 1 else ""


def _sentence(name: str, key: str, rows: Sequence[Row], half: float | None) -> str:
    best = min(rows, key=lambda row: row["validation_errors"])
    errors = [row["validation_errors"] for row in rows]
    at_best = f"{_value(best[key])} ({min(errors):.1f} validation errors"
    if half is None:
        return f"The {name}: best at {at_best}); one tuning seed says nothing of noise, take --tuning-seeds 3."
    others = [row for row in rows if row is not best]
    as_good = [row for row in others if row["validation_errors"] - min(errors) <= 2 * half]
    worse = [row for row in others if row not in as_good]
    if not worse:
        return (
            f"The {name} does not matter here within noise: {min(errors):.1f} to {max(errors):.1f} validation "
            f"errors from {_value(rows[0][key])} to {_value(rows[-1][key])}, and every interval (± {half:.1f}, "
            f"{best['n']} tuning seeds) overlaps that of the best, {_value(best[key])}"
            + ("; more would tell more." if best["n"] < ENOUGH_SEEDS else ".")
        )
    close = f"{_values(as_good, key)} as good within noise, " if as_good else ""
    return f"The {name} matters: best at {at_best} ± {half:.1f}); {close}{_values(worse, key)} worse."


def _values(rows: Sequence[Row], key: str) -> str:
    *first, last = [_value(row[key]) for row in rows]
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


def _value(value: float | str) -> str:
    return f"{float(value):g}"
