"""The paper's six findings, each a pure function from a study to a number, its interval, and whether it holds.

The rules were written before the first run of the study: docs/methods/transfer-study.md says them in words, with
reasons. All numbers are accuracy points, paired on the same target half; intervals are 95 % over splits.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from instar.metrics import SeedStatistics
from instar.transfer.statistics import Study, unpaired_difference

Holds = bool | Literal["undecided"]
UNDECIDED: Literal["undecided"] = "undecided"

TOO_SMALL = 0.5  # points: a drop or a boost of less is none, as far as the paper's claims go
ALMOST_FREE = 1.0  # points that early layers may cost
BAD = 10.0  # points that random layers lose where they are bad


class Claim(NamedTuple):
    """One thing that the paper says, in a number."""

    words: str
    rule: str
    paper: float
    """the same number from the paper's networks, where it can be had"""
    over: SeedStatistics
    holds: Holds


def below(over: SeedStatistics, limit: float, *, margin: float = 0.0) -> Holds:
    """True where the interval is below the limit, false where it is above limit - margin, else undecided.

    Example:
        >>> from instar.metrics import over_seeds
        >>> [below(over_seeds(values), 0.0, margin=0.5) for values in ([-2, -3], [-2.4, -2.5], [0.2, 0.3])]
        ['undecided', True, False]
    """
    if over.low is None or over.high is None:
        return UNDECIDED
    if over.high < limit:
        return True
    return False if over.low > limit - margin else UNDECIDED


def above(over: SeedStatistics, limit: float, *, margin: float = 0.0) -> Holds:
    """True where the interval is above the limit, false where it is below limit + margin, else undecided.

    Example:
        >>> from instar.metrics import over_seeds
        >>> above(over_seeds([2.4, 2.5]), 0.0)
        True
    """
    return below(negated(over), -limit, margin=margin)


def negated(over: SeedStatistics) -> SeedStatistics:
    """The statistics of the same values times -1."""
    low, high = (None if end is None else -end for end in (over.high, over.low))
    return SeedStatistics(-over.mean, over.sd, over.n, low, high)


def early(cuts: Sequence[int]) -> list[int]:
    """The first third of the cuts, at least one.

    Example:
        >>> early([1, 2, 3, 4, 5, 6, 7]), early([2, 3])
        ([1, 2], [2])
    """
    return list(cuts[: max(1, len(cuts) // 3)])


def middle(cuts: Sequence[int]) -> list[int]:
    """The middle third of the cuts: those that are neither in the first nor in the last.

    Example:
        >>> middle([1, 2, 3, 4, 5, 6, 7]), middle([2, 3, 4])
        ([3, 4, 5], [3])
    """
    return list(cuts[len(cuts) // 3 : math.ceil(2 * len(cuts) / 3)])


def dips(study: Study) -> Claim:
    """Frozen copies of an own half lose in the middle: fragile co-adaptation."""
    over = study.difference("BnB", "base", middle(study.cuts))
    return Claim(
        "BnB - base, mean over the middle third of the cuts",
        "true if the interval is below 0, false if it is above -0.5, else undecided",
        -1.86,
        over,
        below(over, 0.0, margin=TOO_SMALL),
    )


def recovers(study: Study) -> Claim:
    """Copies that learn on are as good as the base."""
    over = study.difference("BnB+", "base", study.cuts)
    return Claim(
        "BnB+ - base, mean over the cuts",
        "true if the interval is above -0.5, false if it is below -0.5, else undecided",
        0.97,
        over,
        above(over, -TOO_SMALL),
    )


def falls(study: Study) -> Claim:
    """Frozen layers of the other half lose at the deepest cut."""
    over = study.difference("AnB", "base", study.cuts[-1:])
    return Claim(
        "AnB - base at the deepest cut",
        "true if the interval is below 0, false if it is above -0.5, else undecided",
        -8.26,
        over,
        below(over, 0.0, margin=TOO_SMALL),
    )


def early_is_free(study: Study) -> Claim:
    """The first layers of the other half cost almost nothing."""
    over = study.difference("AnB", "base", early(study.cuts))
    return Claim(
        "AnB - base, mean over the first third of the cuts",
        "true if the interval is above -1, false if it is below -1, else undecided",
        0.10,
        over,
        above(over, -ALMOST_FREE),
    )


def boosts(study: Study, other: Literal["base", "BnB+"]) -> Claim:
    """Layers of the other half that learn on end above the base, or above the same start on the own half."""
    over = study.difference("AnB+", other, study.cuts)
    return Claim(
        f"AnB+ - {other}, mean over the cuts",
        "true if the interval is above 0, false if it is below +0.5, else undecided",
        {"base": 1.6, "BnB+": 1.4}[other],
        over,
        above(over, 0.0, margin=TOO_SMALL),
    )


def falls_faster(dissimilar: Study, similar: Study) -> Claim:
    """Halves that are unlike each other lose more than random ones of the same size."""
    drops = [
        [statistics.fmean(study.curve("AnB", split)) for split in study.splits] for study in (dissimilar, similar)
    ]
    over = unpaired_difference(*drops)
    return Claim(
        "AnB - base of dissimilar halves, minus that of random halves of the same size, mean over the cuts",
        "true if the interval is below 0, false if it is above -0.5, else undecided",
        -6.48,
        over,
        below(over, 0.0, margin=TOO_SMALL),
    )


def random_is_worse(study: Study) -> Claim:
    """Random frozen layers are worse than those of the other half."""
    over = study.difference("RnB", "AnB", study.cuts)
    return Claim(
        "RnB - AnB, mean over the cuts",
        "true if the interval is below 0, false if it is above -0.5, else undecided",
        -40.5,
        over,
        below(over, 0.0, margin=TOO_SMALL),
    )


def random_is_bad(study: Study) -> Claim:
    """Random frozen layers are bad from few layers on."""
    place = min(max(1, len(study.cuts) // 3), len(study.cuts) - 1)
    over = study.difference("RnB", "base", [study.cuts[place]])
    return Claim(
        "RnB - base at the first cut after the first third",
        "true if the interval is below -10, false if it is above -10, else undecided",
        -57.5,
        over,
        below(over, -BAD),
    )


def findings_of(
    network: str, study: Study, dissimilar: Study | None = None, similar: Study | None = None
) -> list[dict[str, Any]]:
    """The paper's findings on one network.

    Args:
        network: its name.
        study: on random halves.
        dissimilar: on halves that are unlike each other; without it, that finding is not judged.
        similar: on random halves of their size.

    Returns:
        For each finding `finding` (its place in the paper's order), `name`, `network`, `number`, `low`, `high`,
        `n`, `paper`, `rule`, `holds` (true, false or "undecided"), and its `claims`, of which the numbers are the
        first's. It holds if all of them hold, and does not if one does not.
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
    if any(one is False for one in several):
        return False
    return True if all(one is True for one in several) else UNDECIDED
