"""What an expert would see at once in a result, in sentences: the part that all experiments share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from instar.distillation.sensitivity import SETTINGS
from instar.recipes.choosing import last_round
from instar.recipes.learning import FAILED
from instar.recipes.rows import Row
from instar.reports import Section, Text

OBSERVATIONS = "observations"
"""The key in the `details` of a result."""

_FEW_POINTS = 0.05  # a validation set that tells error rates apart only by more than this is small


def observations(result: Mapping[str, Any]) -> list[str]:
    """Fits that failed to learn, validation sets too small to choose by, choices at the edge of what was tried."""
    edges: list[str] = []
    noisy: dict[str, _Noise] = {}
    num_validation = result["details"].get("num_validation")
    for name in dict.fromkeys(row["name"] for row in result.get("tuning", ())):
        tried = [row for row in result["tuning"] if row["name"] == name]
        if noise := _noise(last_round(tried), num_validation):
            noisy[name] = noise
        else:
            edges += _edges(name, tried, _chosen(result, name))
    return [*_failures(result), *_too_few(noisy, num_validation), *edges]


def what_to_look_at(result: Mapping[str, Any]) -> list[Section]:
    """The observations in a result, as a section of a page; none where there are none."""
    found = result["details"].get(OBSERVATIONS)
    return [Text(found, title="What to look at")] if found else []


def _failures(result: Mapping[str, Any]) -> Iterator[str]:
    failed = result["details"].get(FAILED)
    if failed:
        first = failed[0]
        others = f"; {len(failed) - 1} more in result.json" if len(failed) > 1 else ""
        yield (
            f"{first['fit']} failed to learn: it is {first['reason']}{others}. Try other learning rates, more "
            "epochs, or warm-up and gradient clipping."
        )


class _Noise(NamedTuple):
    """Candidates that validation cannot tell apart."""

    as_good: str
    """how many are as good as the best, in words"""
    half_width: float
    """of the 95 % interval of their errors"""


def _noise(tried: Sequence[dict[str, Any]], num_validation: int | None) -> _Noise | None:
    """Whether validation cannot tell candidates apart: the 95 % interval of a binomial count of their errors.

    The last round of a search compares the best, which are alike: there it matters only if validation is small.
    """
    errors = [row["validation_errors"] for row in tried if "failed" not in row and FAILED not in row]
    if num_validation is None or len(errors) < 2:
        return None
    lowest = max(min(errors), 1.0)
    half_width = 1.96 * math.sqrt(lowest * (1 - min(lowest / num_validation, 1)))
    as_good = sum(one - min(errors) <= half_width for one in errors)
    is_small = half_width > _FEW_POINTS * num_validation and as_good > 1
    is_search = any(row.get("round", 1) > 1 for row in tried)
    if not is_small and (is_search or as_good < len(errors)):
        return None
    all_of_them = "both" if len(errors) == 2 else f"all {len(errors)}"
    return _Noise(all_of_them if as_good == len(errors) else f"{as_good} of {len(errors)}", half_width)


def _too_few(noisy: Mapping[str, _Noise], num_validation: int | None) -> Iterator[str]:
    """One sentence about all networks whose candidates validation cannot tell apart."""
    if noisy:
        (first, noise), *others = noisy.items()
        more = "".join(f"{one.as_good} of {name} within {one.half_width:.1f}, " for name, one in others)
        yield (
            f"{num_validation:,} validation examples are too few to choose by: {noise.as_good} candidates of "
            f"{first} are within {noise.half_width:.1f} errors of the best, {more}the noise of so few examples. "
            f"{'Which ones were' if more else 'Which one was'} chosen is partly chance."
        )


def _chosen(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of the candidate that was chosen."""
    row: Row = next((row for row in result["rows"] if row["name"] == name), {})
    choices: Mapping[str, Any] = result["details"].get("choices", {}).get(name, {})
    return {**row, **choices}


def _edges(name: str, tried: Sequence[Row], chosen: Mapping[str, Any]) -> Iterator[str]:
    """Settings whose chosen value is the smallest or the largest that was tried, and could go on."""
    if all("failed" in row or FAILED in row for row in tried):
        return
    for key, words in SETTINGS.items():
        values = sorted({float(row[key]) for row in tried if key in row})
        if len(values) < 2 or key not in chosen:
            continue
        value = float(chosen[key])
        is_bound = value in (0.0, math.inf) or (key == "label_weight" and value == 1)
        if value in (values[0], values[-1]) and not is_bound:
            which, other = ("smallest", "smaller") if value == values[0] else ("largest", "larger")
            yield (
                f"The {words} of {name}, {value:g}, is the {which} that was tried ({_listed(values)}): a {other} "
                "one may be better."
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
