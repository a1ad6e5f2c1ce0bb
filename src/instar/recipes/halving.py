"""Rounds of fits from which candidates are chosen: short fits of many, longer ones of the best.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): what is bad after a few epochs is not fitted in
full. Nothing here reads the test data.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from instar.jobs import Job, JobReport
from instar.optimisation import stretched_schedule
from instar.recipes.choosing import CandidateT, Tried, judge, ranked
from instar.recipes.settings import NetworkSettings
from instar.recipes.study import Round, Rounds

FitT = TypeVar("FitT", bound=NetworkSettings)


def successive_halving(
    candidates: Sequence[CandidateT],
    jobs_of: Callable[[int, CandidateT], Sequence[Job]],
    following: Callable[[int, list[CandidateT]], Sequence[CandidateT]],
    path: Path,
    *,
    needs: Sequence[Job] = (),
    num_validation: int | None = None,
) -> Rounds[list[list[Tried[CandidateT]]]]:
    """Fit candidates in rounds; what follows a round is decided by its ranking on validation.

    A candidate with a failed fit is left out of the ranking.

    Args:
        candidates: of the first round.
        jobs_of: the fits of a candidate in a round, counted from 1.
        following: the candidates of the next round, from the number of this one and its ranking, the best first;
            none after the last round.
        path: the run directory of the study.
        needs: jobs that the fits need.
        num_validation: as for `ranking_of`, where the fits are short.

    Returns:
        The candidates of each round, with their scores.

    Raises:
        InstarError: a job that the fits need failed, or all candidates of a round.
    """
    rounds: list[list[Tried[CandidateT]]] = []
    while candidates:
        number = len(rounds) + 1
        fits = {one: list(jobs_of(number, one)) for one in candidates}
        names = {one: [job.name for job in jobs] for one, jobs in fits.items()}
        report = yield Round([*needs, *(job for jobs in fits.values() for job in jobs)], may_fail=True)
        report.of([job.name for job in needs]).raise_if_failed()
        rounds.append(judge(candidates, names.__getitem__, report, path))
        candidates = following(number, ranked(rounds[-1], report, num_validation))
    return rounds


def side_by_side(*several: Rounds[Any]) -> Rounds[list[Any]]:
    """Several series of rounds at the same time; the jobs of a round of ours are those of one round of each.

    Returns:
        What each of them decided, in their order.

    Raises:
        InstarError: a job of a round failed that may not fail.
    """
    found: dict[int, Any] = {}
    open_rounds: dict[int, Round] = {}

    def go_on(number: int, report: JobReport | None) -> None:
        try:
            series = several[number]
            open_rounds[number] = next(series) if report is None else series.send(report)
        except StopIteration as end:
            found[number] = end.value

    for number in range(len(several)):
        go_on(number, None)
    while open_rounds:
        jobs = {job.name: job for current in open_rounds.values() for job in current.jobs}
        report = yield Round(list(jobs.values()), may_fail=True)
        ended, open_rounds = open_rounds, {}
        for number, current in ended.items():
            own = report.of([job.name for job in current.jobs])
            if not current.may_fail:
                own.raise_if_failed()
            go_on(number, own)
    return [found[number] for number in range(len(several))]


def shortened(settings: FitT, epochs: int) -> FitT:
    """The settings of a fit for fewer (or more) epochs: the schedule and the warm-up shrink alike."""
    share = epochs / settings.epochs
    return settings.model_copy(
        update={
            "epochs": epochs,
            "schedule": stretched_schedule(settings.schedule, share),
            "warmup_epochs": share * settings.warmup_epochs,
        }
    )
