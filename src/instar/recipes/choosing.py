"""Choosing on validation, in the same way everywhere.

Each candidate is fitted with the tuning seeds, which are never reported. The one with the fewest validation
errors is chosen; the negative log-likelihood breaks ties. A candidate with a failed fit (a learning rate that
diverges) is skipped and reported; the study ends only where no candidate is left. One with a fit that failed to
learn is chosen only where no other is left.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from instar import intervals
from instar.distillation.sensitivity import SETTINGS
from instar.intervals import SeedStatistics
from instar.jobs import JobReport
from instar.recipes.learning import FAILED, failed_to_learn, if_any
from instar.reports import Column, Table
from instar.reports.records import words_of
from instar.runs import Run

CandidateT = TypeVar("CandidateT")

TUNING_SEED = 10_000
"""Tuning seeds start here; none of them is ever reported."""


class Score(NamedTuple):
    """Validation errors and negative log-likelihood of one network, and its training loss in the last epoch."""

    errors: float
    nll: float
    train_loss: float | None = None


@dataclass(frozen=True)
class Tried(Generic[CandidateT]):
    """A candidate and its validation scores over the tuning seeds, or why it failed."""

    candidate: CandidateT
    errors: SeedStatistics | None = None
    nll: float | None = None
    failed: str = ""
    num_failed_to_learn: int = 0
    """of its fits"""
    train_loss: float | None = None

    def row(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Its row in `tuning`."""
        if self.errors is None:
            return {"name": name, **settings, "failed": self.failed}
        found = {"validation_errors": self.errors.mean, "sd": self.errors.sd, "n": self.errors.n}
        failed = if_any(self.num_failed_to_learn)
        return {"name": name, **settings, **found, "validation_nll": self.nll, **failed}


def fit_score(job: Path) -> Score:
    """The validation score of the network that a fit kept."""
    result = Run.read(job).result()
    kept, epochs = result["metrics"], result["rows"]
    return Score(
        kept["validation_errors"], kept["validation_nll"], epochs[-1].get("train_loss") if epochs else None
    )


def judge(
    candidates: Iterable[CandidateT],
    jobs_of: Callable[[CandidateT], Sequence[str]],
    report: JobReport,
    path: Path,
    *,
    score: Callable[[CandidateT, Path], Score] = lambda _, job: fit_score(job),
) -> list[Tried[CandidateT]]:
    """The validation scores of candidates.

    Args:
        candidates: what is compared.
        jobs_of: the names of a candidate's jobs, one for each tuning seed.
        report: of the round that ran them.
        path: the run directory of the study.
        score: of the network in a job's run directory.
    """
    tried = []
    for candidate in candidates:
        names = jobs_of(candidate)
        if reason := failure(report, names):
            tried.append(Tried(candidate, failed=reason))
            continue
        scores = [score(candidate, path / "jobs" / name) for name in names]
        errors = intervals.over_seeds([one.errors for one in scores])
        lost = sum(failed_to_learn(path / "jobs" / name) for name in names)
        nll = sum(one.nll for one in scores) / len(scores)
        losses = [one.train_loss for one in scores if one.train_loss is not None]
        train_loss = sum(losses) / len(losses) if losses else None
        tried.append(Tried(candidate, errors, nll, num_failed_to_learn=lost, train_loss=train_loss))
    return tried


def failure(report: JobReport, names: Iterable[str]) -> str:
    """Why the first of some jobs failed or was not started; empty where all were done."""
    lost = report.kept_back | report.failed
    return next((lost[name] for name in names if name in lost), "")


def best(tried: Sequence[Tried[CandidateT]], report: JobReport) -> CandidateT:
    """The candidate with the fewest validation errors; a single one needs no score.

    Raises:
        InstarError: all failed.
    """
    return ranked(tried, report)[0]


def ranked(
    tried: Sequence[Tried[CandidateT]], report: JobReport, num_validation: int | None = None
) -> list[CandidateT]:
    """The candidates that did not fail, from best to worst, as in `ranking_of`.

    Raises:
        InstarError: all failed.
    """
    ranking = ranking_of(tried, num_validation)
    if not ranking:
        report.raise_if_failed()
    return ranking


def ranking_of(tried: Sequence[Tried[CandidateT]], num_validation: int | None = None) -> list[CandidateT]:
    """The candidates that did not fail, from best to worst; those that failed to learn are last.

    Args:
        tried: candidates with their scores.
        num_validation: the number of validation examples, after short fits. Errors within a standard error of the
            fewest are then a tie, which the training loss breaks: errors on few examples are noise, the statistics
            of batch normalisation lag behind in evaluation, and nothing is overfitted yet.
    """
    left = sorted((one for one in tried if not one.failed), key=_order)
    if num_validation is not None:
        ties = as_good_as_best(left, num_validation)
        left = sorted(ties, key=_loss) + [one for one in left if one not in ties]
    return [one.candidate for one in left]


def as_good_as_best(tried: Sequence[Tried[CandidateT]], num_validation: int) -> list[Tried[CandidateT]]:
    """The candidates whose errors are within a binomial standard error of the fewest, in their order.

    Those that failed are left out; so are those that failed to learn, where any learned.
    """
    done = [one for one in tried if not one.failed]
    learned = [one for one in done if not one.num_failed_to_learn] or done
    counts = [(one, one.errors.mean) for one in learned if one.errors]
    fewest = min((errors for _, errors in counts), default=0.0)
    noise = math.sqrt(fewest * (1 - fewest / num_validation))
    return [one for one, errors in counts if errors <= fewest + noise]


def tuning_rows(
    name: str,
    rounds: Sequence[Sequence[Tried[CandidateT]]],
    lengths: Sequence[int],
    settings: Callable[[CandidateT], Mapping[str, Any]],
    chosen: CandidateT,
) -> list[dict[str, Any]]:
    """The rows in `tuning` of what was tried in rounds of so many epochs; the last one of `chosen` says so."""
    rows = [
        (one.candidate, one.row(name, {"round": number, "epochs": epochs, **settings(one.candidate)}))
        for number, (epochs, tried) in enumerate(zip(lengths, rounds, strict=True), 1)
        for one in tried
    ]
    last = max(place for place, (candidate, _) in enumerate(rows) if candidate == chosen)
    return [{**row, "chosen": True} if place == last else row for place, (_, row) in enumerate(rows)]


def last_round(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `tuning` by which a candidate was chosen: of each name those of its last round."""
    last: dict[str, int] = {}
    for row in rows:
        last[row["name"]] = max(row.get("round", 1), last.get(row["name"], 1))
    return [row for row in rows if row.get("round", 1) == last[row["name"]]]


_SCORES = ("validation_errors", "validation_nll", FAILED, "failed")
_NO_LABELS = (*_SCORES, "epochs", "chosen", "specialists_used")
"""What a row of `tuning` has that does not say which candidate it is of."""


def tuning_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What was tried, from the `tuning` of a result; settings of which one value was tried are in the caption."""
    formats = {"validation_errors": "{:.4g}", "validation_nll": "{:.3f}", "specialists_used": "{:.2f}"}
    headings = {"validation_errors": "errors", "validation_nll": "NLL"}
    shown = [{key: _in_words(value) for key, value in row.items()} for row in rows]
    found = dict.fromkeys(key for row in rows for key in row if key not in ("sd", "n"))
    values = {key: {row[key] for row in shown if row.get(key) is not None} for key in found}
    fixed = [key for key in SETTINGS if key in values and len(values[key]) == 1 and len(rows) > 1]
    keys = sorted(
        (key for key in found if key not in fixed), key=lambda key: _SCORES.index(key) if key in _SCORES else -1
    )
    columns = [Column(key, headings.get(key, ""), formats.get(key, "{}")) for key in keys]
    labels = [key for key in keys if key == "name" or (key not in _NO_LABELS and len(values[key]) > 1)]
    caption = "The candidate with the fewest validation errors is used."
    if num_rounds := max((row.get("round", 0) for row in rows), default=0):
        caption = (
            "Of those within a standard error of the fewest errors the ones with the lowest training loss "
            "go on, and in the last round that with the lowest learning rate is used."
            if num_rounds > 1
            else "Of those within a standard error of the fewest errors the lowest training loss decides."
        )
    if FAILED in keys:
        caption += " One with a fit that failed to learn is used only where no other is left."
    if fixed:
        caption += f" Not searched: {', '.join(f'{words_of(key)} {float(*values[key]):g}' for key in fixed)}."
    return Table("Chosen on validation", shown, columns=columns, caption=caption, labels=labels)


def _in_words(value: Any) -> Any:
    """A list of numbers as it can stand in a cell."""
    return ", ".join(f"{number:.4g}" for number in value) if isinstance(value, list) else value


def _order(tried: Tried[Any]) -> tuple[bool, float, float]:
    return tried.num_failed_to_learn > 0, (tried.errors.mean if tried.errors else 0.0), (tried.nll or 0.0)


def _loss(tried: Tried[Any]) -> float:
    return (tried.nll or 0.0) if tried.train_loss is None else tried.train_loss
