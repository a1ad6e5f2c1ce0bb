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
    """Several series of rounds at the same time: each goes on as soon as its own jobs have ended.

    Returns:
        What each of them decided, in their order.

    Raises:
        InstarError: a job of a round failed that may not fail.
    """
    found: dict[int, Any] = {}
    current: dict[int, Round] = {}

    def go_on(number: int, report: JobReport | None) -> Sequence[Round]:
        try:
            series = several[number]
            current[number] = next(series) if report is None else series.send(report)
        except StopIteration as end:
            found[number] = end.value
            current.pop(number, None)
            return ()
        return [current[number]] if current[number].jobs else []

    first = [one for number in range(len(several)) for one in go_on(number, None)]
    beside = max(len(current) - 1, 0)
    jobs = {job.name: job for one in first for job in one.jobs}
    arriving = [Round(list(jobs.values()), may_fail=True, early=True)] if jobs else []
    while arriving or current:
        report = yield arriving.pop(0) if arriving else Round((), early=True)
        for number, one in list(current.items()):
            # What came while this report was made is not in it: nothing of that has ended.
            if one.is_due(report):
                new = go_on(number, one.report(report))
                arriving += [Round(few.jobs, may_fail=True, early=True, beside=few.beside + beside) for few in new]
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
