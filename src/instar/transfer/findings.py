"""The paper's six findings as rules: each compares a difference and its interval with a limit.

The limits were fixed before the first run; docs/methods/transfer-study.md gives the reasons. All numbers are
accuracy points, paired on the same target half; intervals are 95 % t intervals over splits.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from instar.intervals import SeedStatistics
from instar.transfer.statistics import Study, unpaired_difference

Holds = bool | Literal["undecided"]
UNDECIDED: Literal["undecided"] = "undecided"

TOO_SMALL = 0.5  # points: the paper's own halves differ by as much by chance
ALMOST_FREE = 1.0  # points that early layers may cost
BAD = 10.0  # points that random layers lose where they are bad: a fifth of the accuracy of such a network


class Claim(NamedTuple):
    """One claim of the paper as a number, the rule that judges it, and the verdict."""

    words: str
    rule: str
    paper: float
    """the same number from the paper's own networks"""
    over: SeedStatistics
    holds: Holds


def below(over: SeedStatistics, limit: float, *, margin: float = 0.0) -> Holds:
    """True if the interval is below `limit`, false if it is above `limit - margin`, else undecided.

    Example:
        >>> from instar.intervals import over_seeds
        >>> [below(over_seeds(values), 0.0, margin=0.5) for values in ([-2, -3], [-2.4, -2.5], [0.2, 0.3])]
        ['undecided', True, False]
    """
    if over.low is None or over.high is None:
        return UNDECIDED
    if over.high < limit:
        return True
    return False if over.low > limit - margin else UNDECIDED


def above(over: SeedStatistics, limit: float, *, margin: float = 0.0) -> Holds:
    """True if the interval is above `limit`, false if it is below `limit + margin`, else undecided.

    Example:
        >>> from instar.intervals import over_seeds
        >>> above(over_seeds([2.4, 2.5]), 0.0)
        True
    """
    low, high = (None if end is None else -end for end in (over.high, over.low))
    return below(over._replace(mean=-over.mean, low=low, high=high), -limit, margin=margin)


def _claims_below(words: str, paper: float, over: SeedStatistics, limit: float, margin: float = 0.0) -> Claim:
    rule = f"true if the interval is below {_points(limit)}, false if it is above {_points(limit - margin)}"
    return Claim(words, f"{rule}, else undecided", paper, over, below(over, limit, margin=margin))


def _claims_above(words: str, paper: float, over: SeedStatistics, limit: float, margin: float = 0.0) -> Claim:
    rule = f"true if the interval is above {_points(limit)}, false if it is below {_points(limit + margin)}"
    return Claim(words, f"{rule}, else undecided", paper, over, above(over, limit, margin=margin))


def _points(limit: float) -> str:
    return f"{limit:+g}" if limit else "0"


def early(cuts: Sequence[int]) -> list[int]:
    """The first third of the cuts, at least one.

    Example:
        >>> early([1, 2, 3, 4, 5, 6, 7]), early([2, 3])
        ([1, 2], [2])
    """
    return list(cuts[: max(1, len(cuts) // 3)])


def middle(cuts: Sequence[int]) -> list[int]:
    """The middle third of the cuts: neither in the first third nor in the last.

    Example:
        >>> middle([1, 2, 3, 4, 5, 6, 7]), middle([2, 3, 4])
        ([3, 4, 5], [3])
    """
    return list(cuts[len(cuts) // 3 : math.ceil(2 * len(cuts) / 3)])


def dips(study: Study) -> Claim:
    """Frozen copies of layers of the same half lose accuracy in the middle: fragile co-adaptation."""
    over = study.difference("BnB", "base", middle(study.cuts))
    return _claims_below("BnB - base, mean over the middle third of the cuts", -1.86, over, 0.0, TOO_SMALL)


def recovers(study: Study) -> Claim:
    """Fine-tuned copies of layers of the same half are as good as the base."""
    over = study.difference("BnB+", "base", study.cuts)
    return _claims_above("BnB+ - base, mean over the cuts", 0.97, over, -TOO_SMALL)


def falls(study: Study) -> Claim:
    """Frozen layers of the other half lose accuracy at the deepest cut."""
    over = study.difference("AnB", "base", study.cuts[-1:])
    return _claims_below("AnB - base at the deepest cut", -8.26, over, 0.0, TOO_SMALL)


def early_is_free(study: Study) -> Claim:
    """The first layers of the other half cost almost nothing."""
    over = study.difference("AnB", "base", early(study.cuts))
    return _claims_above("AnB - base, mean over the first third of the cuts", 0.10, over, -ALMOST_FREE)


def boosts(study: Study, other: Literal["base", "BnB+"]) -> Claim:
    """Fine-tuned layers of the other half end above the base, or above fine-tuned layers of the same half."""
    over = study.difference("AnB+", other, study.cuts)
    paper = {"base": 1.6, "BnB+": 1.4}[other]
    return _claims_above(f"AnB+ - {other}, mean over the cuts", paper, over, 0.0, TOO_SMALL)


def falls_faster(dissimilar: Study, similar: Study) -> Claim:
    """Dissimilar halves lose more than random halves of the same size."""
    drops = [
        [statistics.fmean(curve) for curve in study.curves("AnB").values()] for study in (dissimilar, similar)
    ]
    words = "AnB - base of dissimilar halves, minus that of random halves of the same size, mean over the cuts"
    return _claims_below(words, -6.48, unpaired_difference(*drops), 0.0, TOO_SMALL)


def random_is_worse(study: Study) -> Claim:
    """Random frozen layers are worse than frozen layers of the other half."""
    over = study.difference("RnB", "AnB", study.cuts)
    return _claims_below("RnB - AnB, mean over the cuts", -40.5, over, 0.0, TOO_SMALL)


def random_is_bad(study: Study) -> Claim:
    """Random frozen layers are bad from few layers on."""
    place = min(max(1, len(study.cuts) // 3), len(study.cuts) - 1)
    over = study.difference("RnB", "base", [study.cuts[place]])
    return _claims_below("RnB - base at the first cut after the first third", -57.5, over, -BAD)


def findings_of(
    network: str, study: Study, dissimilar: Study | None = None, similar: Study | None = None
) -> list[dict[str, Any]]:
    """Judge the paper's findings on one network.

    Args:
        network: its name.
        study: on random halves.
        dissimilar: on dissimilar halves; without it finding 5 is left out.
        similar: on random halves of the same size as the dissimilar ones.

    Returns:
        For each finding `finding` (its number in the paper's order), `name`, `network`, `number`, `low`, `high`,
        `n`, `paper`, `rule`, `holds` (true, false or "undecided") and its `claims`. The numbers are those of the
        first claim. A finding holds if all its claims hold, and is false if one claim is.
    """
    claims = {
        (1, "BnB dips in the middle"): [dips(study)],
        (2, "BnB+ recovers"): [recovers(study)],
        (3, "AnB falls with n, early layers almost free"): [falls(study), early_is_free(study)],
        (4, "AnB+ above base, and above BnB+"): [boosts(study, "base"), boosts(study, "BnB+")],
        (6, "random features worse, and bad from few layers on"): [random_is_worse(study), random_is_bad(study)],
    }
    if dissimilar is not None and similar is not None:
        claims[5, "dissimilar halves fall faster"] = [falls_faster(dissimilar, similar)]
    return [_finding(number, name, network, several) for (number, name), several in sorted(claims.items())]


def _finding(number: int, name: str, network: str, claims: Sequence[Claim]) -> dict[str, Any]:
    rows = [
        {
            "claim": claim.words,
            "number": claim.over.mean,
            "low": claim.over.low,
            "high": claim.over.high,
            "n": claim.over.n,
            "paper": claim.paper,
            "rule": claim.rule,
            "holds": claim.holds,
        }
        for claim in claims
    ]
    first = {key: value for key, value in rows[0].items() if key != "claim"}
    holds = all_of([claim.holds for claim in claims])
    return {"finding": number, "name": name, "network": network, **first, "holds": holds, "claims": rows}


def all_of(several: Sequence[Holds]) -> Holds:
    """False if one is false, true if all are true, else undecided.

    Example:
        >>> all_of([True, "undecided"]), all_of(["undecided", False])
        ('undecided', False)
    """
    if any(holds is False for holds in several):
        return False
    return True if all(holds is True for holds in several) else UNDECIDED
