"""Fits that failed to learn: counted in rows, and said before anything is compared with them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instar.recipes.rows import Row
from instar.runs import RESULT, Run

FAILED = "failed_to_learn"
"""In the result of a job the reason, in a row the number of its replicates; absent where none failed."""

_MOST_NAMED = 3
_CANDIDATES = re.compile(r"/jobs/(.+/)?(tuning|round-\d+)/")  # fits of candidates, which are in `tuning`


def failed_to_learn(fit: Path) -> bool:
    """Whether the job with this run directory fitted a network that failed to learn."""
    return FAILED in Run.read(fit).result()


def about_failures(replicates: Iterable[Path | Iterable[Path]]) -> dict[str, int]:
    """What a row says of failed fits: how many of its replicates have one; nothing where none has.

    Args:
        replicates: the run directory of each, or those of all its networks.
    """
    several = ([one] if isinstance(one, Path) else one for one in replicates)
    return if_any(sum(any(map(failed_to_learn, fits)) for fits in several))


def if_any(count: int) -> dict[str, int]:
    """`failed_to_learn`, where it is not 0."""
    return {FAILED: count} if count else {}


def failed_fits(path: Path) -> list[dict[str, str]]:
    """`fit` and `reason` of each reported fit of a study that failed to learn, teachers first.

    Candidates are in `tuning`.
    """
    jobs = path / "jobs"
    fits = [file.parent for file in jobs.rglob(RESULT) if not _CANDIDATES.search(str(file))]
    found = {fit.relative_to(jobs): Run.read(fit).result() for fit in fits}
    failed = [fit for fit in found if FAILED in found[fit]]
    failed.sort(key=lambda fit: ("teacher" not in str(fit), fit))
    return [{"fit": str(fit), "reason": found[fit][FAILED]} for fit in failed]


def failures_in_words(rows: Sequence[Row], words: Mapping[str, str] | None = None) -> str:
    """Which networks failed to learn, in a sentence; empty where all learned.

    Args:
        rows: of a result.
        words: what the networks of a row are called, by its name.

    Example:
        >>> rows = [{"name": "teacher", "n": 1}, {"name": "distilled", "n": 5, "failed_to_learn": 2}]
        >>> failures_in_words(rows, {"distilled": "distilled students"})
        '2 of 5 distilled students failed to learn: they are no better than guessing on what they learned from.'
    """
    failed = [row for row in rows if row.get(FAILED)]
    if not failed:
        return ""
    named = [_counted(row, (words or {}).get(row["name"], row["name"])) for row in failed[:_MOST_NAMED]]
    if len(failed) > _MOST_NAMED:
        named.append(f"networks of {len(failed) - _MOST_NAMED} more rows")
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    it, is_ = ("it", "is") if len(failed) == failed[0][FAILED] == 1 else ("they", "are")
    sentence = f"{listed} failed to learn: {it} {is_} no better than guessing on what {it} learned from."
    return sentence[0].upper() + sentence[1:]


def _counted(row: Mapping[str, Any], name: str) -> str:
    """`2 of 5 distilled students`, `the teacher`."""
    single = re.sub(r"\bstudents\b", "student", name).removesuffix("s")
    return f"the {single}" if row["n"] == 1 else f"{row[FAILED]} of {row['n']} {name}"
